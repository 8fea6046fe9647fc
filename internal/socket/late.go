package socket

import (
	"net"
	"syscall"
)

// Late reads from a TCP connection into memory that it asks for when there is something to read, so that connections at rest
// need none. One goroutine uses it at a time.
type Late struct {
	raw  syscall.RawConn
	call func(fd uintptr) bool // kept, so that a read allocates nothing

	lend func() []byte
	back func()
	n    int
	err  error
}

// NewLate returns nil if conn is no TCP connection, such as one that encrypts, or where it is not known how not to wait.
func NewLate(conn net.Conn) *Late {
	raw := rawOf(conn)
	if raw == nil || !CanReadNow {
		return nil
	}
	l := &Late{raw: raw}
	l.call = l.try
	return l
}

// try is called with the socket, and again when there is something to read if it returns false.
func (l *Late) try(fd uintptr) bool {
	var ready bool
	if l.n, ready, l.err = ReadNow(fd, l.lend()); !ready {
		l.back()
	}
	return ready
}

// Read waits until there is something to read, and reads it into what lend returns. back is called for what was lent in vain. io.EOF
// is the end, as of every reader; other errors say that the connection is broken, closed, or its deadline over.
func (l *Late) Read(lend func() []byte, back func()) (n int, err error) {
	l.lend, l.back, l.n, l.err = lend, back, 0, nil
	if err := l.raw.Read(l.call); err != nil {
		return 0, err
	}
	return l.n, l.err
}
