package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// tlsVersions are the versions that may be asked for, oldest first.
var tlsVersions = []string{"TLS1.2", "TLS1.3"}

// Versions are the lowest and the highest version that may be spoken, as crypto/tls numbers them. Load has checked them.
func (t TLS) Versions() (lowest, highest uint16) {
	numbers := map[string]uint16{"TLS1.2": tls.VersionTLS12, "TLS1.3": tls.VersionTLS13} // others: 0, the runtime's choice
	if lowest = numbers[t.VersionMin]; lowest == 0 {
		lowest = tls.VersionTLS12
	}
	return lowest, numbers[t.VersionMax]
}

// Suites are the cipher suites that may be used up to TLS 1.2. Nil: the runtime's choice.
func (t TLS) Suites() []uint16 {
	var ids []uint16
	for _, name := range t.CipherSuites {
		if id, ok := cipherSuite(name); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// Validate checks names of versions and suites.
func (t TLS) Validate() error {
	for _, v := range []string{t.VersionMin, t.VersionMax} {
		if v != "" && !slices.Contains(tlsVersions, v) {
			return fmt.Errorf("unexpected TLS version %q (must be one of: %s)", v, strings.Join(tlsVersions, ", "))
		}
	}
	if t.VersionMax != "" && t.VersionMin > t.VersionMax {
		return fmt.Errorf("min version (%s) is greater than max version (%s)", t.VersionMin, t.VersionMax)
	}
	if len(t.CipherSuites) > 0 && t.VersionMin == "TLS1.3" {
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	for _, name := range t.CipherSuites {
		if _, ok := cipherSuite(name); !ok {
			return fmt.Errorf("unexpected TLS cipher suite %q", name)
		}
	}
	return nil
}

// cipherSuite knows the runtime's suites and the two names that they had before RFC 7905 was finished.
func cipherSuite(name string) (id uint16, ok bool) {
	switch name {
	case "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305":
		name += "_SHA256"
	}
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if s.Name == name {
			return s.ID, true
		}
	}
	return 0, false
}
