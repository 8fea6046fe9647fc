package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"keelson/state/members"
)

const (
	stateNew      = "new"
	stateExisting = "existing"
)

// How long host names of the initial cluster are tried to be resolved.
const (
	resolveTimeout = 30 * time.Second
	resolveRetry   = time.Second
)

// Founding is the cluster that a first start founds. Members are sorted by id.
type Founding struct {
	ClusterID uint64
	LocalID   uint64 // this member's
	Members   []FoundingMember
}

// FoundingMember is one member of a cluster to be founded.
type FoundingMember struct {
	ID       uint64
	Name     string
	PeerURLs []string // sorted
}

// Resolver finds the addresses of a host name; net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

var errNoInitialCluster = errors.New("initial cluster unset and no discovery endpoints found")

// Founding derives the cluster to found from the initial-* settings. Only a member without data asks: a later start
// goes by what is stored, whatever the settings say.
//
// If the advertised peer addresses are not literally those of the initial cluster, host names are resolved (for up to
// 30 seconds, or until ctx ends) and compared as addresses.
//
// Source: the operations specification, 1.8 (texts) and 1.9 (ids).
func (c *Config) Founding(ctx context.Context, resolver Resolver) (Founding, error) {
	if c.Cluster.InitialState == stateExisting {
		return Founding{}, errors.New("--initial-cluster-state=existing asks for joining a cluster, which this version does not do yet")
	}
	if c.Cluster.Initial == "" {
		return Founding{}, errNoInitialCluster
	}
	initial, err := parseInitialCluster(c.Cluster.Initial)
	if err != nil {
		return Founding{}, err
	}
	own, ok := initial[c.Member.Name]
	if !ok {
		return Founding{}, fmt.Errorf("couldn't find local name %q in the initial cluster configuration", c.Member.Name)
	}
	if err := c.compareAdvertised(ctx, resolver, own); err != nil {
		return Founding{}, err
	}
	if len(initial) > 1 {
		return Founding{}, fmt.Errorf("--initial-cluster names %d members; this version runs clusters of one", len(initial))
	}
	return found(initial, c.Member.Name, c.Cluster.InitialToken), nil
}

// found computes the ids of a new cluster.
func found(initial map[string]URLs, local, token string) Founding {
	var f Founding
	for name, urls := range initial {
		m := FoundingMember{ID: members.ID(urls.Strings(), token, 0), Name: name, PeerURLs: urls.Strings()}
		if name == local {
			f.LocalID = m.ID
		}
		f.Members = append(f.Members, m)
	}
	slices.SortFunc(f.Members, func(a, b FoundingMember) int { return cmp.Compare(a.ID, b.ID) })
	var ids []uint64
	for _, m := range f.Members {
		ids = append(ids, m.ID)
	}
	f.ClusterID = members.ClusterID(ids)
	return f
}

// parseInitialCluster reads name=url,name=url. A name that comes again adds an address to its member.
func parseInitialCluster(text string) (map[string]URLs, error) {
	lists := map[string][]string{}
	for _, pair := range strings.Split(text, ",") {
		name, address, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || address == "" {
			return nil, fmt.Errorf("empty URL given for %q", name)
		}
		lists[name] = append(lists[name], address)
	}
	members := map[string]URLs{}
	seen := map[string]bool{}
	for name, list := range lists {
		urls, err := parseURLs(list)
		if err != nil {
			return nil, err
		}
		for _, u := range urls {
			if seen[u.String()] {
				return nil, fmt.Errorf("initial cluster %s has duplicate url", text)
			}
			seen[u.String()] = true
		}
		members[name] = urls
	}
	return members, nil
}

// initialClusterOf is the initial cluster of a member alone.
func initialClusterOf(name string, peerURLs URLs) string {
	pairs := make([]string, len(peerURLs))
	for i, u := range peerURLs.Strings() {
		pairs[i] = name + "=" + u
	}
	return strings.Join(pairs, ",")
}

// compareAdvertised refuses a member that would be known under other addresses than it advertises.
func (c *Config) compareAdvertised(ctx context.Context, resolver Resolver, initial URLs) error {
	advertised := c.Cluster.AdvertisePeerURLs
	if advertised.String() == initial.String() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	mismatch := "host names were compared as addresses"
	initialAddresses, err := resolveAll(ctx, resolver, initial)
	if err == nil {
		var advertisedAddresses []string
		if advertisedAddresses, err = resolveAll(ctx, resolver, advertised); err == nil &&
			slices.Equal(initialAddresses, advertisedAddresses) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("failed to resolve %s to match --initial-cluster=%s (%w)",
			advertised, initialClusterOf(c.Member.Name, initial), err)
	}
	for _, u := range initial {
		if !advertised.contains(u) {
			return fmt.Errorf("--initial-cluster has %s=%s but missing from --initial-advertise-peer-urls=%s (%s)",
				c.Member.Name, u.String(), advertised, mismatch)
		}
	}
	for _, u := range advertised {
		if !initial.contains(u) {
			return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s",
				u.String(), initialClusterOf(c.Member.Name, initial))
		}
	}
	return nil
}

// resolveAll is urls with addresses in place of host names, sorted, trying again every second while ctx lasts.
func resolveAll(ctx context.Context, resolver Resolver, urls URLs) ([]string, error) {
	var list []string
	for _, u := range urls {
		resolved, err := resolve(ctx, resolver, u)
		if err != nil {
			return nil, err
		}
		list = append(list, resolved)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func resolve(ctx context.Context, resolver Resolver, u url.URL) (string, error) {
	host := u.Hostname()
	if SocketPath(u) != "" || host == "localhost" || net.ParseIP(host) != nil {
		return u.String(), nil
	}
	for {
		addresses, err := resolver.LookupHost(ctx, host)
		if err == nil && len(addresses) == 0 {
			err = fmt.Errorf("host %s has no address", host)
		}
		if err == nil {
			slices.Sort(addresses)
			u.Host = net.JoinHostPort(addresses[0], u.Port())
			return u.String(), nil
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(resolveRetry):
		}
	}
}
