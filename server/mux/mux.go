package mux

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options are the limits of a Mux.
type Options struct {
	// DecideTimeout is the time a connection has to show what it speaks. 0: 10 seconds.
	DecideTimeout time.Duration
	// UndecidedMax bounds the connections that have not shown it yet. 0: 1024.
	UndecidedMax int
	// Traffic counts the bytes of gRPC connections, and of all that speak HTTP/2 over TLS. Nil: nobody counts.
	Traffic *Traffic
	// Limit bounds the connections, handed over or not, until they are closed. Nil: nobody counts.
	Limit *Limit
	// Shed closes a connection that nothing depends on, so that another one fits under Limit, and reports whether it has
	// found one. Nil: there are none.
	Shed func() bool
	// Secure makes the TLS handshake of a connection that begins with one; ctx ends with DecideTimeout. It does not close
	// the connection. Nil: TLS is not spoken.
	Secure func(ctx context.Context, raw net.Conn) (*tls.Conn, error)
	// SecureOnly takes every connection for one with TLS.
	SecureOnly bool
	// Whole does not tell connections without TLS apart: they all come out of HTTP.
	Whole bool
}

const (
	decideTimeoutDefault = 10 * time.Second
	undecidedMaxDefault  = 1024

	// When the process has no file descriptor left, Serve tries again after pauses between these.
	retryMin = 5 * time.Millisecond
	retryMax = time.Second
)

// Mux splits the connections of one listener. See the package comment.
type Mux struct {
	from   net.Listener
	o      Options
	grpc   *queue
	http   *queue
	secure *queue

	mu      sync.Mutex
	waiting *list.List // of *pending, oldest first: those that nobody has claimed
	closed  bool       // nothing is added to waiting any more
	closing chan struct{}
	sorting sync.WaitGroup // goroutines that look at connections
}

// pending is a connection that is not handed over yet. Whoever claims it, once, decides what becomes of it: the server
// that accepts it, or whoever closes it.
type pending struct {
	conn *conn
	at   *list.Element // its place in waiting; nil: claimed. Guarded by Mux.mu
}

// claim reports whether the caller is the first to claim p.
func (m *Mux) claim(p *pending) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claimLocked(p)
}

func (m *Mux) claimLocked(p *pending) bool {
	if p.at == nil {
		return false
	}
	m.waiting.Remove(p.at)
	p.at = nil
	return true
}

// dropLocked closes p, unless somebody else has claimed it.
func (m *Mux) dropLocked(p *pending) {
	if m.claimLocked(p) {
		p.conn.Close()
	}
}

// New makes a mux in front of l, which it closes with itself.
func New(l net.Listener, o Options) *Mux {
	if o.DecideTimeout <= 0 {
		o.DecideTimeout = decideTimeoutDefault
	}
	if o.UndecidedMax <= 0 {
		o.UndecidedMax = undecidedMaxDefault
	}
	return &Mux{
		from: l, o: o, grpc: newQueue(l.Addr()), http: newQueue(l.Addr()), secure: newQueue(l.Addr()),
		waiting: list.New(), closing: make(chan struct{}),
	}
}

// GRPC is the listener of connections in clear text that speak HTTP/2.
func (m *Mux) GRPC() net.Listener { return m.grpc }

// HTTP is the listener of all others in clear text.
func (m *Mux) HTTP() net.Listener { return m.http }

// Secure is the listener of connections whose TLS handshake is done. They are of type *tls.Conn.
func (m *Mux) Secure() net.Listener { return m.secure }

// Serve accepts connections until the listener fails or is closed, and returns its error; net.ErrClosed after Close.
// Connections that are undecided then go on.
func (m *Mux) Serve() error {
	pause := retryMin
	for {
		conn, err := m.from.Accept()
		switch {
		case err == nil:
			pause = retryMin
			m.take(conn)
			continue
		case errors.Is(err, net.ErrClosed), !isTemporary(err):
			return fmt.Errorf("mux: %w", err)
		}
		select {
		case <-m.closing:
			return fmt.Errorf("mux: %w", net.ErrClosed)
		case <-time.After(pause):
			pause = min(2*pause, retryMax)
		}
	}
}

// isTemporary reports whether accepting may work again later: a connection that was gone before it was accepted, or no
// file descriptor left.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// Close closes the listener, the three listeners behind it and all undecided connections, and waits until nothing of the
// mux runs but Serve, which then returns. Connections handed over are not touched.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	close(m.closing)
	for m.waiting.Len() > 0 {
		m.dropLocked(m.waiting.Front().Value.(*pending))
	}
	m.mu.Unlock()
	err := m.from.Close()
	m.grpc.Close()
	m.http.Close()
	m.secure.Close()
	m.sorting.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("mux: close: %w", err)
	}
	return nil
}

// take begins to watch a new connection, and closes the oldest undecided one if there are too many.
func (m *Mux) take(raw net.Conn) {
	if !m.enter() {
		raw.Close()
		return
	}
	c := &conn{Conn: raw, limit: m.o.Limit}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		c.Close()
		return
	}
	if m.waiting.Len() >= m.o.UndecidedMax {
		m.dropLocked(m.waiting.Front().Value.(*pending))
	}
	p := &pending{conn: c}
	p.at = m.waiting.PushBack(p)
	m.sorting.Go(func() { m.sort(p) })
}

// enter reports whether there may be one connection more, for which another one may have to go.
func (m *Mux) enter() bool {
	if m.o.Limit.tryEnter() {
		return true
	}
	return m.o.Shed != nil && m.o.Shed() && m.o.Limit.tryEnter() || m.o.Limit.refuse()
}

// sort hands one connection over when it has said enough, or closes it.
func (m *Mux) sort(p *pending) {
	ctx, cancel := context.WithTimeout(context.Background(), m.o.DecideTimeout)
	defer cancel()
	conn, to, err := m.decide(ctx, p.conn)
	handed := false
	if err == nil {
		handed = to.put(offer{conn, func() bool { return m.claim(p) }})
	}
	if handed {
		return
	}
	if m.claim(p) {
		p.conn.Close()
	}
	if conn != nil {
		conn.Close() // so that whoever made the handshake hears of it
	}
}

// decide finds out where a connection belongs, and makes its handshake if it begins with one.
func (m *Mux) decide(ctx context.Context, c *conn) (net.Conn, *queue, error) {
	speaks, err := m.listenTo(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	to := m.http
	var conn net.Conn = c
	switch speaks {
	case secure:
		encrypted, err := m.o.Secure(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		if encrypted.ConnectionState().NegotiatedProtocol == "h2" {
			c.traffic = m.o.Traffic
		}
		conn, to = encrypted, m.secure
	case http2:
		c.traffic = m.o.Traffic
		to = m.grpc
	}
	return conn, to, c.SetReadDeadline(time.Time{})
}

// listenTo reads just enough of a connection to know what it speaks.
func (m *Mux) listenTo(ctx context.Context, c *conn) (protocol, error) {
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return undecided, err
	}
	for {
		if speaks := m.o.decide(c.first[:c.length]); speaks != undecided {
			return speaks, nil
		}
		n, err := c.Conn.Read(c.first[c.length:])
		c.length += n
		if err != nil {
			if speaks := m.o.decide(c.first[:c.length]); speaks != undecided {
				return speaks, nil // what it said may want an answer
			}
			return undecided, err
		}
	}
}
