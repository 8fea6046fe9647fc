package rpc

import (
	"crypto/tls"
	"io"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// ServeShared is ServeConn for a connection over TLS on which HTTP may be asked too. If its suite is one that RFC 9113 prohibits
// for HTTP/2 (section 9.2.2), it ends with the error that the RFC has for that, as Go's own servers of HTTP have it end. On
// addresses for calls alone nobody looks at suites: servers of gRPC do not.
func (s *Server) ServeShared(c *tls.Conn) {
	if state := c.ConnectionState(); isProhibited(&state) {
		refuseSuite(c)
		return
	}
	s.ServeConn(c)
}

// isProhibited reports whether a suite lacks what HTTP/2 demands of it: keys that nobody can find out later, and a cipher that
// authenticates. All suites of TLS 1.3 have both.
func isProhibited(state *tls.ConnectionState) bool {
	name := tls.CipherSuiteName(state.CipherSuite)
	return state.Version < tls.VersionTLS13 &&
		!(strings.Contains(name, "_ECDHE_") && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_")))
}

func refuseSuite(c *tls.Conn) {
	defer c.Close()
	if c.SetDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	reason := "the suite " + tls.CipherSuiteName(c.ConnectionState().CipherSuite) + " is prohibited for HTTP/2"
	if _, err := c.Write(appendGoAway(nil, 0, http2.ErrCodeInadequateSecurity, reason)); err == nil && c.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c, windowBytes)) // as linger does
	}
}
