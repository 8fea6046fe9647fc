package config

import (
	"errors"
	"fmt"
	"slices"

	"keelson/api/identity"
	"keelson/internal/logging"
)

var errAdvertiseClient = errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")

// validate reports the first rule that the settings break; given holds the names of settings that were not left at
// their default. Texts are etcd's, spelling included.
func (c *Config) validate(given map[string]bool) error {
	checks := []func() error{
		c.Logging.Validate,
		c.validateListeners,
		c.validateAdvertised,
		func() error { return c.validateDiscovery(given["initial-cluster"]) },
		c.validateTicks,
		func() error {
			if len(c.Cluster.AdvertiseClientURLs) == 0 && given["listen-client-urls"] {
				return errAdvertiseClient
			}
			return nil
		},
		c.Compaction.validate,
		func() error {
			if c.Cluster.MaxLearners < 0 {
				return errors.New("membership: too many learner members in cluster")
			}
			return nil
		},
		c.TLS.Validate,
		c.Tracing.validate,
		func() error {
			if c.Checks.CompactHashInterval <= 0 {
				return fmt.Errorf("--compact-hash-check-time must be >0 (set to %v)", c.Checks.CompactHashInterval)
			}
			return nil
		},
		c.Member.Gates.check,
		c.validateSecure,
		c.Auth.validate,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func isLevelError(err error) bool { return errors.Is(err, logging.ErrLevel) }

func (c *Config) validateListeners() error {
	m := c.Member
	for _, urls := range []URLs{m.ListenPeerURLs, m.ListenClientURLs, m.ListenClientHTTPURLs, m.ListenMetricsURLs} {
		if err := checkBinding(urls); err != nil {
			return err
		}
	}
	for _, u := range m.ListenClientHTTPURLs {
		if m.ListenClientURLs.contains(u) {
			return fmt.Errorf("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url %s", u.String())
		}
	}
	return nil
}

func (c *Config) validateAdvertised() error {
	if err := checkAdvertised(c.Cluster.AdvertisePeerURLs); err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls %q must be \"host:port\" (%w)", c.Cluster.AdvertisePeerURLs, err)
	}
	if err := checkAdvertised(c.Cluster.AdvertiseClientURLs); err != nil {
		return fmt.Errorf("--advertise-client-urls %q must be in the format \"host:port\", \"unix:/path/to/socket\" or "+
			"\"unixs:/path/to/socket\" (%w)", c.Cluster.AdvertiseClientURLs, err)
	}
	return nil
}

// validateDiscovery allows at most one way of finding the first members.
func (c *Config) validateDiscovery(initialGiven bool) error {
	d := c.Discovery
	ways := 0
	for _, wanted := range []bool{initialGiven && c.Cluster.Initial != "", d.URL != "", len(d.Endpoints) > 0, d.SRV != ""} {
		if wanted {
			ways++
		}
	}
	switch {
	case c.Cluster.InitialState != stateNew && c.Cluster.InitialState != stateExisting:
		return fmt.Errorf("unexpected clusterState %q", c.Cluster.InitialState)
	case ways > 1:
		return errors.New(`multiple discovery or bootstrap flags are set. ` +
			`Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`)
	case (d.Token == "") != (len(d.Endpoints) == 0):
		return errors.New("both --discovery-token and --discovery-endpoints must be set")
	case slices.Contains(d.Endpoints, ""):
		return errors.New("--discovery-endpoints must not contain empty endpoints")
	case d.Fallback == "proxy":
		return errors.New(`v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`)
	}
	return nil
}

func (c *Config) validateTicks() error {
	heartbeat, election := c.Member.HeartbeatMillis, c.Member.ElectionMillis
	switch {
	case heartbeat == 0:
		return errors.New("--heartbeat-interval must be >0 (set to 0ms)")
	case election == 0:
		return errors.New("--election-timeout must be >0 (set to 0ms)")
	case election/heartbeatsPerElectionMin < heartbeat:
		return fmt.Errorf("--election-timeout[%dms] should be at least as 5 times as --heartbeat-interval[%dms]", election, heartbeat)
	case election > electionMillisMax:
		return fmt.Errorf("--election-timeout[%dms] is too long, and should be set less than %dms", election, electionMillisMax)
	}
	return nil
}

// validateSecure refuses addresses that promise TLS without a certificate to keep the promise, and half pairs.
func (c *Config) validateSecure() error {
	client, peer := c.ClientTLS, c.PeerTLS
	if err := errors.Join(
		checkPair(client.CertFile, client.KeyFile, client.ClientCertFile, client.ClientKeyFile),
		checkPair(peer.CertFile, peer.KeyFile, peer.ClientCertFile, peer.ClientKeyFile),
	); err != nil {
		return err
	}
	hasClientPair := client.CertFile != "" || client.Auto
	hasPeerPair := peer.CertFile != "" || peer.Auto
	for _, u := range c.Member.ListenPeerURLs {
		if Secure(u) && !hasPeerPair {
			return fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", u.Host)
		}
	}
	for _, u := range slices.Concat(c.Member.ListenClientURLs, c.Member.ListenClientHTTPURLs) {
		if Secure(u) && !hasClientPair {
			return fmt.Errorf("TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", u.String())
		}
	}
	for _, u := range c.Member.ListenMetricsURLs {
		if Secure(u) && !hasClientPair {
			return errors.New("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
		}
	}
	for _, names := range [][2][]string{{client.AllowedCNs, client.AllowedHostnames}, {peer.AllowedCNs, peer.AllowedHostnames}} {
		if len(names[0]) > 0 && len(names[1]) > 0 {
			return fmt.Errorf("AllowedCNs and AllowedHostnames are mutually exclusive (cns=%q, hostnames=%q)", names[0], names[1])
		}
	}
	return nil
}

// checkPair refuses a certificate without its key, and the reverse.
func checkPair(cert, key, clientCert, clientKey string) error {
	switch {
	case (cert == "") != (key == ""):
		return fmt.Errorf("KeyFile and CertFile must both be present[key: %s, cert: %s]", key, cert)
	case (clientCert == "") != (clientKey == ""):
		return fmt.Errorf("ClientKeyFile and ClientCertFile must both be present or both absent: key: %s, cert: %s]", clientKey, clientCert)
	}
	return nil
}

const samplingRateMax = 1000000

func (t Tracing) validate() error {
	if !t.Enabled {
		return nil
	}
	const invalid = "distributed tracing configurition is not valid: (%s)"
	switch {
	case t.PerMillion < 0:
		return fmt.Errorf(invalid, "tracing sampling rate must be positive")
	case t.PerMillion > samplingRateMax:
		return fmt.Errorf(invalid, fmt.Sprintf("tracing sampling rate must be less than %d", samplingRateMax))
	}
	return nil
}

func (a Auth) validate() error { return identity.Validate(a.Token) }
