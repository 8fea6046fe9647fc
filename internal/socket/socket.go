package socket

import (
	"net"
	"syscall"
)

// Prompt writes to a TCP connection what it takes at once. One goroutine uses it at a time, and none writes to the connection
// meanwhile in another way.
type Prompt struct {
	raw  syscall.RawConn
	call func(fd uintptr) bool // kept, so that a write allocates nothing

	b   []byte
	n   int
	err error
}

// NewPrompt returns nil if conn is no TCP connection, such as one that encrypts.
func NewPrompt(conn net.Conn) *Prompt {
	raw := rawOf(conn)
	if raw == nil {
		return nil
	}
	p := &Prompt{raw: raw}
	p.call = func(fd uintptr) bool {
		p.n, p.err = WriteNow(fd, p.b)
		return true
	}
	return p
}

// Write writes some of b, perhaps nothing, and never waits. An error says that the connection is broken, or its deadline over.
func (p *Prompt) Write(b []byte) (n int, err error) {
	p.b, p.n, p.err = b, 0, nil
	err = p.raw.Write(p.call)
	p.b = nil
	if err == nil {
		err = p.err
	}
	return p.n, err
}

// rawOf gives access to the socket of a TCP connection; nil: it is none.
func rawOf(conn net.Conn) syscall.RawConn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
