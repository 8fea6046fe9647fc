package handshake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// authority signs certificates.
type authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above [][]byte // what a chain shows between a certificate of it and the root, its own first; DER
}

// subject is what a certificate says. The zero value is good for an hour, as a server and as a client, and names nobody.
type subject struct {
	name            string
	dns             []string
	ips             []string
	usages          []x509.ExtKeyUsage // nil: server and client
	anyUsage        bool               // no word about usages
	from, to        time.Duration      // from now; to 0: an hour, and one before
	serial          *big.Int           // nil: the next
	key             crypto.Signer      // nil: ECDSA, P-256
	unknownCritical bool
	isCA            bool
	pathLength      int    // of an authority; 0: no bound, negative: 0
	permitted       string // of an authority: the only DNS domain that it may speak of
}

var serials atomic.Int64

func init() { serials.Store(0xabc0) }

func (s subject) template() *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: s.serial, Subject: pkix.Name{CommonName: s.name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: s.usages, DNSNames: s.dns,
	}
	if s.serial == nil {
		c.SerialNumber = big.NewInt(serials.Add(1))
	}
	if s.to != 0 {
		c.NotBefore, c.NotAfter = time.Now().Add(s.from), time.Now().Add(s.to)
	}
	if s.usages == nil && !s.anyUsage && !s.isCA {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, ip := range s.ips {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(ip))
	}
	if s.unknownCritical {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
	}
	if s.isCA {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
		c.MaxPathLen, c.MaxPathLenZero = max(s.pathLength, 0), s.pathLength < 0
		if s.permitted != "" {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{s.permitted}
		}
	}
	return c
}

func newKey() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// newRoot makes an authority that nobody is above.
func newRoot(s subject) *authority {
	s.isCA = true
	a := &authority{key: newKey()}
	t := s.template()
	a.cert = parsed(must(x509.CreateCertificate(rand.Reader, t, t, a.key.Public(), a.key)))
	return a
}

// below makes an authority that a has signed; one that is none, if asIs.
func (a *authority) below(s subject, asIs bool) *authority {
	s.isCA = !asIs
	c := a.issue(s)
	return &authority{cert: c.Leaf, key: c.PrivateKey.(crypto.Signer), above: c.Certificate}
}

// issue signs a certificate. The chain has the authorities between it and the root.
func (a *authority) issue(s subject) *tls.Certificate {
	if s.key == nil {
		s.key = newKey()
	}
	der := must(x509.CreateCertificate(rand.Reader, s.template(), a.cert, s.key.Public(), a.key))
	return &tls.Certificate{Certificate: append([][]byte{der}, a.above...), PrivateKey: s.key, Leaf: parsed(der)}
}

// selfSigned makes a certificate that nobody else vouches for.
func selfSigned(s subject) *tls.Certificate {
	s.key = newKey()
	t := s.template()
	der := must(x509.CreateCertificate(rand.Reader, t, t, s.key.Public(), s.key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.key, Leaf: parsed(der)}
}

// revoke makes a list of version 2 of what is revoked, as DER.
func (a *authority) revoke(until time.Duration, list ...*tls.Certificate) []byte {
	return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: time.Now().Add(until), RevokedCertificateEntries: entries(list),
	}, a.cert, a.key))
}

func entries(list []*tls.Certificate) (entries []x509.RevocationListEntry) {
	for _, c := range list {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	return entries
}

// revokeV1 makes a list of version 1, which has no extensions: what openssl makes unless it is told otherwise.
func (a *authority) revokeV1(list ...*tls.Certificate) []byte {
	type entry struct {
		Serial *big.Int
		At     time.Time
	}
	type tbs struct {
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
		NextUpdate time.Time
		Revoked    []entry
	}
	ecdsaWithSHA256 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	t := tbs{Algorithm: ecdsaWithSHA256, Issuer: asn1.RawValue{FullBytes: a.cert.RawSubject},
		ThisUpdate: time.Now().Add(-time.Hour).UTC(), NextUpdate: time.Now().Add(time.Hour).UTC()}
	for _, c := range list {
		t.Revoked = append(t.Revoked, entry{c.Leaf.SerialNumber, time.Now().Add(-time.Minute).UTC()})
	}
	body := must(asn1.Marshal(t))
	digest := crypto.SHA256.New()
	digest.Write(body)
	signature := must(a.key.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256))
	return must(asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: body}, ecdsaWithSHA256, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}))
}

