package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"go.uber.org/zap"
)

// Acceptor makes the handshakes of accepted connections.
type Acceptor struct {
	plane  *Plane
	config *tls.Config
}

// Acceptor returns an acceptor whose connections may speak protocols (names of ALPN), the preferred first.
//
// Errors: the plane has no certificate to show.
func (p *Plane) Acceptor(protocols ...string) (*Acceptor, error) {
	if !p.Serves() {
		return nil, errNoPair
	}
	return &Acceptor{p, p.serverConfig(protocols)}, nil
}

// Accept makes a handshake on raw, which it does not close. Refusals are logged with their reason.
func (a *Acceptor) Accept(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	conn := tls.Server(a.plane.under(raw), a.config)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		if err = a.checkAddress(ctx, conn); err != nil {
			_ = conn.CloseWrite() // an end that the other side can tell from a failure
		}
	}
	if err != nil {
		a.logRefusal(conn, err)
		answerPlain(raw, err)
		return nil, err
	}
	a.plane.open.add(conn)
	return conn, nil
}

// answerPlain tells a browser, or whoever forgets the s of https, what is wrong.
func answerPlain(raw net.Conn, err error) {
	var noRecord tls.RecordHeaderError
	if !errors.As(err, &noRecord) {
		return
	}
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO"} {
		if string(noRecord.RecordHeader[:]) == method {
			_, _ = io.WriteString(raw, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
	}
}

func (a *Acceptor) checkAddress(ctx context.Context, conn *tls.Conn) error {
	shown := conn.ConnectionState().PeerCertificates
	if !a.plane.o.CheckAddresses || len(shown) == 0 {
		return nil
	}
	return a.plane.checkAddress(ctx, shown[0], conn.RemoteAddr())
}

// logRefusal says why a connection was refused. One that was closed before it had said anything of interest is none.
func (a *Acceptor) logRefusal(conn *tls.Conn, err error) {
	state := conn.ConnectionState()
	fields := []zap.Field{
		zap.String("remote-addr", conn.RemoteAddr().String()), zap.String("server-name", state.ServerName),
	}
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		var addresses []string
		for _, ip := range leaf.IPAddresses {
			addresses = append(addresses, ip.String())
		}
		fields = append(fields, zap.Strings("ip-addresses", addresses), zap.Strings("dns-names", leaf.DNSNames))
	}
	log := a.plane.o.Logger.Warn
	if isGone(err) {
		log = a.plane.o.Logger.Debug
	}
	log("rejected connection on "+a.plane.o.Endpoint+" endpoint", append(fields, zap.Error(err))...)
}

// isGone reports that the other side just went away.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}
