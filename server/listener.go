package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"go.uber.org/zap"

	"keelson/config"
	"keelson/env"
	"keelson/server/certs"
	"keelson/server/mux"
)

// purpose is what a listener is for.
type purpose string

// Purposes, as the log names them.
const (
	forEverything purpose = "grpc+http"
	forGRPC       purpose = "grpc"
	forHTTP       purpose = "http"
	forMetrics    purpose = "metrics"
	forPeers      purpose = "peer"
)

// listener is one bound address. It is plain, secure, or both: then each connection shows which it is.
type listener struct {
	net.Listener
	purpose       purpose
	address       string // that was asked for
	plain, secure bool
}

// listen binds all addresses that clients come to. It is done before the data is opened, so that a clash of addresses
// is found before anything is written.
func listen(ctx context.Context, c *config.Config) ([]listener, error) {
	clients := forEverything
	if len(c.Member.ListenClientHTTPURLs) > 0 {
		clients = forGRPC
	}
	var list []listener
	for _, urls := range []struct {
		list config.URLs
		p    purpose
	}{
		{c.Member.ListenClientURLs, clients},
		{c.Member.ListenClientHTTPURLs, forHTTP},
		{c.Member.ListenMetricsURLs, forMetrics},
	} {
		more, err := listenAll(ctx, listening(c), urls.list, urls.p)
		list = append(list, more...)
		if err != nil {
			closeAll(list)
			return nil, err
		}
	}
	return list, nil
}

// listenAll binds the addresses of one purpose. One that is given with and without TLS is bound once. After an error, what
// was bound is to be closed.
func listenAll(ctx context.Context, network env.Network, urls config.URLs, p purpose) ([]listener, error) {
	var list []listener
	for _, u := range urls {
		address := u.Host
		if path := config.SocketPath(u); path != "" {
			address = path
		}
		at := -1
		for i := range list {
			if list[i].address == address {
				at = i
			}
		}
		if at < 0 {
			l, err := listenOn(ctx, network, u)
			if err != nil {
				return list, err
			}
			at = len(list)
			list = append(list, listener{Listener: l, purpose: p, address: address})
		}
		if config.Secure(u) {
			list[at].secure = true
		} else {
			list[at].plain = true
		}
	}
	return list, nil
}

func listenOn(ctx context.Context, network env.Network, u url.URL) (net.Listener, error) {
	if path := config.SocketPath(u); path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("listen on %s: %w", u.String(), err)
		}
		return network.Listen(ctx, "unix", path)
	}
	return network.Listen(ctx, "tcp", u.Host) // whose error names the address
}

// listening is the network with the options that listeners want.
func listening(c *config.Config) env.Network {
	return env.NewNetwork(env.NetworkOptions{ReusePort: c.Member.SocketReusePort, ReuseAddress: c.Member.SocketReuseAddress})
}

// networkToPeers is the network by which other members are dialed.
func networkToPeers(c *config.Config, logger *zap.Logger) env.Network {
	if !c.Member.Gates.Enabled(config.GateSetMemberLocalAddr) {
		return env.SystemNetwork()
	}
	logger.Info("searching for a suitable member local address in AdvertisePeerURLs",
		zap.Strings("advertise-peer-urls", c.Cluster.AdvertisePeerURLs.Strings()))
	address := c.LocalAddress()
	if address == "" {
		logger.Warn("unable to set a member local address due to lack of suitable local addresses")
		return env.SystemNetwork()
	}
	logger.Info("setting member local address", zap.String("LocalAddr", address))
	return env.NewNetwork(env.NetworkOptions{LocalIP: net.ParseIP(address)})
}

func closeAll(list []listener) error {
	var errs []error
	for _, l := range list {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// sorter makes the mux in front of a listener.
//
// Errors: it is to speak TLS, and the plane has no certificate.
func (l listener) sorter(plane *certs.Plane, traffic *mux.Traffic, limit *mux.Limit, shed func() bool) (*mux.Mux, error) {
	o := mux.Options{Traffic: traffic, Limit: limit, Shed: shed, SecureOnly: !l.plain, Whole: l.purpose != forEverything}
	if l.secure {
		protocols := []string{"h2", "http/1.1"}
		if l.purpose == forGRPC {
			protocols = protocols[:1]
		}
		acceptor, err := plane.Acceptor(protocols...)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on TLS for %s: %w", l.address, err)
		}
		o.Secure = acceptor.Accept
	}
	return mux.New(l, o), nil
}

// warnPlain says of addresses without TLS what is ignored there.
func warnPlain(logger *zap.Logger, urls config.URLs, what string, hasPair bool, clientCertAuth string) {
	for _, u := range urls {
		if config.Secure(u) {
			continue
		}
		if hasPair {
			logger.Warn(what+" while key and cert files are present; ignoring key and cert files", zap.String("url", u.String()))
		}
		if clientCertAuth != "" {
			logger.Warn(what+" while "+clientCertAuth+" is enabled; ignoring client cert auth for this URL", zap.String("url", u.String()))
		}
	}
}

// planes are the member's two identities.
type planes struct{ clients, peers *certs.Plane }

func newPlanes(c *config.Config, logger *zap.Logger) (p planes, err error) {
	clientAuth, peerAuth := "", "" // certificates made by auto-tls ask for none
	if c.ClientTLS.ClientCertAuth && (c.ClientTLS.CertFile != "" || !c.ClientTLS.Auto) {
		clientAuth = "--client-cert-auth"
	}
	if c.PeerTLS.ClientCertAuth && (c.PeerTLS.CertFile != "" || !c.PeerTLS.Auto) {
		peerAuth = "--peer-client-cert-auth"
	}
	hasClientPair := c.ClientTLS.Auto || c.ClientTLS.CertFile != ""
	warnPlain(logger, c.Member.ListenPeerURLs, "scheme is HTTP", c.PeerTLS.Auto || c.PeerTLS.CertFile != "", peerAuth)
	warnPlain(logger, c.Member.ListenClientURLs, "scheme is http or unix", hasClientPair, clientAuth)
	warnPlain(logger, c.Member.ListenClientHTTPURLs, "scheme is http or unix", hasClientPair, clientAuth)
	if p.clients, err = certs.ForClients(c, logger); err != nil {
		return p, err
	}
	p.peers, err = certs.ForPeers(c, logger)
	return p, err
}
