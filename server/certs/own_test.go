package certs

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"
)

func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir() + "/fixtures/peer"
	now := time.Now()
	cert, key, made, err := makeOwn(dir, []string{"127.0.0.1", "localhost"}, 2, now)
	if err != nil || !made {
		t.Fatal(err)
	}
	for file, mode := range map[string]os.FileMode{cert: 0o644, key: 0o600} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Leaf
	if !leaf.IsCA || leaf.Subject.Organization[0] != "etcd" || leaf.VerifyHostname("127.0.0.1") != nil || leaf.VerifyHostname("localhost") != nil ||
		leaf.NotAfter.Sub(leaf.NotBefore) != 2*365*24*time.Hour || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("certificate %+v", leaf)
	}
	before, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, made, err := makeOwn(dir, []string{"other"}, 1, now); err != nil || made {
		t.Errorf("made again: %t, %v", made, err)
	}
	if after, err := os.ReadFile(cert); err != nil || string(after) != string(before) {
		t.Errorf("it was changed: %v", err)
	}
	own := must(t, Options{CertFile: cert, KeyFile: key, Unverified: true})
	if _, serverErr, clientErr := meet(t, own, own); serverErr != nil || clientErr != nil {
		t.Errorf("members do not take each other's own certificates: %v; %v", serverErr, clientErr)
	}
}
