package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// acceptTLS serves connections over TLS, as those of an address that is shared with HTTP or not. It returns the address and what
// clients need to know.
func acceptTLS(t *testing.T, k *kit, shared bool) (address string, client *tls.Config) {
	t.Helper()
	certificate := selfSigned(t)
	client = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", NextProtos: []string{"h2"}}
	client.RootCAs.AddCert(certificate.Leaf)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go serveTLS(k, raw.(*tls.Conn), shared)
		}
	}()
	return l.Addr().String(), client
}

func serveTLS(k *kit, conn *tls.Conn, shared bool) {
	switch {
	case conn.Handshake() != nil:
		conn.Close()
	case shared:
		k.server.ServeShared(conn)
	default:
		k.server.serveCalls(conn)
	}
}

// TestFallbackWhereHTTPIsShared asks over HTTP, where that is served too and where it is not.
func TestFallbackWhereHTTPIsShared(t *testing.T) {
	for shared, want := range map[bool]int{true: http.StatusNotFound, false: http.StatusUnsupportedMediaType} {
		k := newKit(t, Options{Fallback: http.NotFoundHandler()})
		k.serve()
		address, config := acceptTLS(t, k, shared)
		transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: config}
		transport.Protocols.SetHTTP2(true)
		answer, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get("https://" + address + "/health")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		transport.CloseIdleConnections()
		if answer.StatusCode != want {
			t.Errorf("shared %t: %s, want %d", shared, answer.Status, want)
		}
	}
}

// TestProhibitedSuites shakes hands with suites that HTTP/2 prohibits, and with one that it does not, where HTTP is asked too and
// where it is not.
func TestProhibitedSuites(t *testing.T) {
	for _, c := range []struct {
		suite   uint16
		shared  bool
		refused bool
	}{
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, true, true},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, true, true},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, true, false},
		{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, true, false},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, false, false},
		{0, true, false}, // TLS 1.3
	} {
		k := newKit(t, Options{})
		k.serve()
		address, config := acceptTLS(t, k, c.shared)
		if c.suite != 0 {
			config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{c.suite}
		}
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		framer := http2.NewFramer(conn, conn)
		io.WriteString(conn, http2.ClientPreface)
		framer.WriteSettings()
		name := tls.CipherSuiteName(c.suite)
		switch frame, err := framer.ReadFrame(); f := frame.(type) {
		case *http2.SettingsFrame:
			if c.refused {
				t.Errorf("%s, shared %t: served", name, c.shared)
			}
		case *http2.GoAwayFrame:
			if !c.refused || f.ErrCode != http2.ErrCodeInadequateSecurity {
				t.Errorf("%s, shared %t: %v %s", name, c.shared, f.ErrCode, f.DebugData())
			} else if _, err := framer.ReadFrame(); err != io.EOF {
				t.Errorf("%s: afterwards %v", name, err)
			}
		default:
			t.Errorf("%s, shared %t: %v, %v", name, c.shared, frame, err)
		}
		conn.Close()
	}
}
