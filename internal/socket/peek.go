package socket

import (
	"net"
	"syscall"
)

// Peek tells of a connection whether there is something to read.
type Peek struct {
	raw  syscall.RawConn
	call func(fd uintptr) // kept, so that to look allocates nothing
	any  bool
}

// NewPeek returns nil if conn is no TCP connection, such as one that encrypts, or where it can't be told.
func NewPeek(conn net.Conn) *Peek {
	raw := rawOf(conn)
	if raw == nil || !CanReadNow {
		return nil
	}
	p := &Peek{raw: raw}
	p.call = func(fd uintptr) { p.any = HasInput(fd) }
	return p
}

// Any reports whether a read would not wait: also for the end, or for an error. It belongs to one goroutine at a time.
func (p *Peek) Any() bool {
	p.any = true
	if err := p.raw.Control(p.call); err != nil {
		return true
	}
	return p.any
}
