package rpc

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// runStream carries out a streaming call.
func (s *stream) runStream() {
	m := s.request.method
	var err error
	if around := s.conn.server.stream; around != nil {
		err = around(m.srv, (*serverStream)(s), m.info, m.stream.Handler)
	} else {
		err = m.stream.Handler(m.srv, (*serverStream)(s))
	}
	s.finish(statusOf(err))
}

// errHeaderSent is grpc-go's answer to headers that come too late.
var errHeaderSent = status.Error(codes.Internal, "transport: SendHeader called multiple times")

func (s *stream) setHeader(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	if err := validMetadata(md); err != nil {
		return err
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.out.headerSent || s.ending {
		return errHeaderSent
	}
	s.out.header = metadata.Join(s.out.header, md)
	return nil
}

func (s *stream) sendHeader(md metadata.MD) error {
	if err := validMetadata(md); err != nil {
		return err
	}
	c := s.conn
	c.mu.Lock()
	switch {
	case s.out.headerSent:
		c.mu.Unlock()
		return errHeaderSent
	case s.ending:
		c.mu.Unlock()
		return s.goneError()
	}
	if md.Len() > 0 {
		s.out.header = metadata.Join(s.out.header, md)
	}
	ok := c.appendHeader(s)
	c.unlockAndWake()
	return s.headerTaken(ok)
}

// headerTaken ends a call whose header the client does not take.
func (s *stream) headerTaken(ok bool) error {
	if ok {
		return nil
	}
	s.cancellation.cancel(context.Canceled)
	return status.Error(codes.Internal, "transport: trying to send header list size larger than the limit set by peer")
}

func (s *stream) setTrailer(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	if err := validMetadata(md); err != nil {
		return err
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.ending {
		return errHeaderSent
	}
	s.out.trailer = metadata.Join(s.out.trailer, md)
	return nil
}

// transportStream is what grpc.SetHeader and its like find in a call's context.
type transportStream stream

var _ grpc.ServerTransportStream = (*transportStream)(nil)

// Method implements grpc.ServerTransportStream.
func (t *transportStream) Method() string { return t.request.path }

// SetHeader implements grpc.ServerTransportStream.
func (t *transportStream) SetHeader(md metadata.MD) error { return (*stream)(t).setHeader(md) }

// SendHeader implements grpc.ServerTransportStream.
func (t *transportStream) SendHeader(md metadata.MD) error { return (*stream)(t).sendHeader(md) }

// SetTrailer implements grpc.ServerTransportStream.
func (t *transportStream) SetTrailer(md metadata.MD) error { return (*stream)(t).setTrailer(md) }

// serverStream is the handler's side of a streaming call.
type serverStream stream

var _ grpc.ServerStream = (*serverStream)(nil)

// Context implements grpc.ServerStream.
func (t *serverStream) Context() context.Context { return (*callContext)(t) }

// SetHeader implements grpc.ServerStream.
func (t *serverStream) SetHeader(md metadata.MD) error { return (*stream)(t).setHeader(md) }

// SendHeader implements grpc.ServerStream.
func (t *serverStream) SendHeader(md metadata.MD) error { return (*stream)(t).sendHeader(md) }

// SetTrailer implements grpc.ServerStream.
func (t *serverStream) SetTrailer(md metadata.MD) { (*stream)(t).setTrailer(md) }

// SendMsg implements grpc.ServerStream. An error ends the call.
func (t *serverStream) SendMsg(m any) error {
	s, c := (*stream)(t), t.conn
	if err := s.waitForRoom(); err != nil {
		return err
	}
	c.mu.Unlock() // there will still be room: nobody else sends
	o, err := s.encode(m)
	if err != nil {
		s.finish(statusOf(err))
		return err
	}
	c.mu.Lock()
	if s.ending {
		c.mu.Unlock()
		o.free()
		return s.goneError()
	}
	ok := c.appendHeader(s)
	if ok {
		c.appendMessage(s, &o)
	} else {
		o.free()
	}
	c.unlockAndWake()
	return s.headerTaken(ok)
}

// waitForRoom waits until the stream takes another message, and leaves the connection locked unless it returns an error.
func (s *stream) waitForRoom() error {
	c := s.conn
	for {
		c.mu.Lock()
		switch {
		case s.ending:
			c.mu.Unlock()
			return s.goneError()
		case s.out.queue.bytes < sendQueueMax:
			return nil
		case s.out.room == nil:
			s.out.room = make(chan struct{}, 1)
		}
		room := s.out.room
		c.mu.Unlock()
		<-room
	}
}

// RecvMsg implements grpc.ServerStream. An error other than io.EOF ends the call.
func (t *serverStream) RecvMsg(into any) error {
	s := (*stream)(t)
	err := s.recv(into)
	if err != nil && err != io.EOF {
		s.finish(statusOf(err))
	}
	return err
}

func (s *stream) recv(into any) error {
	m, err := s.nextMessage()
	single := !s.request.method.stream.ClientStreams
	switch {
	case err == io.EOF && single && !s.in.single:
		return status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")
	case err != nil:
		return err
	}
	if err := s.decode(m, into); err != nil || !single {
		return err
	}
	s.in.single = true
	switch m, err := s.nextMessage(); err {
	case io.EOF:
		return nil
	case nil:
		m.body.free()
		return status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC")
	default:
		return err
	}
}

// nextMessage waits for the next message. io.EOF: there are no more.
func (s *stream) nextMessage() (message, error) {
	c := s.conn
	for {
		c.mu.Lock()
		m, ok := s.pop()
		err, gone := s.in.err, s.ending
		if s.in.arrived == nil {
			s.in.arrived = make(chan struct{}, 1)
		}
		arrived := s.in.arrived
		c.unlockAndWake()
		switch {
		case ok:
			return m, nil
		case gone:
			return message{}, s.goneError()
		case err != nil:
			return message{}, err
		}
		<-arrived
	}
}
