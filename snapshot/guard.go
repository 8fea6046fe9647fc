package snapshot

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"keelson/env"
)

// guard is a stream that is closed when its context ends or nothing happens for too long: nothing that waits for the
// stream outlives that.
type guard struct {
	conn  io.ReadWriteCloser
	stall time.Duration
	moved atomic.Uint64 // counts what happens

	ended chan struct{} // closed by end
	task  sync.WaitGroup
	cause error // why the task has closed the stream; read after the task
}

func newGuard(ctx context.Context, conn io.ReadWriteCloser, clock env.Clock, stall time.Duration) *guard {
	if stall == 0 {
		stall = stallDefault
	}
	g := &guard{conn: conn, stall: stall, ended: make(chan struct{})}
	g.task.Go(func() { g.watch(ctx, clock.NewTimer(stall)) })
	return g
}

func (g *guard) watch(ctx context.Context, timer env.Timer) {
	defer timer.Stop()
	for seen := g.moved.Load(); ; {
		select {
		case <-g.ended:
			return
		case <-ctx.Done():
			g.cause = ctx.Err()
		case <-timer.C():
			if now := g.moved.Load(); now != seen {
				seen = now
				timer.Reset(g.stall)
				continue
			}
			g.cause = fmt.Errorf("%w: nothing for %v", ErrStalled, g.stall)
		}
		g.conn.Close() // the error that counts is the cause
		return
	}
}

// touch says that something has happened.
func (g *guard) touch() { g.moved.Add(1) }

func (g *guard) Read(b []byte) (int, error) {
	n, err := g.conn.Read(b)
	if n > 0 {
		g.touch()
	}
	return n, err
}

func (g *guard) Write(b []byte) (int, error) {
	n, err := g.conn.Write(b)
	if n > 0 {
		g.touch()
	}
	return n, err
}

// end ends the watch. It returns what the transfer has ended with: err, or what made the watch close the stream. A
// stream that is of no use any more is closed.
func (g *guard) end(err error) error {
	close(g.ended)
	g.task.Wait()
	if err == nil {
		return nil // also if the context has ended just now: everything is done
	}
	if g.cause != nil {
		return g.cause
	}
	g.conn.Close() // the error that counts is err
	return err
}
