package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"keelson/config"
)

// lookUpMembers makes an initial cluster of the SRV records of a domain: those of _etcd-server-ssl._tcp, then those of
// _etcd-server._tcp. The record whose address is one that this member advertises is given its name, the others get
// numbers: names of others have no meaning, ids follow from addresses.
//
// Source: the operations specification, 1.11.
func (o Options) lookUpMembers(ctx context.Context) (string, error) {
	own, err := o.ownAddresses(ctx)
	if err != nil {
		return "", err
	}
	l := lookup{o: o, own: own}
	domain, suffix := o.Config.Discovery.SRV, o.Config.Discovery.SRVName
	if suffix != "" {
		suffix = "-" + suffix
	}
	errSecure := l.add(ctx, "https", "etcd-server-ssl"+suffix, domain)
	errPlain := l.add(ctx, "http", "etcd-server"+suffix, domain)
	switch {
	case len(l.pairs) == 0:
		return "", fmt.Errorf("error setting up initial cluster: %w", errors.Join(errSecure, errPlain))
	case !l.found:
		return "", fmt.Errorf("cannot find local etcd member %q in SRV records", o.Config.Member.Name)
	}
	return strings.Join(l.pairs, ","), nil
}

// lookup gathers records.
type lookup struct {
	o     Options
	own   map[string]string // scheme of each address that this member advertises
	pairs []string          // name=url
	named int               // others so far
	found bool              // this member
}

func (l *lookup) add(ctx context.Context, scheme, service, domain string) error {
	_, records, err := l.o.Resolver.LookupSRV(ctx, service, "tcp", domain)
	if err != nil {
		return fmt.Errorf("error querying DNS SRV records for _%s %w", service, err)
	}
	var failure error
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		port := strconv.Itoa(int(r.Port))
		address, err := l.o.address(ctx, host, port)
		if err != nil {
			l.o.Logger.Warn("failed to resolve the host of an SRV record", zap.String("host", host), zap.Error(err))
			failure = err
			continue
		}
		ownScheme, isOwn := l.own[address]
		if isOwn && ownScheme != scheme {
			l.o.Logger.Warn("an SRV record has this member's address with another scheme than is advertised",
				zap.String("address", address), zap.String("scheme", scheme), zap.String("advertised-scheme", ownScheme))
			failure = fmt.Errorf("%s at %s from DNS, but %s is advertised", scheme, address, ownScheme)
			continue
		}
		name := l.o.Config.Member.Name
		if !isOwn {
			name = strconv.Itoa(l.named)
			l.named++
		}
		l.found = l.found || isOwn
		l.pairs = append(l.pairs, name+"="+scheme+"://"+net.JoinHostPort(host, port))
	}
	if len(records) == 0 {
		return fmt.Errorf("SRV records _%s._tcp.%s: there are none", service, domain)
	}
	return failure
}

// ownAddresses resolves what this member advertises.
func (o Options) ownAddresses(ctx context.Context) (map[string]string, error) {
	own := map[string]string{}
	for _, u := range o.Config.Cluster.AdvertisePeerURLs {
		if config.SocketPath(u) != "" {
			continue // no SRV record can name it
		}
		address, err := o.address(ctx, u.Hostname(), u.Port())
		if err != nil {
			return nil, fmt.Errorf("failed to resolve --initial-advertise-peer-urls %s: %w", u.String(), err)
		}
		own[address] = u.Scheme
	}
	return own, nil
}

// address is host:port with the smallest of the host's addresses, by which hosts are compared: resolvers turn lists around
// from one question to the next.
func (o Options) address(ctx context.Context, host, port string) (string, error) {
	if net.ParseIP(host) != nil {
		return net.JoinHostPort(host, port), nil
	}
	addresses, err := o.Resolver.LookupHost(ctx, host)
	if err == nil && len(addresses) == 0 {
		err = fmt.Errorf("host %s has no address", host)
	}
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(slices.Min(addresses), port), nil
}
