package socket

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// pair is the two ends of a connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// A write takes what the socket takes and leaves the rest, without waiting; nothing is lost or doubled.
func TestWrite(t *testing.T) {
	a, b := pair(t)
	p := NewPrompt(a)
	if n, err := p.Write([]byte("small")); n != 5 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	sent := []byte("small")
	piece := bytes.Repeat([]byte("0123456789"), 10_000)
	for {
		n, err := p.Write(piece)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, piece[:n]...)
		if n < len(piece) {
			break // full, and nobody reads
		}
	}
	if n, err := p.Write(piece); n != 0 || err != nil {
		t.Errorf("into a full socket: %d, %v", n, err)
	}
	read := make([]byte, len(sent))
	if _, err := io.ReadFull(b, read); err != nil || !bytes.Equal(read, sent) {
		t.Errorf("%d bytes arrived otherwise, %v", len(read), err)
	}
	a.Close()
	if _, err := p.Write(piece); err == nil {
		t.Error("no error on a closed connection")
	}
}

// A deadline that is over is an error, as for other writes.
func TestDeadline(t *testing.T) {
	a, _ := pair(t)
	a.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := NewPrompt(a).Write([]byte("late")); err == nil {
		t.Error("no error")
	}
}

func TestOthersHaveNone(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NewPrompt(a) != nil {
		t.Error("a pipe is no socket")
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	a, b := pair(t)
	go io.Copy(io.Discard, b)
	p, small := NewPrompt(a), []byte("small")
	if n := testing.AllocsPerRun(100, func() { p.Write(small) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
