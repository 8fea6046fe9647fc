package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates for a test, into a directory of the test's.
type Authority struct {
	t      testing.TB
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
	File   string // its certificate, as PEM
}

// NewAuthority makes an authority of its own.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), serial: 0xca0}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	der := a.sign(template, template, &a.key.PublicKey)
	a.cert = a.parse(der)
	a.File = filepath.Join(a.dir, "ca.pem")
	a.write(a.File, "CERTIFICATE", der)
	return a
}

// Subject is what a certificate says.
type Subject struct {
	CommonName string
	Hosts      []string      // names and addresses
	Age        time.Duration // since it has expired; 0: it is valid
	RSA        bool          // the kind of its key; otherwise ECDSA
}

// Pair is a certificate and its key, as files.
type Pair struct {
	Cert, Key string
	Serial    *big.Int
}

// Issue makes a certificate, good for servers and clients, in files that are called name.
func (a *Authority) Issue(name string, s Subject) Pair {
	a.t.Helper()
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: s.CommonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if s.Age > 0 {
		template.NotAfter = time.Now().Add(-s.Age)
		template.NotBefore = template.NotAfter.Add(-time.Hour)
	}
	for _, h := range s.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	var public, private any
	if s.RSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			a.t.Fatal(err)
		}
		public, private = &key.PublicKey, key
	} else {
		key := a.newKey()
		public, private = &key.PublicKey, key
	}
	p := Pair{filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key"), template.SerialNumber}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(p.Key, "PRIVATE KEY", secret)
	a.write(p.Cert, "CERTIFICATE", a.sign(template, a.cert, public))
	return p
}

// Revoke writes a list with the certificates of pairs, as DER, and returns its file. Each call makes the list anew.
func (a *Authority) Revoke(pairs ...Pair) string {
	a.t.Helper()
	list := &x509.RevocationList{
		Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}
	for _, p := range pairs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: p.Serial, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	file := filepath.Join(a.dir, "revoked.crl")
	a.replace(file, der)
	return file
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, public any) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *Authority) parse(der []byte) *x509.Certificate {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *Authority) write(file, kind string, der []byte) {
	a.replace(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// replace writes a file in one step, as those who renew certificates do.
func (a *Authority) replace(file string, text []byte) {
	fresh := file + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(fresh, file); err != nil {
		a.t.Fatal(err)
	}
}
