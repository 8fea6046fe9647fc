package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// access is how connections are let in: with TLS, if there is a configuration, and with a token, if there is one.
type access struct {
	tls   *tls.Config
	token string
}

// enter prepares the access that the options ask for, and logs in if they name a user.
//
// Errors: the authorities can't be read, no connection, the user is refused.
func (o Options) enter(ctx context.Context) (a access, err error) {
	if o.CACert != "" {
		text, err := os.ReadFile(o.CACert)
		if err != nil {
			return a, fmt.Errorf("bench: authorities: %w", err)
		}
		a.tls = &tls.Config{RootCAs: x509.NewCertPool(), NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
		if !a.tls.RootCAs.AppendCertsFromPEM(text) {
			return a, fmt.Errorf("bench: authorities: %s holds no certificate", o.CACert)
		}
	}
	if o.User == "" {
		return a, nil
	}
	name, password, ok := strings.Cut(o.User, ":")
	if !ok {
		return a, fmt.Errorf("bench: user %q is not name:password", o.User)
	}
	c, err := dial(ctx, o.endpoint(0), a)
	if err != nil {
		return a, err
	}
	defer c.close()
	ended := make(chan error, 1)
	login := &call{path: pathAuthenticate, onEnd: func(err error) { ended <- err }, onMessage: func(m []byte) (err error) {
		a.token, err = tokenOf(m)
		return err
	}}
	if err := c.start(login, appendAuthenticate(nil, name, password), false); err != nil {
		return a, err
	}
	c.flush()
	select {
	case err = <-ended:
	case <-ctx.Done():
		c.fail(ctx.Err())
		err = <-ended
	}
	if err == nil && a.token == "" {
		err = fmt.Errorf("the reply has no token")
	}
	if err != nil {
		return a, fmt.Errorf("bench: log in as %s: %w", name, err)
	}
	return a, nil
}

// connect opens a connection to an endpoint.
func (a access) connect(ctx context.Context, endpoint string) (net.Conn, error) {
	if a.tls == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
	}
	return (&tls.Dialer{Config: a.tls}).DialContext(ctx, "tcp", endpoint)
}

// scheme is what requests name.
func (a access) scheme() string {
	if a.tls == nil {
		return "http"
	}
	return "https"
}

// appendAuthenticate appends an AuthenticateRequest: name 1, password 2.
func appendAuthenticate(b []byte, name, password string) []byte {
	return appendBytesField(appendBytesField(b, 1, []byte(name)), 2, []byte(password))
}

// tokenOf reads an AuthenticateResponse: header 1, token 2.
func tokenOf(m []byte) (string, error) {
	for len(m) > 0 {
		number, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			return "", protowire.ParseError(n)
		}
		m = m[n:]
		if number == 2 && typ == protowire.BytesType {
			token, n := protowire.ConsumeString(m)
			return token, protowire.ParseError(n)
		}
		if n = protowire.ConsumeFieldValue(number, typ, m); n < 0 {
			return "", protowire.ParseError(n)
		}
		m = m[n:]
	}
	return "", nil
}
