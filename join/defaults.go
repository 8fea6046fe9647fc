package join

import (
	"fmt"
	"net"
	"net/url"
	"slices"

	"keelson/config"
)

const (
	peerPort   = "2380"
	clientPort = "2379"
	loopback   = "127.0.0.1"
)

// complete returns the flags for what was not given and has no useful default for a machine that joins: its name, and
// addresses at which others can reach it. local is the address that packets to the cluster leave from.
func (l line) complete(hostname, local string) ([]string, error) {
	var flags []string
	add := func(name, value string) { flags = append(flags, "--"+name+"="+value) }
	if !l.isGiven("name") {
		if hostname == "" {
			return nil, fmt.Errorf("this machine has no host name: give the member a --name")
		}
		add("name", hostname)
	}
	scheme := l.peers[0].Scheme
	if config.SocketPath(l.peers[0]) != "" {
		scheme = "http"
	}
	peer := scheme + "://" + net.JoinHostPort(local, peerPort)
	towardsClients := "http"
	if l.isGiven("cert-file", "auto-tls") {
		towardsClients = "https"
	}
	clients := towardsClients + "://" + net.JoinHostPort(local, clientPort)
	if local != loopback {
		clients += "," + towardsClients + "://" + net.JoinHostPort(loopback, clientPort)
	}
	for _, c := range []struct{ listen, advertise, initial string }{
		{"listen-peer-urls", "initial-advertise-peer-urls", peer},
		{"listen-client-urls", "advertise-client-urls", clients},
	} {
		listen := c.initial
		if l.isGiven(c.listen) {
			listen = l.given[c.listen]
		} else {
			add(c.listen, listen)
		}
		if l.isGiven(c.advertise) {
			continue
		}
		advertised, err := reachable(listen, local)
		if err != nil {
			return nil, fmt.Errorf("--%s=%s: %w", c.listen, listen, err)
		}
		add(c.advertise, advertised)
	}
	return flags, nil
}

// reachable makes of addresses to listen on those to advertise: local in place of all addresses, and the machine's own
// loopback only if there is nothing else.
func reachable(listen, local string) (string, error) {
	var urls config.URLs
	if err := urls.Set(listen); err != nil {
		return "", err
	}
	isLoopback := func(u url.URL) bool {
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	}
	for i, u := range urls {
		if ip := net.ParseIP(u.Hostname()); config.SocketPath(u) == "" && (u.Hostname() == "" || ip != nil && ip.IsUnspecified()) {
			urls[i].Host = net.JoinHostPort(local, u.Port())
		}
	}
	if outside := slices.DeleteFunc(slices.Clone(urls), isLoopback); len(outside) > 0 {
		urls = outside
	}
	return urls.String(), nil
}

// localAddress is the address that packets to u leave from. Nothing is sent to find out: connecting a datagram socket
// only asks the routing table.
func localAddress(u url.URL) (string, error) {
	if config.SocketPath(u) != "" {
		return loopback, nil
	}
	conn, err := net.Dial("udp", u.Host)
	if err != nil {
		return "", fmt.Errorf("no way to %s (%w): check --peer, or the network", u.Host, err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}

// checkListen refuses to join when this machine can't listen where the member would: better now than once it is added.
func checkListen(c *config.Config) error {
	for _, urls := range []struct {
		flag string
		list config.URLs
	}{
		{"listen-peer-urls", c.Member.ListenPeerURLs},
		{"listen-client-urls", c.Member.ListenClientURLs},
	} {
		for _, u := range urls.list {
			if config.SocketPath(u) != "" {
				continue
			}
			l, err := net.Listen("tcp", u.Host)
			if err != nil {
				return fmt.Errorf("can't listen on %s (%w): give other --%s", u.Host, err, urls.flag)
			}
			if err := l.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}
