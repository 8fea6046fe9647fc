package proxy

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("keelson/internal/testkit.init.func1.1"), goleak.Cleanup(func(code int) {
		testkit.RemoveBinary()
		os.Exit(code)
	}))
}

// echo answers each connection with its name and what it says.
func echo(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, name)
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func forward(t *testing.T, f *forwarder) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.logger = zap.NewNop()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// say sends a text, ends its half, and returns all that comes back.
func say(t *testing.T, at, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, text)
	conn.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(answer)
}

func TestForwarder(t *testing.T) {
	back := testkit.FreeAddress(t)
	f := &forwarder{retry: 10 * time.Millisecond, most: 10, remotes: []*remote{{address: echo(t, "a")}, {address: back}, {address: echo(t, "b")}}}
	at := forward(t, f)
	seen := map[string]int{}
	for range 6 {
		seen[say(t, at, "x")]++
	}
	if seen["ax"] == 0 || seen["bx"] == 0 || seen["ax"]+seen["bx"] != 6 {
		t.Errorf("answers %v", seen)
	}
	l, err := net.Listen("tcp", back)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := l.Accept() // it is tried again
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// With nobody to go to, a client is told at once; and what is open ends with the forwarder.
func TestForwarderWithoutRemotes(t *testing.T) {
	f := &forwarder{retry: time.Hour, most: 1, remotes: []*remote{{address: testkit.FreeAddress(t)}}}
	at := forward(t, f)
	for range 3 { // one at a time
		if answer := say(t, at, ""); answer != "" {
			t.Errorf("answered %q", answer)
		}
	}
}

func TestConnectionsEndWithTheForwarder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{retry: time.Hour, most: 2, remotes: []*remote{{address: echo(t, "a")}}, logger: zap.NewNop()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.serve(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}

// fakeDNS knows the records of two services.
type fakeDNS map[string][]*net.SRV

func (d fakeDNS) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	records := d[service+"."+proto+"."+name]
	if len(records) == 0 {
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return "", records, nil
}

func TestDiscovery(t *testing.T) {
	dns := fakeDNS{
		"etcd-client-ssl.tcp.example.com":   {{Target: "a.example.com.", Port: 2379}},
		"etcd-client.tcp.example.com":       {{Target: "b.example.com.", Port: 2379}},
		"etcd-client-ssl-x.tcp.example.com": {{Target: "c.example.com.", Port: 1}},
	}
	for _, c := range []struct {
		d    discovery
		want string
	}{
		{discovery{domain: "example.com"}, "[https://a.example.com:2379]"},
		{discovery{domain: "example.com", insecure: true}, "[https://a.example.com:2379 http://b.example.com:2379]"},
		{discovery{domain: "example.com", suffix: "x"}, "[https://c.example.com:1]"},
		{discovery{domain: "example.org"}, ""},
	} {
		found, err := c.d.endpoints(t.Context(), dns)
		if c.want == "" && err == nil || c.want != "" && (err != nil || "["+join(found)+"]" != c.want) {
			t.Errorf("%+v: %v, %v", c.d, found, err)
		}
	}
}

func join(list []string) string {
	out := ""
	for i, s := range list {
		if i > 0 {
			out += " "
		}
		out += s
	}
	return out
}
