package mux

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// A connection knows whether a read would wait, whatever it is wrapped in, and says that it would not where it can't know.
func TestHasInput(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := Counted(l, new(Traffic)).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	c := &conn{Conn: near, length: 2}
	if !c.HasInput() {
		t.Error("what was looked at is forgotten")
	}
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if c.HasInput() {
		t.Error("something is there before anything is sent")
	}
	if _, err := far.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !c.HasInput(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what has come is not seen")
		}
	}
	if !(&conn{Conn: tls.Server(near, nil)}).HasInput() {
		t.Error("what TLS holds is taken to be known")
	}
}
