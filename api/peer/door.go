package peer

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"time"
)

// HTTPOptions are what NewHTTP makes a client of.
type HTTPOptions struct {
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for peer URLs of https and unixs. Nil: the system's authorities, and no certificate of ours.
	TLS *tls.Config
	// HandshakeTimeout bounds a TLS handshake, ReplyTimeout the time from a request to the headers of its reply.
	HandshakeTimeout, ReplyTimeout time.Duration
}

const (
	idlePerPeerMax = 4
	idleTimeout    = time.Minute
)

// NewHTTP makes the HTTP client that a Client needs. Requests to sockets have hosts made by urlOf.
func NewHTTP(o HTTPOptions) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if file, ok := socketOf(address); ok {
			network, address = "unix", file
		}
		return o.Dial(ctx, network, address)
	}
	return &http.Client{Transport: &http.Transport{
		DialContext: dial,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			conn := tls.Client(raw, o.configFor(address))
			ctx, cancel := context.WithTimeout(ctx, o.HandshakeTimeout)
			defer cancel()
			if err := conn.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, &net.OpError{Op: "dial", Net: network, Addr: raw.RemoteAddr(), Err: err} // nothing was sent
			}
			return conn, nil
		},
		MaxIdleConnsPerHost: idlePerPeerMax, IdleConnTimeout: idleTimeout, ResponseHeaderTimeout: o.ReplyTimeout,
	}}
}

// configFor is the configuration of a connection to a host.
func (o HTTPOptions) configFor(address string) *tls.Config {
	c := new(tls.Config)
	if o.TLS != nil {
		c = o.TLS.Clone()
	}
	if c.ServerName != "" {
		return c
	}
	c.ServerName = "localhost"
	if _, isSocket := socketOf(address); !isSocket {
		c.ServerName, _, _ = net.SplitHostPort(address)
	}
	return c
}

// socketSuffix marks hosts that stand for the file of a socket, in hexadecimal: a URL has room for one path only.
const socketSuffix = ".socket"

// urlOf is where a path below a peer URL is asked for.
func urlOf(base, path string) string {
	for scheme, web := range map[string]string{"unix:": "http://", "unixs:": "https://"} {
		if file, ok := strings.CutPrefix(base, scheme); ok {
			return web + hex.EncodeToString([]byte(strings.TrimPrefix(file, "//"))) + socketSuffix + path
		}
	}
	return strings.TrimSuffix(base, "/") + path
}

// socketOf is the file that a host made by urlOf stands for.
func socketOf(address string) (file string, ok bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", false
	}
	text, ok := strings.CutSuffix(host, socketSuffix)
	if !ok {
		return "", false
	}
	name, err := hex.DecodeString(text)
	return string(name), err == nil
}
