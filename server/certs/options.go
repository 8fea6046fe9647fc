package certs

import (
	"context"
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"
)

// Options are the settings of a plane. Files that are not named do not matter.
type Options struct {
	// CertFile and KeyFile are shown to those who connect, and to those who are dialed unless the other pair is given.
	CertFile, KeyFile string
	// ClientCertFile and ClientKeyFile are shown to those who are dialed.
	ClientCertFile, ClientKeyFile string
	// TrustedCAFile holds the authorities to believe, on both sides. Empty: the system's.
	TrustedCAFile string
	// ClientCertAuth demands a certificate of those who connect; so does TrustedCAFile.
	ClientCertAuth bool
	// CRLFile lists what was revoked.
	CRLFile string
	// AllowedCNs or AllowedHostnames, if there are any, must match the certificates of those who connect, if they have to show one.
	// Not both.
	AllowedCNs, AllowedHostnames []string
	// CheckAddresses demands that whoever connects does so from an address that its certificate is for.
	CheckAddresses bool
	// Unverified dials without asking who it is: the others' certificates are self-made.
	Unverified bool
	// ServerName is demanded of those who are dialed, in place of the host that was dialed. Empty: the host.
	ServerName string

	// VersionMin and VersionMax are of crypto/tls. VersionMax 0: the newest.
	VersionMin, VersionMax uint16
	// Suites are the suites allowed up to TLS 1.2. Nil: the runtime's choice.
	Suites []uint16

	// Endpoint names the plane in the log: client or peer.
	Endpoint string
	// Resolver looks up the names in peers' certificates. Nil: the system's.
	Resolver Resolver
	// Logger: nil: nothing is logged.
	Logger *zap.Logger
}

// Resolver asks DNS; net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
	LookupAddr(ctx context.Context, address string) ([]string, error)
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return o
}

var errNoPair = errors.New("KeyFile and CertFile are not presented")

// check refuses combinations that can't be meant.
func (o Options) check() error {
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return fmt.Errorf("KeyFile and CertFile must both be present[key: %s, cert: %s]", o.KeyFile, o.CertFile)
	case (o.ClientCertFile == "") != (o.ClientKeyFile == ""):
		return fmt.Errorf("ClientKeyFile and ClientCertFile must both be present or both absent: key: %s, cert: %s]",
			o.ClientKeyFile, o.ClientCertFile)
	case len(o.AllowedCNs) > 0 && len(o.AllowedHostnames) > 0:
		return fmt.Errorf("AllowedCNs and AllowedHostnames are mutually exclusive (cns=%v, hostnames=%v)",
			o.AllowedCNs, o.AllowedHostnames)
	}
	return nil
}