func parsed(der []byte) *x509.Certificate { return must(x509.ParseCertificate(der)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// chainPEM is a certificate as a file has it, with what is above it.
func chainPEM(c *tls.Certificate) (text []byte) {
	for _, der := range c.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

func keyPEM(c *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(c.PrivateKey))})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// put writes a file whole, in one step, as those who renew certificates do.
func put(dir, name string, text []byte) {
	path := filepath.Join(dir, name)
	if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
		panic(err)
	}
}

// putPair writes name.pem and name.key.
func putPair(dir, name string, c *tls.Certificate) {
	put(dir, name+".key", keyPEM(c))
	put(dir, name+".pem", chainPEM(c))
}

// client is somebody who shows a certificate, or none.
type client struct {
	name string
	cert *tls.Certificate
}

// cast are those who take part.
type cast struct {
	ca, middle, foreign *authority
	server              *tls.Certificate
	nobody, right       client
	revoked             client
	all                 []client
	rsa                 crypto.Signer
	roots               *x509.CertPool // what clients believe
}

// newCast makes all certificates, and writes those that servers are started with into dir.
func newCast(dir string) *cast {
	c := &cast{rsa: must(rsa.GenerateKey(rand.Reader, 2048)), roots: x509.NewCertPool()}
	c.ca = newRoot(subject{name: "authority"})
	c.roots.AddCert(c.ca.cert)
	c.middle = c.ca.below(subject{name: "middle"}, false)
	c.foreign = newRoot(subject{name: "foreign"})
	asMember := subject{name: "server", ips: []string{"127.0.0.1"}, dns: []string{"localhost"}}
	c.server = c.ca.issue(asMember)
	c.addClients()

	put(dir, "ca.pem", c.ca.pem())
	put(dir, "middle.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.middle.cert.Raw}))
	put(dir, "foreign.pem", c.foreign.pem())
	put(dir, "both.pem", append(c.foreign.pem(), c.ca.pem()...))
	putPair(dir, "server", c.server)
	asMember.key = c.rsa
	putPair(dir, "rsa", c.ca.issue(asMember))
	asMember.key = nil
	putPair(dir, "chained", c.middle.issue(asMember))
	asMember.usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	putPair(dir, "serveronly", c.ca.issue(asMember))
	asMember.usages, asMember.to = nil, -time.Minute
	asMember.from = -time.Hour
	putPair(dir, "late", c.ca.issue(asMember))
	asMember.to, asMember.name = 0, ""
	putPair(dir, "nameless", c.ca.issue(asMember))

	put(dir, "revoked.crl", c.ca.revoke(time.Hour, c.revoked.cert))
	put(dir, "revoked-pem.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: c.ca.revoke(time.Hour, c.revoked.cert)}))
	put(dir, "nothing.crl", c.ca.revoke(time.Hour))
	put(dir, "old.crl", c.ca.revoke(-time.Hour, c.revoked.cert))
	put(dir, "foreign.crl", c.foreign.revoke(time.Hour, c.revoked.cert))
	put(dir, "v1.crl", c.ca.revokeV1(c.revoked.cert))
	put(dir, "empty.crl", nil)
	put(dir, "garbage.crl", []byte("this is no list\n"))
	return c
}

func (c *cast) named(name string) client {
	return c.all[slices.IndexFunc(c.all, func(c client) bool { return c.name == name })]
}

func (c *cast) addClients() {
	add := func(name string, cert *tls.Certificate) client {
		c.all = append(c.all, client{name, cert})
		return c.all[len(c.all)-1]
	}
	named := subject{name: "client", dns: []string{"client.example"}}
	with := func(change func(*subject)) subject {
		s := named
		change(&s)
		return s
	}
	c.nobody = add("none", nil)
	c.right = add("right", c.ca.issue(named))
	c.revoked = add("revoked", c.ca.issue(named))
	add("of another authority", c.foreign.issue(named))
	add("of another authority, with a revoked serial", c.foreign.issue(with(func(s *subject) { s.serial = c.revoked.cert.Leaf.SerialNumber })))
	add("self-signed", selfSigned(named))
	add("expired", c.ca.issue(with(func(s *subject) { s.from, s.to = -2*time.Hour, -time.Hour })))
	add("not yet valid", c.ca.issue(with(func(s *subject) { s.from, s.to = time.Hour, 2*time.Hour })))
	usage := func(u x509.ExtKeyUsage) subject {
		return with(func(s *subject) { s.usages = []x509.ExtKeyUsage{u} })
	}
	add("usage: client", c.ca.issue(usage(x509.ExtKeyUsageClientAuth)))
	add("usage: server", c.ca.issue(usage(x509.ExtKeyUsageServerAuth)))
	add("usage: code", c.ca.issue(usage(x509.ExtKeyUsageCodeSigning)))
	add("usage: any", c.ca.issue(usage(x509.ExtKeyUsageAny)))
	add("usage: no word", c.ca.issue(with(func(s *subject) { s.anyUsage = true })))
	add("through a middle", c.middle.issue(named))
	alone := c.middle.issue(named)
	alone.Certificate = alone.Certificate[:1]
	add("through a middle, which is not shown", alone)
	add("through a middle that is no authority", c.ca.below(named, true).issue(named))
	add("through too many", c.ca.below(subject{name: "last", pathLength: -1}, false).below(subject{name: "beyond"}, false).issue(named))
	add("of a domain that its authority has nothing to say of", c.ca.below(subject{name: "elsewhere", permitted: "elsewhere.example"}, false).issue(named))
	add("with something critical that nobody knows", c.ca.issue(with(func(s *subject) { s.unknownCritical = true })))
	stolen := *c.right.cert
	stolen.PrivateKey = newKey()
	add("right, without its key", &stolen)
	add("the authority itself", &tls.Certificate{Certificate: [][]byte{c.ca.cert.Raw}, PrivateKey: c.ca.key, Leaf: c.ca.cert})
	add("RSA", c.ca.issue(with(func(s *subject) { s.key = c.rsa })))
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	add("Ed25519", c.ca.issue(with(func(s *subject) { s.key = edwards })))
	add("P-521", c.ca.issue(with(func(s *subject) { s.key = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })))
	add("common name only", c.ca.issue(with(func(s *subject) { s.name, s.dns = "client.example", nil })))
	add("another host", c.ca.issue(with(func(s *subject) { s.dns = []string{"other.example"} })))
	add("another name", c.ca.issue(with(func(s *subject) { s.name = "other" })))
	add("wildcard", c.ca.issue(with(func(s *subject) { s.dns = []string{"*.example"} })))
	add("address", c.ca.issue(with(func(s *subject) { s.dns, s.ips = nil, []string{"127.0.0.1", "::1"} })))
	add("another address", c.ca.issue(with(func(s *subject) { s.dns, s.ips = nil, []string{"192.0.2.1"} })))
	add("another address, this host", c.ca.issue(with(func(s *subject) { s.dns, s.ips = []string{"localhost"}, []string{"192.0.2.1"} })))
	add("a host that does not resolve", c.ca.issue(with(func(s *subject) { s.dns = []string{"nosuch.invalid"} })))
	add("nameless", c.ca.issue(subject{}))
}

// as is how a client connects.
func (c client) as() *tls.Config {
	return &tls.Config{
		RootCAs: actors.roots, ServerName: "localhost",
		// Unlike Certificates, it is shown whatever authorities the server names.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c.cert == nil {
				return new(tls.Certificate), nil
			}
			return c.cert, nil
		},
	}
}
