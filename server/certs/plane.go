package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// Plane is the identity of this member towards one kind of others. See the package comment.
type Plane struct {
	o       Options
	server  *fresh[*tls.Certificate] // nil: nobody can be served
	client  *fresh[*tls.Certificate] // nil: nothing is shown to those who are dialed
	roots   *x509.CertPool           // nil: the system's
	revoked *fresh[revocations]      // nil: nothing was revoked
	open    openConns
}

// New makes a plane of its settings and reads every file once, so that mistakes show at the start. A list of what is
// revoked may come later.
func New(o Options) (*Plane, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Plane{o: o}
	if o.CertFile != "" {
		p.server = newFresh(parsePair, o.CertFile, o.KeyFile)
		p.client = p.server
	}
	if o.ClientCertFile != "" {
		p.client = newFresh(parsePair, o.ClientCertFile, o.ClientKeyFile)
	}
	for _, pair := range []*fresh[*tls.Certificate]{p.server, p.client} {
		if pair == nil {
			continue
		}
		if _, err := pair.get(); err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", pair.paths[0], pair.paths[1], err)
		}
	}
	if o.TrustedCAFile != "" {
		var err error
		if p.roots, err = readAuthorities(o.TrustedCAFile); err != nil {
			return nil, err
		}
	}
	if names := slices.Concat(o.AllowedCNs, o.AllowedHostnames); len(names) > 0 && p.Serves() && !p.DemandsCertificates() {
		o.Logger.Warn("names that "+o.Endpoint+" certificates may have are ignored: no certificates are demanded", zap.Strings("names", names))
	}
	if o.CRLFile != "" {
		p.revoked = newFresh(parseRevocations, o.CRLFile)
		if _, err := p.revoked.get(); err != nil {
			o.Logger.Warn("failed to read the list of revoked certificates; who shows a certificate is refused until it can be read",
				zap.String("crl-file", o.CRLFile), zap.Error(err))
		}
	}
	return p, nil
}

// Serves reports whether the plane has a certificate to show to those who connect.
func (p *Plane) Serves() bool { return p.server != nil }

// DemandsCertificates reports whether those who connect have to show a certificate.
func (p *Plane) DemandsCertificates() bool { return p.o.ClientCertAuth || p.o.TrustedCAFile != "" }

// Client is the configuration of connections that are dialed. The host that is dialed has to be filled in as its
// ServerName unless there is one, as callers of package crypto/tls do.
func (p *Plane) Client() *tls.Config {
	c := p.base()
	c.VerifyConnection = p.verifyDialed
	c.RootCAs = p.roots
	c.ServerName = p.o.ServerName
	c.InsecureSkipVerify = p.o.Unverified
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if p.client == nil {
			return new(tls.Certificate), nil // that is: none
		}
		return p.get(p.client, "client cert files", "client certificate")
	}
	return c
}

// serverConfig is the configuration of connections that are accepted.
func (p *Plane) serverConfig(protocols []string) *tls.Config {
	c := p.base()
	c.NextProtos = protocols
	if c.CipherSuites == nil && slices.Equal(protocols, []string{"h2"}) {
		c.CipherSuites = suitesOfHTTP2()
	}
	c.ClientCAs = p.roots
	if p.DemandsCertificates() {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c.SessionTicketsDisabled = true
	c.VerifyConnection = p.verifyAccepted
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return p.get(p.server, "peer cert files", "peer certificate")
	}
	return c
}

func (p *Plane) base() *tls.Config {
	return &tls.Config{
		MinVersion: p.o.VersionMin, MaxVersion: p.o.VersionMax, CipherSuites: slices.Clone(p.o.Suites),
	}
}

// suitesOfHTTP2 are the runtime's suites that RFC 9113 does not prohibit (section 9.2.2).
func suitesOfHTTP2() (ids []uint16) {
	for _, suite := range tls.CipherSuites() {
		if strings.Contains(suite.Name, "_ECDHE_") && !strings.Contains(suite.Name, "_CBC_") {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// get returns the certificate of a pair, and says so if there is none. The words are etcd's, in which whoever shows a
// certificate as a server is a peer, also towards clients.
func (p *Plane) get(pair *fresh[*tls.Certificate], files, certificate string) (*tls.Certificate, error) {
	c, err := pair.get()
	if err == nil {
		return c, nil
	}
	message := "failed to create " + certificate
	if errors.Is(err, os.ErrNotExist) {
		message = "failed to find " + files
	}
	p.o.Logger.Warn(message, zap.String("cert-file", pair.paths[0]), zap.String("key-file", pair.paths[1]), zap.Error(err))
	return nil, err
}

func parsePair(contents [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

func readAuthorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("trusted CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("trusted CA: there is no certificate in %s", path)
	}
	return pool, nil
}
