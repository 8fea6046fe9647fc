package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// Credentials tell a gRPC server who is at the other end of connections that come from an Acceptor; others are taken as
// plain text. They can't be used to dial.
func Credentials() credentials.TransportCredentials { return accepted{} }

type accepted struct{}

// ServerHandshake implements credentials.TransportCredentials. There is no handshake left to make.
func (accepted) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, ok := raw.(*tls.Conn)
	if !ok {
		return raw, nil, nil
	}
	return secure, credentials.TLSInfo{
		State:          secure.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

var errServerOnly = errors.New("certs: these credentials are a server's")

// ClientHandshake implements credentials.TransportCredentials.
func (accepted) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errServerOnly
}

// Info implements credentials.TransportCredentials.
func (accepted) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (a accepted) Clone() credentials.TransportCredentials { return a }

// OverrideServerName implements credentials.TransportCredentials.
func (accepted) OverrideServerName(string) error { return errServerOnly }
