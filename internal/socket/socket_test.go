package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
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
	if NewPrompt(a) != nil || NewLate(a) != nil || NewPeek(a) != nil {
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

// A read takes memory when there is something to read, and has given back what it was lent in vain.
func TestLateRead(t *testing.T) {
	a, b := pair(t)
	l := NewLate(a)
	buf, lent := make([]byte, 16), 0
	waits := make(chan struct{}, 1)
	lend := func() []byte { lent++; return buf }
	back := func() {
		lent--
		select {
		case waits <- struct{}{}:
		default:
		}
	}
	read := func() string {
		n, err := l.Read(lend, back)
		if err != nil || lent != 1 {
			t.Fatalf("%v, %d lent", err, lent)
		}
		lent = 0
		return string(buf[:n])
	}
	go func() {
		<-waits
		b.Write([]byte("late"))
	}()
	if got := read(); got != "late" {
		t.Error(got)
	}
	if _, err := b.Write([]byte("there already, and more")); err != nil {
		t.Fatal(err)
	}
	got := ""
	for len(got) < len("there already, and more") {
		got += read()
	}
	if got != "there already, and more" {
		t.Error(got)
	}
	b.Close()
	if n, err := l.Read(lend, back); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := l.Read(lend, back); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("out of time: %v", err)
	}
	a.Close()
	if _, err := l.Read(lend, back); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestPeek(t *testing.T) {
	a, b := pair(t)
	p := NewPeek(a)
	if p.Any() {
		t.Error("something is there before anything is sent")
	}
	appears := func() bool {
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if p.Any() {
				return true
			}
		}
		return false
	}
	b.Write([]byte("ab"))
	if !appears() || !p.Any() {
		t.Fatal("what is there is not seen")
	}
	if n := testing.AllocsPerRun(100, func() { p.Any() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(a, got); err != nil || string(got) != "ab" {
		t.Errorf("%q, %v: a look takes nothing away", got, err)
	}
	if p.Any() {
		t.Error("something is there when all is read")
	}
	b.Close()
	if !appears() {
		t.Error("the end is not seen")
	}
	a.Close()
	if !p.Any() {
		t.Error("a read of a closed connection would not wait")
	}
}
