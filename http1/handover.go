package http1

import (
	"crypto/tls"
	"net"
	"sync"
)

// Handed is the listener of the connections that are net/http's. What they have sent from the request on that was not
// simple is read from them again.
func (s *Server) Handed() net.Listener { return s.handed }

// handed holds no connection: whoever hands one over waits until it is taken.
type handed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHanded() *handed {
	return &handed{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// put hands a connection over, or closes it if nobody takes any more.
func (h *handed) put(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener. There may be many listeners in front, so there is none.
func (h *handed) Addr() net.Addr { return nowhere{} }

type nowhere struct{}

func (nowhere) Network() string { return "http1" }
func (nowhere) String() string  { return "handed over" }

// replayed is a connection that yields what was read from it already. At most one goroutine may read at a time.
type replayed struct {
	net.Conn
	rest []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) == 0 {
		r.rest = nil
	}
	return n, nil
}

// replayedSecure tells net/http about its TLS.
type replayedSecure struct{ replayed }

// ConnectionState is what net/http asks of a connection that is not a *tls.Conn itself.
func (r *replayedSecure) ConnectionState() tls.ConnectionState {
	return r.Conn.(*tls.Conn).ConnectionState()
}

func replay(c net.Conn, rest []byte) net.Conn {
	r := replayed{Conn: c, rest: rest}
	if _, ok := c.(*tls.Conn); ok {
		return &replayedSecure{r}
	}
	return &r
}
