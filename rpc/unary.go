package rpc

import (
	"context"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// runUnary carries out a call whose whole request is there. It reports false if the answer comes later.
func (s *stream) runUnary() (ended bool) {
	m := s.request.method
	reply, err := m.unary.Handler(m.srv, (*callContext)(s), s.decodeUnary, s.conn.server.unary)
	if d, ok := reply.(*Deferred); ok && err == nil {
		d.returned()
		return false
	}
	s.answer(reply, err, true)
	return true
}

// answer ends a unary call with its outcome. prompt says that nobody waits for the goroutine, so that it may write.
func (s *stream) answer(reply any, err error, prompt bool) {
	var o outgoing
	if err == nil {
		o, err = s.encode(reply)
	}
	if err != nil {
		s.finish(statusOf(err))
		return
	}
	s.respond(&o, prompt)
}

// respond sends the reply of a unary call and ends it, in one piece.
func (s *stream) respond(o *outgoing, prompt bool) {
	c := s.conn
	c.mu.Lock()
	if s.ending || !c.appendHeader(s) {
		c.unlockAndWake()
		o.free()
	} else {
		c.appendMessage(s, o)
		c.finishLocked(s, nil)
		if prompt && len(c.streams) == 0 { // otherwise others may be about to answer, too
			c.unlockAndWrite()
		} else {
			c.unlockAndWake()
		}
	}
	s.cancellation.cancel(context.Canceled)
}

// decodeUnary decodes the only message of a request.
func (s *stream) decodeUnary(into any) error {
	c := s.conn
	c.mu.Lock()
	m, ok := s.pop()
	more := s.in.head < len(s.in.queue)
	err := s.in.err
	gone := s.ending
	c.unlockAndWake()
	switch {
	case ok && err == io.EOF && !more:
		return s.decode(m, into)
	case ok:
		m.body.free()
		if err == io.EOF {
			return status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC")
		}
	case gone:
		return s.goneError()
	case err == io.EOF:
		return status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")
	}
	return err
}

// goneError is what a handler gets whose stream has ended.
func (s *stream) goneError() error {
	err := (*callContext)(s).Err()
	if err == nil { // which is about to be said
		err = context.Canceled
		s.conn.mu.Lock()
		if s.overdue {
			err = context.DeadlineExceeded
		}
		s.conn.mu.Unlock()
	}
	return status.FromContextError(err).Err()
}
