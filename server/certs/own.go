package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	ownCertName = "cert.pem"
	ownKeyName  = "key.pem"
	certMode    = 0o644 // clients may be told to trust it
	keyMode     = 0o600
	serialBits  = 128
	dayOfYear   = 365 * 24 * time.Hour
)

// makeOwn makes a certificate for hosts (names and addresses) that is its own authority, good for some years from now,
// and its key, in a directory. If both are there already they are left as they are.
func makeOwn(dir string, hosts []string, years uint, now time.Time) (certFile, keyFile string, made bool, err error) {
	certFile, keyFile = filepath.Join(dir, ownCertName), filepath.Join(dir, ownKeyName)
	if isFile(certFile) && isFile(keyFile) {
		return certFile, keyFile, false, nil
	}
	cert, key, err := newOwn(hosts, years, now)
	if err != nil {
		return "", "", false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", false, err
	}
	// The certificate last: with it, the pair is whole.
	if err := errors.Join(writeWhole(keyFile, key, keyMode), writeWhole(certFile, cert, certMode)); err != nil {
		return "", "", false, err
	}
	return certFile, keyFile, true, nil
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func newOwn(hosts []string, years uint, now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"etcd"}},
		NotBefore: now, NotAfter: now.Add(time.Duration(years) * dayOfYear),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), nil
}

// writeWhole writes a file, whole or not at all.
func writeWhole(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && mode != keyMode {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
