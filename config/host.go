package config

import (
	"fmt"
	"net"
)

// DefaultHost is the address that packets to the outside leave from. Nothing is sent to find out: connecting a
// datagram socket only asks the routing table.
func DefaultHost() (string, error) {
	const outside = "192.0.2.1:9" // documentation network, RFC 5737
	conn, err := net.Dial("udp4", outside)
	if err != nil {
		return "", fmt.Errorf("config: default route: %w", err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

// LocalAddress is the address that connections to other members come from, with the feature gate SetMemberLocalAddr: the
// first among the advertised peer addresses that is no loopback. Empty: as the system sees fit.
func (c *Config) LocalAddress() string {
	if !c.Member.Gates.Enabled(GateSetMemberLocalAddr) {
		return ""
	}
	for _, u := range c.Cluster.AdvertisePeerURLs {
		if ip := net.ParseIP(u.Hostname()); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
			return ip.String()
		}
	}
	return ""
}
