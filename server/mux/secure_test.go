package mux

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// secured is o with TLS.
func secured(t *testing.T, o Options) Options {
	certs := httptest.NewTLSServer(nil)
	t.Cleanup(certs.Close)
	c := &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	o.Secure = func(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
		conn := tls.Server(raw, c)
		return conn, conn.HandshakeContext(ctx)
	}
	return o
}

// say dials, with TLS or without, and says something.
func say(t *testing.T, m *Mux, protocol, text string) net.Conn {
	t.Helper()
	if protocol == "" {
		return dial(t, m, text)
	}
	conn, err := tls.Dial("tcp", m.from.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// With and without TLS, connections come out where their options say, with all they have said.
func TestSecureAndPlain(t *testing.T) {
	for _, c := range []struct {
		whole          bool
		protocol, text string
		out            func(*Mux) net.Listener
		counted        bool
	}{
		{false, "", preface, (*Mux).GRPC, true},
		{false, "", "GET /", (*Mux).HTTP, false},
		{false, "h2", preface, (*Mux).Secure, true},
		{false, "http/1.1", "GET /", (*Mux).Secure, false},
		{true, "", preface, (*Mux).HTTP, false},
		{true, "", "GET /", (*Mux).HTTP, false},
		{true, "h2", preface, (*Mux).Secure, true},
	} {
		var traffic Traffic
		m := New(listen(t), secured(t, Options{Traffic: &traffic, Whole: c.whole}))
		serve(t, m)
		say(t, m, c.protocol, c.text)
		conn, err := c.out(m).Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(c.text))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.text {
			t.Errorf("%+v: read %q, %v", c, got, err)
		}
		if _, isSecure := conn.(*tls.Conn); isSecure != (c.protocol != "") {
			t.Errorf("%q, whole %t: comes out as %T", c.protocol, c.whole, conn)
		}
		if _, err := conn.Write([]byte("y")); err != nil {
			t.Error(err)
		}
		if counted := traffic.Sent.Load() > 0; counted != c.counted {
			t.Errorf("%q, whole %t: counted %t", c.protocol, c.whole, counted)
		}
		conn.Close()
	}
}

// Who speaks in clear text where TLS is demanded, or begins a handshake and falls silent, is closed.
func TestSecureOnly(t *testing.T) {
	// Long enough for a handshake on a busy machine, and waited for once.
	m := New(listen(t), secured(t, Options{SecureOnly: true, DecideTimeout: 10 * time.Second}))
	serve(t, m)
	var all sync.WaitGroup
	for _, text := range []string{preface, "GET / HTTP/1.1\r\n", "", "\x16\x03\x01", "\x16"} {
		conn := dial(t, m, text)
		all.Go(func() {
			rest, err := io.ReadAll(conn)
			if err == nil && len(rest) > 0 && rest[0] != 0x15 { // an alert, at most
				t.Errorf("%q was answered %q", text, rest)
			}
		})
	}
	all.Wait()
	conn := say(t, m, "h2", "x")
	if _, err := m.Secure().Accept(); err != nil {
		t.Error(err)
	}
	conn.Close()
}

// A silent handshake does not hold up others.
func TestHandshakesRunSideBySide(t *testing.T) {
	m := New(listen(t), secured(t, Options{SecureOnly: true, DecideTimeout: time.Hour}))
	serve(t, m)
	for range 20 {
		dial(t, m, "\x16\x03\x01")
	}
	say(t, m, "h2", "x")
	conn, err := m.Secure().Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
