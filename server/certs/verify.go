package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// errNotAllowed is told to the log; the other side learns only that its certificate is bad.
var errNotAllowed = errors.New("client certificate authentication failed")

// verifyDialed is asked within every handshake of a connection that is dialed, when the other side's chain and host have been
// verified. Allowed names are of those who connect: a member may show another certificate as a server.
func (p *Plane) verifyDialed(state tls.ConnectionState) error {
	return p.checkRevoked(state.PeerCertificates)
}

// verifyAccepted is asked within every handshake of a connection that is accepted, when the other side's chain has been verified.
// Who need not show a certificate need not have a name.
func (p *Plane) verifyAccepted(state tls.ConnectionState) error {
	if err := p.checkRevoked(state.PeerCertificates); err != nil || !p.DemandsCertificates() {
		return err
	}
	return p.checkNames(state)
}

// checkNames holds the allowed names against the other side's certificate.
func (p *Plane) checkNames(state tls.ConnectionState) error {
	if len(p.o.AllowedCNs) == 0 && len(p.o.AllowedHostnames) == 0 {
		return nil
	}
	for _, chain := range state.VerifiedChains {
		leaf := chain[0]
		if slices.Contains(p.o.AllowedCNs, leaf.Subject.CommonName) {
			return nil
		}
		for _, host := range p.o.AllowedHostnames {
			if leaf.VerifyHostname(host) == nil {
				return nil
			}
		}
	}
	return errNotAllowed
}

// revocations are the serial numbers of a list, in hexadecimal.
type revocations map[string]bool

// parseRevocations reads a list as DER, or as PEM around that.
func parseRevocations(contents [][]byte) (revocations, error) {
	der := contents[0]
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil && strings.Contains(err.Error(), "version") {
		return nil, fmt.Errorf("%w: it has to be of version 2, which openssl makes if its configuration names crl_extensions", err)
	}
	if err != nil {
		return nil, err
	}
	serials := revocations{}
	for _, entry := range list.RevokedCertificateEntries {
		serials[entry.SerialNumber.Text(16)] = true
	}
	return serials, nil
}

// checkRevoked refuses a certificate that was revoked, and all as long as the list can't be read. Who shows none passes.
func (p *Plane) checkRevoked(shown []*x509.Certificate) error {
	if p.revoked == nil || len(shown) == 0 {
		return nil
	}
	list, err := p.revoked.get()
	if err != nil {
		return fmt.Errorf("list of revoked certificates: %w", err)
	}
	return list.check(shown)
}

// check refuses certificates that are on the list.
func (r revocations) check(shown []*x509.Certificate) error {
	for _, c := range shown {
		if serial := c.SerialNumber.Text(16); r[serial] {
			return fmt.Errorf("transport: certificate serial %s revoked", serial)
		}
	}
	return nil
}

// checkAddress refuses a certificate that is for other addresses than the one it came from. One that is for none passes.
func (p *Plane) checkAddress(ctx context.Context, leaf *x509.Certificate, remote net.Addr) error {
	from, isTCP := remote.(*net.TCPAddr)
	if !isTCP || len(leaf.IPAddresses) == 0 && len(leaf.DNSNames) == 0 {
		return nil
	}
	if slices.ContainsFunc(leaf.IPAddresses, from.IP.Equal) {
		return nil
	}
	if len(leaf.DNSNames) == 0 {
		return leaf.VerifyHostname(from.IP.String()) // which says what it is for
	}
	matches, err := p.hasName(ctx, from.IP, leaf.DNSNames)
	switch {
	case matches:
		return nil
	case err != nil:
		return fmt.Errorf("tls: %q does not match any of DNSNames %q (%w)", from.IP.String(), leaf.DNSNames, err)
	}
	return fmt.Errorf("tls: %q does not match any of DNSNames %q", from.IP.String(), leaf.DNSNames)
}

// hasName reports whether one of the names belongs to an address: the address resolves to it, or it resolves to the
// address. A name like *.x stands for all names below x, which only the first way can tell. The error is the last lookup's,
// and comes with false.
func (p *Plane) hasName(ctx context.Context, ip net.IP, names []string) (bool, error) {
	found, last := p.o.Resolver.LookupAddr(ctx, ip.String())
	for _, host := range found {
		host = strings.TrimSuffix(host, ".")
		for _, name := range names {
			if strings.EqualFold(name, host) {
				return true, nil
			}
			below, isWildcard := strings.CutPrefix(name, "*.")
			if _, parent, ok := strings.Cut(host, "."); isWildcard && ok && strings.EqualFold(parent, below) {
				return true, nil
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		addresses, err := p.o.Resolver.LookupHost(ctx, name)
		if err != nil {
			last = err
			continue
		}
		for _, a := range addresses {
			if ip.Equal(net.ParseIP(a)) {
				return true, nil
			}
		}
	}
	return false, last
}
