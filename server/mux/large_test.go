package mux

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// counted is both ends of a connection; what the first one writes is counted.
func counted(t *testing.T) (a, b net.Conn, traffic *Traffic) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	traffic = new(Traffic)
	if a, err = Counted(l, traffic).Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b, traffic
}

// unprompted is a connection of which it is not known how not to wait, such as one that encrypts.
type unprompted struct{ net.Conn }

// A large output comes through whole and in order, to a client that takes it and to one that lets us wait, whatever the connection can.
func TestLargeOutput(t *testing.T) {
	for name, over := range map[string]func(net.Conn) net.Conn{
		"directly":        func(c net.Conn) net.Conn { return c },
		"over one of us":  func(c net.Conn) net.Conn { return &conn{Conn: c} },
		"over another":    func(c net.Conn) net.Conn { return &conn{Conn: unprompted{c}} },
		"over two others": func(c net.Conn) net.Conn { return &conn{Conn: &conn{Conn: unprompted{c}}} },
	} {
		t.Run(name, func(t *testing.T) {
			a, b, traffic := counted(t)
			w := over(a)
			output := make([]byte, 24<<20+largeBytes+1)
			for i := range output {
				output[i] = byte(i >> 16 * 7)
			}
			output = append(output, "the end"...)
			received := make(chan [sha256.Size]byte, 1)
			go func() {
				time.Sleep(10 * time.Millisecond) // until the socket is full
				sum := sha256.New()
				io.Copy(sum, b)
				received <- [sha256.Size]byte(sum.Sum(nil))
			}()
			for rest := output; len(rest) > 0; { // sizes on both sides of what is large
				n := min(len(rest), max(largeBytes-1, len(rest)/2))
				if written, err := w.Write(rest[:n]); written != n || err != nil {
					t.Fatalf("%d of %d written: %v", written, n, err)
				}
				rest = rest[n:]
			}
			a.Close()
			if got := <-received; got != sha256.Sum256(output) {
				t.Error("the client has received something else")
			}
			if n := traffic.Sent.Load(); n != uint64(len(output)) {
				t.Errorf("%d bytes are counted, %d were sent", n, len(output))
			}
		})
	}
}

// A client that takes no more ends a large output with an error, which says how much it was told.
func TestLargeOutputNotTaken(t *testing.T) {
	output := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	t.Run("in time", func(t *testing.T) {
		a, _, traffic := counted(t)
		a.SetWriteDeadline(time.Now().Add(2 * time.Second))
		n, err := a.Write(output)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(output) || traffic.Sent.Load() != uint64(n) {
			t.Errorf("%d written, %d counted: %v", n, traffic.Sent.Load(), err)
		}
	})
	t.Run("ever", func(t *testing.T) {
		a, b, traffic := counted(t)
		go func() {
			io.CopyN(io.Discard, b, 100<<10)
			b.Close()
		}()
		n, err := a.Write(output)
		if err == nil || n == len(output) || traffic.Sent.Load() != uint64(n) {
			t.Errorf("%d written, %d counted: %v", n, traffic.Sent.Load(), err)
		}
	})
}
