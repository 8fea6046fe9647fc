package rpc

import (
	"errors"
	"fmt"
	"log"
	"net"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Server is a gRPC server. Services are registered first; from then on all methods may be called from any goroutine.
type Server struct {
	o       Options
	methods methods
	unary   grpc.UnaryServerInterceptor  // nil: none
	stream  grpc.StreamServerInterceptor // nil: none
	keeper  Keeper                       // the codec; nil: it is none
	workers *workers
	stays   stays

	handlers sync.WaitGroup // that run

	mu        sync.Mutex
	changed   *sync.Cond // a connection has ended
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	serving   bool // nothing is registered any more
	stopping  bool
}

// New makes a server.
func New(o Options) *Server {
	o = o.withDefaults()
	s := &Server{
		o: o, methods: newMethods(), unary: chainUnary(o.Unary), stream: chainStream(o.Stream),
		workers: newWorkers(o.Workers), listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	s.keeper, _ = o.Codec.(Keeper)
	s.stays.init()
	s.changed = sync.NewCond(&s.mu)
	return s
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// RegisterService implements grpc.ServiceRegistrar. It panics if srv is not what d describes, if the service is there
// already, or if the server serves.
func (s *Server) RegisterService(d *grpc.ServiceDesc, srv any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		panic(fmt.Sprintf("rpc: %s is registered while the server serves", d.ServiceName))
	}
	if srv != nil {
		if want := reflect.TypeOf(d.HandlerType).Elem(); !reflect.TypeOf(srv).Implements(want) {
			panic(fmt.Sprintf("rpc: %T is not the %v of %s", srv, want, d.ServiceName))
		}
	}
	s.methods.add(d, srv, &s.o)
}

// GetServiceInfo lists services and methods by the services' names.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := map[string]grpc.ServiceInfo{}
	for name, v := range s.methods.services {
		list[name] = grpc.ServiceInfo{Methods: v.methods, Metadata: v.metadata}
	}
	return list
}

// ErrStopped is the error of serving with a server that was stopped.
var ErrStopped = errors.New("rpc: the server has been stopped")

// When the process has no file descriptor left, Serve tries again after pauses between these.
const (
	retryMin = 5 * time.Millisecond
	retryMax = time.Second
)

// Serve serves the connections of l, which it closes in the end. It returns nil when the server is stopped, or the
// listener's error.
func (s *Server) Serve(l net.Listener) error { return s.accept(l, s.ServeConn) }

// ServeCalls is Serve for an address where nobody asks over HTTP: what is no call is refused, whether there is a Fallback or not.
func (s *Server) ServeCalls(l net.Listener) error { return s.accept(l, s.serveCalls) }

// accept has serve serve each connection of l.
func (s *Server) accept(l net.Listener, serve func(net.Conn)) error {
	if !s.addListener(l) {
		l.Close()
		return ErrStopped
	}
	defer s.removeListener(l)
	pause := retryMin
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = retryMin
			go serve(nc)
			continue
		}
		if s.isStopping() {
			return nil
		}
		if temporary, ok := err.(interface{ Temporary() bool }); !ok || !temporary.Temporary() {
			return fmt.Errorf("rpc: accept: %w", err)
		}
		time.Sleep(pause)
		pause = min(2*pause, retryMax)
	}
}

// ServeConn serves one connection, from its first byte on, until it has ended, and closes it. A connection that has a
// method HandshakeContext, as *tls.Conn, is shaken hands with first.
func (s *Server) ServeConn(nc net.Conn) { s.serve(newConn(s, nc)) }

// serveCalls is ServeConn for a connection on which what is no call is refused.
func (s *Server) serveCalls(nc net.Conn) {
	c := newConn(s, nc)
	c.callsOnly = true
	s.serve(c)
}

func (s *Server) serve(c *conn) {
	if !s.addConn(c) {
		c.net.Close()
		return
	}
	c.serve()
}

// forget is called when a connection has ended.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.changed.Broadcast()
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = true
	if s.stopping {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) addConn(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = true
	if s.stopping {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// ready is called when a connection has shaken hands. It reports false if the server stops, and needs it no more.
func (s *Server) ready(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ready = !s.stopping
	return c.ready
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *Server) logf(format string, args ...any) {
	if s.o.ErrorLog != nil {
		s.o.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// GracefulStop lets nobody new in, tells all clients to go away, and returns when their calls have ended. Stop, called
// meanwhile, cuts it short.
func (s *Server) GracefulStop() { s.stop(true) }

// Stop closes all connections and cancels all calls. It does not wait for their handlers.
func (s *Server) Stop() { s.stop(false) }

func (s *Server) stop(gracefully bool) {
	s.mu.Lock()
	s.stopping = true
	for l := range s.listeners {
		l.Close()
	}
	var ready []*conn
	for c := range s.conns {
		if gracefully && c.ready {
			ready = append(ready, c)
		} else {
			c.net.Close()
		}
	}
	s.mu.Unlock()
	for _, c := range ready {
		c.drain()
	}
	s.mu.Lock()
	for len(s.conns) > 0 {
		s.changed.Wait()
	}
	s.mu.Unlock()
	if gracefully {
		s.handlers.Wait()
	}
	s.stays.close()
	s.workers.close()
}
