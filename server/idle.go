package server

import (
	"net"
	"net/http"
	"sync"
)

// idle knows the connections of HTTP servers that have no request under way. When there are too many connections, they are
// the first to go: their clients can come again, and expect to have to.
type idle struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// note is told of every change of a connection.
func (i *idle) note(c net.Conn, s http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s != http.StateIdle {
		delete(i.conns, c)
		return
	}
	if i.conns == nil {
		i.conns = map[net.Conn]struct{}{}
	}
	i.conns[c] = struct{}{}
}

// shed closes one of them, any, and reports whether there was one.
func (i *idle) shed() bool {
	i.mu.Lock()
	var found net.Conn
	for c := range i.conns {
		found = c
		delete(i.conns, c)
		break
	}
	i.mu.Unlock()
	if found == nil {
		return false
	}
	found.Close()
	return true
}
