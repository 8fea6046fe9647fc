package v3

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"keelson/env"
)

// leaderlessLooksMax is how often in a row no leader is seen before streams that insist on one are ended.
const leaderlessLooksMax = 3

// leaderWatch ends the streams that insist on a leader when there has been none for a while, or when the services
// close. While there are such streams, one goroutine looks for the leader once in a period.
type leaderWatch struct {
	clock  env.Clock
	period time.Duration
	leader func() bool // whether one is known

	mu      sync.Mutex
	streams map[*leaderStream]struct{}
	stop    chan struct{} // ends the goroutine; nil: it does not run
	done    chan struct{} // closed when the goroutine has ended
	closed  bool
}

func newLeaderWatch(clock env.Clock, period time.Duration, leader func() bool) *leaderWatch {
	return &leaderWatch{clock: clock, period: period, leader: leader, streams: map[*leaderStream]struct{}{}}
}

// leaderStream is a stream whose Context and RecvMsg end when the leader is lost.
type leaderStream struct {
	grpc.ServerStream
	ctx context.Context
	end context.CancelCauseFunc
}

// Context implements grpc.ServerStream.
func (s *leaderStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. It receives on a goroutine of its own, which lives on until the stream ends
// if the leader is lost first.
func (s *leaderStream) RecvMsg(m any) error {
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// run calls handler with a stream that ends with the leader. The error that ended it wins over what the handler made
// of it.
func (w *leaderWatch) run(stream grpc.ServerStream, handler func(grpc.ServerStream) error) error {
	ctx, end := context.WithCancelCause(stream.Context())
	s := &leaderStream{stream, ctx, end}
	if !w.add(s) {
		return rpctypes.ErrGRPCStopped
	}
	err := handler(s)
	w.remove(s)
	if cause := context.Cause(ctx); err != nil && isEnd(cause) {
		err = cause
	}
	end(nil)
	return err
}

func isEnd(cause error) bool {
	return errors.Is(cause, rpctypes.ErrGRPCNoLeader) || errors.Is(cause, rpctypes.ErrGRPCStopped)
}

func (w *leaderWatch) add(s *leaderStream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.streams[s] = struct{}{}
	if w.stop == nil {
		w.stop, w.done = make(chan struct{}), make(chan struct{})
		go w.look(w.stop, w.done)
	}
	return true
}

func (w *leaderWatch) remove(s *leaderStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.streams, s)
	if len(w.streams) == 0 && w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
}

func (w *leaderWatch) look(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	t := w.clock.NewTicker(w.period)
	defer t.Stop()
	leaderless := 0
	for {
		select {
		case <-stop:
			return
		case <-t.C():
		}
		if w.leader() {
			leaderless = 0
			continue
		}
		if leaderless++; leaderless >= leaderlessLooksMax {
			w.endAll(rpctypes.ErrGRPCNoLeader)
			leaderless = 0
		}
	}
}

func (w *leaderWatch) endAll(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.streams {
		s.end(cause)
	}
}

// close ends all streams and the goroutine, and waits for the latter.
func (w *leaderWatch) close() {
	w.mu.Lock()
	w.closed = true
	for s := range w.streams {
		s.end(rpctypes.ErrGRPCStopped)
	}
	if w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
	done := w.done
	w.mu.Unlock()
	if done != nil {
		<-done
	}
}
