package certs

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/testkit"
)

// Each handshake goes by the files as they are then, in both roles.
func TestFilesThatChange(t *testing.T) {
	c := newCast(t)
	crl := c.ca.Revoke()
	core, logs := observer.New(zapcore.DebugLevel)
	o := serverOptions(c, true, crl, nil, nil)
	o.Logger = zap.New(core)
	server := must(t, o)
	client := must(t, Options{CertFile: c.client.Cert, KeyFile: c.client.Key, TrustedCAFile: c.ca.File, Logger: zap.New(core)})
	serials := func() (shown string, err error) {
		state, serverErr, clientErr := meet(t, server, client)
		if err := errors.Join(serverErr, clientErr); err != nil {
			return "", err
		}
		return state.PeerCertificates[0].SerialNumber.Text(16), nil
	}
	if _, err := serials(); err != nil {
		t.Fatal(err)
	}

	renewed := c.ca.Issue("client", testkit.Subject{CommonName: "client"})
	if got, err := serials(); err != nil || got != renewed.Serial.Text(16) {
		t.Errorf("after a renewal of the client's: %s, %v; want %x", got, err, renewed.Serial)
	}

	c.ca.Issue("server", testkit.Subject{Hosts: []string{"elsewhere.example"}})
	if _, err := serials(); err == nil || !strings.Contains(err.Error(), "doesn't contain any IP SANs") {
		t.Errorf("the server's old certificate is still shown: %v", err)
	}
	c.server = c.ca.Issue("server", testkit.Subject{Hosts: []string{"127.0.0.1"}})
	if _, err := serials(); err != nil {
		t.Errorf("after a renewal of the server's: %v", err)
	}

	c.ca.Revoke(renewed)
	if _, err := serials(); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("after its revocation: %v", err)
	}
	c.ca.Revoke()
	if _, err := serials(); err != nil {
		t.Errorf("after the revocation of its revocation: %v", err)
	}

	for _, test := range []struct {
		file, text string
		want       string
	}{
		{c.server.Cert, "", "failed to find peer cert files"},
		{c.server.Key, "garbage", "failed to create peer certificate"},
		{c.client.Key, "", "failed to find client cert files"},
		{c.client.Cert, "garbage", "failed to create client certificate"},
	} {
		before, err := os.ReadFile(test.file)
		if err != nil {
			t.Fatal(err)
		}
		if test.text == "" {
			err = os.Remove(test.file)
		} else {
			err = os.WriteFile(test.file, []byte(test.text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := serials(); err == nil {
			t.Errorf("%s: a handshake without it", test.want)
		}
		if logs.FilterMessage(test.want).Len() != 1 {
			t.Errorf("%s: it is not in the log", test.want)
		}
		if err := os.WriteFile(test.file, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := serials(); err != nil {
			t.Errorf("%s: once it is back: %v", test.want, err)
		}
	}
}

// A file that does not change is read once, however many ask.
func TestReadOnce(t *testing.T) {
	file := t.TempDir() + "/file"
	reads := 0
	f := newFresh(func(contents [][]byte) (string, error) {
		reads++
		return string(contents[0]), nil
	}, file)
	ask := func(want string, wantReads int) {
		t.Helper()
		if got, err := f.get(); err != nil || got != want || reads != wantReads {
			t.Errorf("%q, %v after %d reads; want %q after %d", got, err, reads, want, wantReads)
		}
	}
	for range 10 { // until it is read soon enough
		written := time.Now()
		if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
		reads = 0
		ask("1", 1)
		if time.Since(written) < settleTime/2 {
			break
		}
	}
	ask("1", 2) // just written: another change could have the same time
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	ask("1", 3)
	ask("1", 3)
	if err := os.WriteFile(file, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask("2", 4)
}
