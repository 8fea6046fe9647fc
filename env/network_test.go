package env

import (
	"net"
	"testing"
)

func TestSharedPort(t *testing.T) {
	first, err := NewNetwork(NetworkOptions{ReusePort: true, ReuseAddress: true}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := NewNetwork(NetworkOptions{ReusePort: true}).Listen(t.Context(), "tcp", first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if l, err := SystemNetwork().Listen(t.Context(), "tcp", first.Addr().String()); err == nil {
		l.Close()
		t.Error("the port is shared without being asked for")
	}
}

func TestLocalAddress(t *testing.T) {
	l, err := SystemNetwork().Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := NewNetwork(NetworkOptions{LocalIP: net.IPv4(127, 0, 0, 7)}).Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.7" {
		t.Errorf("dialed from %s", got)
	}
}
