package rpc

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// secured is a connection over TLS, bare or within another.
type secured interface {
	HandshakeContext(context.Context) error
	ConnectionState() tls.ConnectionState
}

// handshakePeer shakes hands where there is TLS, within the connection's deadline, and tells who is at the other end.
func handshakePeer(nc net.Conn) (*peer.Peer, error) {
	p := &peer.Peer{Addr: nc.RemoteAddr(), LocalAddr: nc.LocalAddr()}
	t, ok := nc.(secured)
	if !ok {
		return p, nil
	}
	if err := t.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	p.AuthInfo = credentials.TLSInfo{
		State:          t.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
	return p, nil
}
