package certs

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"

	"go.uber.org/zap"
)

// openConns are the accepted connections of a plane that has a list of what is revoked, so that they can be ended when
// their certificates are. It is as long as there are connections, which their listeners bound.
type openConns struct {
	mu   sync.Mutex
	list map[*watched]*tls.Conn
}

// watched is the connection under an encrypted one: closing it is noticed.
type watched struct {
	net.Conn
	open *openConns
}

// under wraps an accepted connection, which is watched from add until it is closed. A plane without a list watches none.
func (p *Plane) under(raw net.Conn) net.Conn {
	if p.revoked == nil {
		return raw
	}
	return &watched{raw, &p.open}
}

func (o *openConns) add(conn *tls.Conn) {
	w, ok := conn.NetConn().(*watched)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.list == nil {
		o.list = map[*watched]*tls.Conn{}
	}
	o.list[w] = conn
}

// Close implements net.Conn.
func (w *watched) Close() error {
	w.open.mu.Lock()
	delete(w.open.list, w)
	w.open.mu.Unlock()
	return w.Conn.Close()
}

// SyscallConn lets the options of the socket be set.
func (w *watched) SyscallConn() (syscall.RawConn, error) {
	if under, ok := w.Conn.(syscall.Conn); ok {
		return under.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// EndRevoked ends the open connections whose certificates have been revoked since they were accepted. It is to be called
// now and then. While the list can't be read, new connections are refused and open ones left.
func (p *Plane) EndRevoked() {
	if p.revoked == nil {
		return
	}
	list, err := p.revoked.get()
	if err != nil {
		p.o.Logger.Warn("failed to read the list of revoked certificates", zap.String("crl-file", p.o.CRLFile), zap.Error(err))
		return
	}
	var ended []*watched
	p.open.mu.Lock()
	for w, conn := range p.open.list {
		if err := list.check(conn.ConnectionState().PeerCertificates); err != nil {
			p.o.Logger.Warn("ended a connection on "+p.o.Endpoint+" endpoint", zap.String("remote-addr", w.RemoteAddr().String()), zap.Error(err))
			ended = append(ended, w)
		}
	}
	p.open.mu.Unlock()
	for _, w := range ended {
		w.Close()
	}
}
