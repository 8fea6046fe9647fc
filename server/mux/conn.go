package mux

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"keelson/internal/sched"
	"keelson/internal/socket"
)

// Traffic counts bytes that went over connections. The zero value is ready.
type Traffic struct {
	Received, Sent atomic.Uint64
}

// Counted is l with the traffic of its connections added to t.
func Counted(l net.Listener, t *Traffic) net.Listener { return countedListener{l, t} }

type countedListener struct {
	net.Listener
	traffic *Traffic
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, traffic: l.traffic}, nil
}

// conn is a connection whose first bytes have been looked at. Reading it yields them first. At most one goroutine may
// read at a time, as servers do.
type conn struct {
	net.Conn
	traffic *Traffic // nil: not counted
	limit   *Limit   // that it counts for; nil: none
	closed  sync.Once
	first   [len(preface)]byte
	prompt  func([]byte) (int, error)                          // WriteNow's; nil: not known yet
	late    func(lend func() []byte, back func()) (int, error) // ReadLate's; nil: not known yet
	peek    func() bool                                        // HasInput's; nil: not known yet
	length  int                                                // first[:length] was read
	next    int                                                // first[next:length] is still to be yielded
}

func (c *conn) Read(p []byte) (int, error) {
	var n int
	var err error
	if c.next < c.length {
		n = copy(p, c.first[c.next:c.length])
		c.next += n
	} else {
		n, err = c.Conn.Read(p)
	}
	if c.traffic != nil {
		c.traffic.Received.Add(uint64(n))
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if len(p) >= largeBytes {
		return c.writeLarge(p)
	}
	return c.writeSmall(p)
}

func (c *conn) writeSmall(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.traffic != nil {
		c.traffic.Sent.Add(uint64(n))
	}
	return n, err
}

const (
	// largeBytes is an output that is long to write, or one of many, such as a full record of TLS.
	largeBytes = 16 << 10
	// turnBytes is how much of it is written until others have their turn.
	turnBytes = 64 << 10
)

// writeLarge writes in turns, for one writer at a time. Others go first meanwhile, and after each turn those who write to other
// connections are heard: while nothing else happens, Go's scheduler looks for them each 10 ms only.
func (c *conn) writeLarge(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = c.writeTurn(p[:min(turnBytes, len(p))])
		p, written = p[n:], written+n
		runtime.Gosched()
	}
	return written, err
}

// writeTurn writes all of p, if there is no error.
func (c *conn) writeTurn(p []byte) (int, error) {
	batch := sched.Begin()
	defer batch.End()
	n, err := c.WriteNow(p)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) || n == len(p) {
		return n, err
	}
	batch.End() // the client may let us wait
	rest, err := c.writeSmall(p[n:])
	return n + rest, err
}

// WriteNow writes what the socket takes at once, perhaps nothing. Nobody may write in another way meanwhile.
//
// Errors: errors.ErrUnsupported on connections where that is not possible; then Write is to be used.
func (c *conn) WriteNow(p []byte) (int, error) {
	if c.prompt == nil {
		c.prompt = promptOf(c.Conn)
	}
	n, err := c.prompt(p)
	if c.traffic != nil {
		c.traffic.Sent.Add(uint64(n))
	}
	return n, err
}

func promptOf(c net.Conn) func([]byte) (int, error) {
	if under, ok := c.(*conn); ok {
		return under.WriteNow
	}
	if p := socket.NewPrompt(c); p != nil {
		return p.Write
	}
	return func([]byte) (int, error) { return 0, errors.ErrUnsupported }
}

// ReadLate reads into the memory that lend returns when there is something to read. What was lent in vain goes back before it waits.
//
// Errors: errors.ErrUnsupported on connections where that is not possible; then Read is to be used.
func (c *conn) ReadLate(lend func() []byte, back func()) (int, error) {
	if c.next < c.length {
		return c.Read(lend())
	}
	if c.late == nil {
		c.late = lateOf(c.Conn)
	}
	n, err := c.late(lend, back)
	if c.traffic != nil {
		c.traffic.Received.Add(uint64(n))
	}
	return n, err
}

func lateOf(c net.Conn) func(func() []byte, func()) (int, error) {
	if under, ok := c.(*conn); ok {
		return under.ReadLate
	}
	if r := socket.NewLate(c); r != nil {
		return r.Read
	}
	return func(func() []byte, func()) (int, error) { return 0, errors.ErrUnsupported }
}

// HasInput reports whether a read would not wait: also where that is not known. The goroutine that reads asks.
func (c *conn) HasInput() bool {
	if c.next < c.length {
		return true
	}
	if c.peek == nil {
		c.peek = peekOf(c.Conn)
	}
	return c.peek()
}

func peekOf(c net.Conn) func() bool {
	if under, ok := c.(*conn); ok {
		return under.HasInput
	}
	if p := socket.NewPeek(c); p != nil {
		return p.Any
	}
	return func() bool { return true }
}

// SyscallConn lets the options of the socket be set.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if under, ok := c.Conn.(syscall.Conn); ok {
		return under.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Close closes the connection, and makes room for another.
func (c *conn) Close() error {
	c.closed.Do(c.limit.leave)
	return c.Conn.Close()
}
