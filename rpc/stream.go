package rpc

import (
	"context"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stream is one request and its response: a gRPC call, or an HTTP request.
//
//	           END_STREAM of the client: recvClosed
//	open ────► handler runs ────► ending queued ────► ending in the output ──► gone
//	  └──────────────── reset by either side, deadline, end of the connection ──┘
//
// What is not said to be otherwise is guarded by conn.mu. The same object is the call's context (callContext), what
// package grpc asks of a transport (transportStream) and the handler's grpc.ServerStream (serverStream); it is not
// reused, because others may keep a context.
type stream struct {
	id       uint32
	conn     *conn
	request  *request
	deadline time.Time // zero: none

	cancellation cancellation // has a lock of its own
	deferrable   *Deferred    // nil: the handler gives the answer itself; set before it runs
	deferred     Deferred     // room for it

	recvClosed bool // nothing more comes from the client
	ending     bool // the response has an end, nothing is added to it any more
	gone       bool // not among conn.streams any more
	started    bool // the handler
	handled    bool // the handler has returned
	orphan     bool // gone by the client's doing, before the handler has returned
	overdue    bool // gone because its time was up

	in  inbound
	out outbound
}

// outbound is the response of a stream.
type outbound struct {
	headerSent      bool
	header, trailer metadata.MD

	window int64 // what the client lets us send; may be negative
	queue  pieces
	listed bool           // among conn.sending
	status *status.Status // with ending, for gRPC; nil: OK
	room   chan struct{}  // capacity 1; nil: nobody waits for room in the queue
}

// sendQueueMax is how much may be queued on a stream before a handler that sends more has to wait.
const sendQueueMax = 64 << 10

// run carries out the handler. It is called on a worker, or on the goroutine that reads.
func (s *stream) run() {
	switch {
	case !s.request.isGRPC:
		s.serveHTTP()
	case s.request.method.unary != nil:
		if !s.runUnary() {
			return // it ends when it is answered
		}
	default:
		s.runStream()
	}
	s.ended()
}

// ended is called when the handler has ended, in every respect.
func (s *stream) ended() {
	s.conn.handlerEnded(s)
	s.conn.server.handlers.Done()
}

// endLocked ends the stream without an orderly response. The lock must be held; cancel the context after.
func (s *stream) endLocked() {
	s.ending = true
	s.conn.forget(s)
	s.out.queue.free()
	s.in.free()
	s.wakeSender()
	s.wakeReceiver()
}

// abort resets the stream, and ends its context with err: context.Canceled or context.DeadlineExceeded.
func (s *stream) abort(code http2.ErrCode, err error) {
	c := s.conn
	c.mu.Lock()
	if s.gone {
		c.mu.Unlock()
		return
	}
	s.overdue = err == context.DeadlineExceeded // those who are woken look before the context has ended
	c.resetLocked(s.id, code)
	s.endLocked()
	c.unlockAndWake()
	s.cancellation.cancel(err)
}

func (s *stream) wakeSender() {
	if s.out.room != nil {
		select {
		case s.out.room <- struct{}{}:
		default:
		}
	}
}

func (s *stream) wakeReceiver() {
	if s.in.arrived != nil {
		select {
		case s.in.arrived <- struct{}{}:
		default:
		}
	}
}
