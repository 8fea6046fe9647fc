package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/internal/testkit"
)

// A connection ends when its certificate is revoked, others go on, and those that are closed are forgotten.
func TestRevokedConnectionsEnd(t *testing.T) {
	c := newCast(t)
	crl := c.ca.Revoke()
	core, logs := observer.New(zapcore.WarnLevel)
	o := serverOptions(c, true, crl, nil, nil)
	o.Logger = zap.New(core)
	server := must(t, o)
	acceptor, err := server.Acceptor()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func(pair testkit.Pair) (theirs, ours *tls.Conn) {
		t.Helper()
		accepted := make(chan *tls.Conn, 1)
		go func() {
			raw, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			conn, err := acceptor.Accept(t.Context(), raw)
			if err != nil {
				t.Error(err)
			}
			accepted <- conn
		}()
		config := must(t, Options{CertFile: pair.Cert, KeyFile: pair.Key, TrustedCAFile: c.ca.File, ServerName: "localhost"}).Client()
		conn, err := tls.Dial("tcp", l.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn, <-accepted
	}
	stolen, _ := connect(c.stolen)
	kept, keptHere := connect(c.client)
	_, gone := connect(c.client)
	gone.Close()
	server.EndRevoked()
	if n := len(server.open.list); n != 2 {
		t.Errorf("%d connections are watched", n)
	}

	c.ca.Revoke(c.stolen)
	server.EndRevoked()
	if _, err := stolen.Read(make([]byte, 1)); err == nil {
		t.Error("the revoked one goes on")
	}
	if logs.FilterMessage("ended a connection on client endpoint").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
	if _, err := keptHere.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(kept, make([]byte, 1)); err != nil {
		t.Errorf("another ended, too: %v", err)
	}
	if err := os.Remove(crl); err != nil {
		t.Fatal(err)
	}
	server.EndRevoked()
	if n := len(server.open.list); n != 1 {
		t.Errorf("%d connections are watched", n)
	}
}

// A list of version 1, which openssl makes unless it is told otherwise, says so at the start and to whoever is refused.
func TestListOfVersion1(t *testing.T) {
	c := newCast(t)
	var list struct {
		TBS struct {
			Version    int `asn1:"optional,default:0"`
			Signature  pkix.AlgorithmIdentifier
			Issuer     pkix.RDNSequence
			ThisUpdate time.Time
			NextUpdate time.Time `asn1:"optional"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	file := c.ca.Revoke()
	der, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	two, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	list.TBS.Signature = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	list.TBS.Issuer = two.Issuer.ToRDNSequence()
	list.TBS.ThisUpdate, list.TBS.NextUpdate = two.ThisUpdate, two.NextUpdate
	list.Algorithm, list.Signature = list.TBS.Signature, asn1.BitString{Bytes: two.Signature, BitLength: 8 * len(two.Signature)}
	if der, err = asn1.Marshal(list); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, der, 0o600); err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.WarnLevel)
	o := serverOptions(c, true, file, nil, nil)
	o.Logger = zap.New(core)
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	const want = "it has to be of version 2"
	if lines := logged.All(); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()["error"]), want) {
		t.Errorf("logged %v", lines)
	}
	if err := p.checkRevoked([]*x509.Certificate{{SerialNumber: big.NewInt(1)}}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}
