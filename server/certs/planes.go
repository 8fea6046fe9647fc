package certs

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"keelson/config"
)

// ForClients makes the client plane. If the settings want one, and none is there yet, a certificate is made in the data
// directory.
func ForClients(c *config.Config, logger *zap.Logger) (*Plane, error) {
	s, listen := c.ClientTLS, c.Member.ListenClientURLs
	o := shared(c.TLS, "client", logger)
	o.CertFile, o.KeyFile, o.ClientCertFile, o.ClientKeyFile = s.CertFile, s.KeyFile, s.ClientCertFile, s.ClientKeyFile
	o.TrustedCAFile, o.ClientCertAuth, o.CRLFile = s.TrustedCAFile, s.ClientCertAuth, s.CRLFile
	o.AllowedCNs, o.AllowedHostnames = s.AllowedCNs, s.AllowedHostnames
	listen = slices.Concat(listen, c.Member.ListenClientHTTPURLs, c.Member.ListenMetricsURLs)
	return o.plane(c, s.Auto, listen)
}

// ForPeers makes the peer plane, in the same way.
func ForPeers(c *config.Config, logger *zap.Logger) (*Plane, error) {
	s, listen := c.PeerTLS, c.Member.ListenPeerURLs
	o := shared(c.TLS, "peer", logger)
	o.CertFile, o.KeyFile, o.ClientCertFile, o.ClientKeyFile = s.CertFile, s.KeyFile, s.ClientCertFile, s.ClientKeyFile
	o.TrustedCAFile, o.ClientCertAuth, o.CRLFile = s.TrustedCAFile, s.ClientCertAuth, s.CRLFile
	o.AllowedCNs, o.AllowedHostnames = s.AllowedCNs, s.AllowedHostnames
	o.CheckAddresses = !s.SkipSANVerification
	if c.Discovery.SRV != "" && s.TrustedCAFile == "" {
		o.ServerName = c.Discovery.SRV
	}
	return o.plane(c, s.Auto, listen)
}

func shared(t config.TLS, endpoint string, logger *zap.Logger) Options {
	o := Options{Endpoint: endpoint, Suites: t.Suites(), Logger: logger}
	o.VersionMin, o.VersionMax = t.Versions()
	return o
}

// plane makes a plane that may have to make its certificate itself.
func (o Options) plane(c *config.Config, auto bool, listen config.URLs) (*Plane, error) {
	if auto && (o.CertFile != "" || o.KeyFile != "") {
		o.Logger.Warn("ignoring " + o.Endpoint + " auto TLS since certs given")
		auto = false
	}
	if auto && slices.ContainsFunc(listen, config.Secure) {
		dir := filepath.Join(c.Member.DataDir, "fixtures", o.Endpoint)
		if err := o.MakeOwn(dir, hostsOf(listen), c.TLS.SelfSignedYears); err != nil {
			return nil, err
		}
		if o.Endpoint == "peer" {
			o.demandNothing()
		}
	}
	p, err := New(o)
	if err != nil {
		return nil, fmt.Errorf("%s TLS: %w", o.Endpoint, err)
	}
	return p, nil
}

// MakeOwn makes a certificate for hosts in a directory, unless there is one, and uses it. Whoever else shows such a
// certificate is not asked to prove it.
func (o *Options) MakeOwn(dir string, hosts []string, years uint) error {
	var made bool
	var err error
	now := time.Now()
	if o.CertFile, o.KeyFile, made, err = makeOwn(dir, hosts, years, now); err != nil {
		return fmt.Errorf("auto TLS: %w", err)
	}
	if made {
		o.Logger.Warn("automatically generate certificates",
			zap.Time("certificate-validity-bound-not-after", now.Add(time.Duration(years)*dayOfYear)))
	}
	o.Unverified = true
	return nil
}

// demandNothing takes back what certificates have to be like: those that the others have made themselves are nothing of it.
func (o *Options) demandNothing() {
	if !o.ClientCertAuth && o.TrustedCAFile == "" {
		return
	}
	o.Logger.Warn("what is demanded of " + o.Endpoint + " certificates is ignored: with auto TLS, nobody vouches for them")
	o.ClientCertAuth, o.TrustedCAFile, o.AllowedCNs, o.AllowedHostnames = false, "", nil, nil
}

func hostsOf(urls config.URLs) []string {
	var hosts []string
	for _, u := range urls {
		if host := hostOf(u); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func hostOf(u url.URL) string {
	if config.SocketPath(u) != "" {
		return "localhost"
	}
	return u.Hostname()
}
