package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// servesBulk has a member answer with what it read, after the other side has sent as many bytes as the first line says.
func (m *member) servesBulk(f func(ctx context.Context, from uint64, conn io.ReadWriter)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bulk = f
}

// TestBulk sends many bytes and gets them back, while messages pass.
func TestBulk(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	join(t, a, b)
	data := bytes.Repeat([]byte("bulk and more of it "), 200_000)
	b.servesBulk(func(ctx context.Context, from uint64, conn io.ReadWriter) {
		got := make([]byte, len(data))
		if _, err := io.ReadFull(conn, got); err != nil || from != 1 {
			t.Errorf("from %d: %v", from, err)
		}
		conn.Write(got)
	})
	conn, err := a.transport.OpenBulk(context.Background(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write(data)
	a.send(a.append(b, 1, 100), a.beat(b, 1))
	b.waitNumber(a, raftpb.MsgApp, 1)
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
	if s := a.stats(2); s.SentBytes < uint64(len(data)) || s.ReceivedBytes < uint64(len(data)) {
		t.Errorf("%+v", s)
	}
}

// TestBulkEnds ends bulk streams in every way there is.
func TestBulkEnds(t *testing.T) {
	endless := func(served chan<- string) func(ctx context.Context, from uint64, conn io.ReadWriter) {
		return func(ctx context.Context, from uint64, conn io.ReadWriter) {
			_, err := io.Copy(io.Discard, conn)
			switch {
			case ctx.Err() != nil:
				served <- context.Cause(ctx).Error()
			case err != nil:
				served <- err.Error()
			default:
				served <- "end"
			}
		}
	}
	setup := func(t *testing.T, change ...func(*Options)) (a, b *member, served chan string) {
		served = make(chan string, 10)
		a, b = newMember(t, 1, change...), newMember(t, 2, change...)
		a.knows(b)
		b.servesBulk(endless(served))
		return a, b, served
	}
	open := func(t *testing.T, ctx context.Context, a *member) io.ReadWriteCloser {
		conn, err := a.transport.OpenBulk(ctx, 2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	broken := func(t *testing.T, conn io.Reader) {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
	}
	t.Run("closed by the one who opened it", func(t *testing.T) {
		a, _, served := setup(t)
		conn := open(t, context.Background(), a)
		conn.Write([]byte("x"))
		conn.Close()
		if got := <-served; got != "end" {
			t.Error(got)
		}
	})
	t.Run("context", func(t *testing.T) {
		a, _, served := setup(t)
		ctx, cancel := context.WithCancel(context.Background())
		conn := open(t, ctx, a)
		cancel()
		broken(t, conn)
		if got := <-served; got != "end" {
			t.Error(got)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		a, _, served := setup(t)
		first := open(t, context.Background(), a)
		open(t, context.Background(), a)
		if got := <-served; got != errReplaced.Error() {
			t.Error(got)
		}
		broken(t, first)
	})
	t.Run("stop here", func(t *testing.T) {
		a, _, served := setup(t)
		conn := open(t, context.Background(), a)
		a.transport.Stop()
		broken(t, conn)
		<-served
	})
	t.Run("stop there", func(t *testing.T) {
		a, b, served := setup(t)
		conn := open(t, context.Background(), a)
		b.transport.Stop()
		broken(t, conn)
		if got := <-served; !strings.Contains(got, "cancel") && got != ErrStopped.Error() {
			t.Error(got)
		}
	})
	t.Run("silence", func(t *testing.T) {
		a, _, served := setup(t, func(o *Options) { o.BulkTimeout = 50 * time.Millisecond })
		conn := open(t, context.Background(), a)
		if got := <-served; got != errSilent.Error() {
			t.Error(got)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A member that knows where another one is, and nothing else of it, is sent what it asks for.
func TestFetch(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	join(t, a, b)
	b.servesBulk(func(_ context.Context, from uint64, conn io.ReadWriter) {
		io.WriteString(conn, strings.Repeat("state", int(from)))
	})
	asking := New(Options{ClusterID: a.transport.o.ClusterID, MemberID: 1, Handler: a})
	defer asking.Stop()
	conn, err := asking.OpenFetch(context.Background(), Peer{ID: 2, URLs: a.transport.peersNow()[2].urls})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "state" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = asking.OpenFetch(context.Background(), Peer{ID: 3, URLs: a.transport.peersNow()[2].urls})
	if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Reason != reasonOtherMember {
		t.Errorf("from another member than asked: %v", err)
	}
}
