package v3

import (
	"context"
	"errors"
	"io"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// openStreams are the streams under way. They end with their client, with the leader if they insist on one, and all of
// them with the services.
//
// Nothing but the end of its call wakes a handler that is receiving. So each handler has a goroutine of its own, for as
// long as the stream lives, and the call ends without waiting for it; the end of the call then ends the handler.
type openStreams struct {
	leaders *leaderWatch

	mu       sync.Mutex
	open     map[*openStream]struct{}
	closed   bool
	handlers sync.WaitGroup // added to under mu, while not closed
}

func newOpenStreams(leaders *leaderWatch) *openStreams {
	return &openStreams{leaders: leaders, open: map[*openStream]struct{}{}}
}

// openStream is a stream whose Context also ends with what it depends on.
type openStream struct {
	grpc.ServerStream
	ctx context.Context
	end context.CancelCauseFunc
}

// Context implements grpc.ServerStream.
func (s *openStream) Context() context.Context { return s.ctx }

// run calls handler with a stream. The error that ended the stream wins over what the handler made of it.
func (o *openStreams) run(stream grpc.ServerStream, needsLeader bool, handler func(grpc.ServerStream) error) error {
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	s := &openStream{stream, ctx, end}
	if !o.add(s, needsLeader) {
		return rpctypes.ErrGRPCStopped
	}
	done := make(chan error, 1)
	go func() {
		defer o.handlers.Done()
		err := handler(s)
		o.remove(s, needsLeader)
		done <- err
	}()
	select {
	case err := <-done:
		if cause := context.Cause(ctx); err != nil && isEnd(cause) {
			err = cause
		}
		return err
	case <-ctx.Done():
		if cause := context.Cause(ctx); isEnd(cause) {
			return cause
		}
		return <-done
	}
}

// isEnd tells the causes for which a stream is ended from this side.
func isEnd(cause error) bool {
	return errors.Is(cause, rpctypes.ErrGRPCNoLeader) || errors.Is(cause, rpctypes.ErrGRPCStopped) ||
		errors.Is(cause, rpctypes.ErrGRPCCorrupt)
}

// noteBroken counts a stream that an error has ended, unless that is its client's doing or its ordinary end.
func (s *Services) noteBroken(api string, receiving bool, err error) {
	if s.o.Observe.StreamFailed == nil || errors.Is(err, io.EOF) {
		return
	}
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return
	}
	s.o.Observe.StreamFailed(api, receiving)
}

func (o *openStreams) add(s *openStream, needsLeader bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.open[s] = struct{}{}
	o.handlers.Add(1)
	if needsLeader {
		o.leaders.add(s)
	}
	return true
}

func (o *openStreams) remove(s *openStream, needsLeader bool) {
	if needsLeader {
		o.leaders.remove(s)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, s)
}

// shutdown ends all streams and lets no more begin.
func (o *openStreams) shutdown() {
	o.mu.Lock()
	o.closed = true
	for s := range o.open {
		s.end(rpctypes.ErrGRPCStopped)
	}
	o.mu.Unlock()
	o.leaders.close()
}

// endAll ends the streams that are under way.
func (o *openStreams) endAll(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.open {
		s.end(cause)
	}
}

// wait returns when all handlers have ended; shutdown comes before, and the end of the server.
func (o *openStreams) wait() { o.handlers.Wait() }
