package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the parts of a Server.
type Options struct {
	Handler Handler // needed
	// ConnContext makes the context of a connection's requests. Nil: they have the background's.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	// RequestTimeout is how long a request may take from its first byte to its last. 0: 30 seconds.
	RequestTimeout time.Duration
	// WriteTimeout is how long a client may take nothing of an answer. 0: 30 seconds.
	WriteTimeout time.Duration
	// IdleBeat is after how long a connection without a request is let rest, once or twice. 0: 2 seconds.
	IdleBeat time.Duration
	// ErrorLog is told of handlers that panic. Nil: the standard logger.
	ErrorLog *log.Logger
}

const (
	timeoutDefault  = 30 * time.Second
	idleBeatDefault = 2 * time.Second
	drainEvery      = 5 * time.Millisecond // a look at what is left, when the server stops

	// When the process has no file descriptor left, Serve tries again after pauses between these.
	retryMin = 5 * time.Millisecond
	retryMax = time.Second
)

// Server serves connections. Its methods may be called from any goroutine.
type Server struct {
	o       Options
	date    date
	handed  *handed
	resting *resting
	beat    atomic.Int64 // counts IdleBeats; never 0

	stopping atomic.Bool
	stopped  chan struct{} // closed with stopping
	beating  sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// New makes a server. Close or Shutdown ends what it begins.
func New(o Options) *Server {
	for _, d := range []*time.Duration{&o.RequestTimeout, &o.WriteTimeout} {
		if *d == 0 {
			*d = timeoutDefault
		}
	}
	if o.IdleBeat == 0 {
		o.IdleBeat = idleBeatDefault
	}
	s := &Server{
		o: o, handed: newHanded(), resting: newResting(), stopped: make(chan struct{}),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	s.beat.Store(1)
	s.beating.Go(s.beats)
	return s
}

// ErrStopped is the error of serving with a server that was stopped.
var ErrStopped = errors.New("http1: the server has been stopped")

// Serve serves the connections of l until the listener fails or the server is stopped, which closes it. Connections that
// have agreed on HTTP/2 are handed over as they are.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopping.Load() {
		s.mu.Unlock()
		l.Close()
		return ErrStopped
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	pause := retryMin
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = retryMin
			s.take(nc)
			continue
		}
		if s.isStopping() {
			return ErrStopped
		}
		if temporary, ok := err.(interface{ Temporary() bool }); !ok || !temporary.Temporary() {
			return fmt.Errorf("http1: accept: %w", err)
		}
		time.Sleep(pause)
		pause = min(2*pause, retryMax)
	}
}

// take begins to serve a connection.
func (s *Server) take(nc net.Conn) {
	if secure, ok := nc.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol == "h2" {
		go s.handed.put(nc)
		return
	}
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	go c.run()
}

// forget takes note that a connection is not served any more.
func (s *Server) forget(c *conn) {
	s.resting.forget(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) isStopping() bool { return s.stopping.Load() }

// rest lets a connection wait for input, or for its answer, without anything that it does not need for that.
func (c *conn) rest() {
	if c.s.isStopping() && !c.polls() {
		c.close()
		return
	}
	c.idle.Store(atRest)
	if !c.s.resting.add(c) {
		go c.woken() // whose stack is a small one
	}
}

func (c *conn) polls() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.poll != nil
}

// beats lets connections rest that have been idle for long.
func (s *Server) beats() {
	ticker := time.NewTicker(s.o.IdleBeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.stopped:
			return
		}
		now := s.beat.Add(1)
		s.each(func(c *conn) {
			if since := c.idle.Load(); since > 0 && since < now-1 && s.resting.takes(c) {
				c.disturb()
			}
		})
	}
}

// disturb ends a wait for input. A connection that has begun to do something else meanwhile takes no notice.
func (c *conn) disturb() { c.net.SetReadDeadline(time.Unix(1, 0)) }

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// Shutdown accepts nothing more, closes connections as soon as they have no request under way, and returns when all are
// closed or ctx has ended, with its error. Polls have to be finished by those who have them. Connections that are handed
// over are not touched.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	ticker := time.NewTicker(drainEvery)
	defer ticker.Stop()
	for {
		if s.drain() {
			s.end()
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop begins to stop.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Swap(true) {
		return
	}
	close(s.stopped)
	for l := range s.listeners {
		l.Close()
	}
}

// Shed closes a connection that has no request under way, one that rests if there is any, and reports whether there was one.
func (s *Server) Shed() bool {
	var found *conn
	s.mu.Lock()
	for c := range s.conns {
		idle := c.idle.Load()
		if idle == 0 || c.polls() {
			continue
		}
		if found = c; idle == atRest {
			break
		}
	}
	s.mu.Unlock()
	if found != nil {
		found.close()
	}
	return found != nil
}

// drain ends connections that do nothing, and reports whether any is left.
func (s *Server) drain() (none bool) {
	var rest []*conn
	s.each(func(c *conn) {
		rest = append(rest, c)
	})
	for _, c := range rest {
		switch idle := c.idle.Load(); {
		case idle == 0 || c.polls():
		case idle == atRest:
			c.close()
		default:
			c.disturb()
		}
	}
	return len(rest) == 0
}

// Close ends everything at once.
func (s *Server) Close() {
	s.stop()
	var all []*conn
	s.each(func(c *conn) { all = append(all, c) })
	for _, c := range all {
		c.close()
	}
	s.end()
}

// end ends what serves all connections, when none is left.
func (s *Server) end() {
	s.handed.Close()
	s.beating.Wait()
	s.resting.close()
}

func (s *Server) logf(format string, args ...any) {
	if s.o.ErrorLog != nil {
		s.o.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}
