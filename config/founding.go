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

// Joining reports whether a member without data is to join a running cluster, not to found one.
func (c Cluster) Joining() bool { return c.InitialState == stateExisting }

// ResolveTimeout is how long host names of the initial cluster are tried to be resolved.
const ResolveTimeout = 30 * time.Second

const resolveRetry = time.Second

// Founding is the cluster that the initial-* settings describe. Members are sorted by id.
type Founding struct {
	ClusterID uint64
	LocalID   uint64 // this member's
	Members   []FoundingMember
}

// FoundingMember is one of the members that a cluster starts with.
type FoundingMember struct {
	ID       uint64
	Name     string
	PeerURLs []string // sorted
}

// Local is this member.
func (f *Founding) Local() FoundingMember {
	i := slices.IndexFunc(f.Members, func(m FoundingMember) bool { return m.ID == f.LocalID })
	return f.Members[i] // there is always one
}

// PeerURLs are the addresses of all members but this one, sorted.
func (f *Founding) PeerURLs() []string {
	var urls []string
	for _, m := range f.Members {
		if m.ID != f.LocalID {
			urls = append(urls, m.PeerURLs...)
		}
	}
	slices.Sort(urls)
	return urls
}

// Resolver finds the addresses of a host name; net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

var errNoInitialCluster = errors.New("initial cluster unset and no discovery endpoints found")

// Founding reads the members that a cluster starts with, as name=url,name=url, and derives their ids and the cluster's
// from addresses and token. This member has to be among them, by name, with the addresses that it advertises. Only a
// member without data asks: a later start goes by what is stored, whatever the settings say.
//
// If the advertised peer addresses are not literally those of initial, host names are resolved (for up to 30 seconds, or
// until ctx ends) and compared as addresses.
//
// Source: the operations specification, 1.8 (texts) and 1.9 (ids).
func (c *Config) Founding(ctx context.Context, resolver Resolver, initial, token string) (Founding, error) {
	if initial == "" {
		return Founding{}, errNoInitialCluster
	}
	members, err := ParseInitialCluster(initial)
	if err != nil {
		return Founding{}, err
	}
	own, ok := members[c.Member.Name]
	if !ok {
		return Founding{}, fmt.Errorf("couldn't find local name %q in the initial cluster configuration", c.Member.Name)
	}
	if err := c.compareAdvertised(ctx, resolver, own); err != nil {
		return Founding{}, err
	}
	return found(members, c.Member.Name, token), nil
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

// AddressError is about an address in an initial cluster that is none. It reads as what is wrong with it.
type AddressError struct{ Cause error }

func (e *AddressError) Error() string { return e.Cause.Error() }
func (e *AddressError) Unwrap() error { return e.Cause }

// ParseInitialCluster reads name=url,name=url: the addresses of each member, by name. A name that comes again adds an address to its member.
func ParseInitialCluster(text string) (map[string]URLs, error) {
	lists := map[string][]string{}
	for _, pair := range strings.Split(text, ",") {
		if pair == "" {
			continue
		}
		name, address, _ := strings.Cut(strings.TrimSpace(pair), "=")
		lists[name] = append(lists[name], address)
	}
	members := map[string]URLs{}
	for name, list := range lists {
		urls, err := parseURLs(list)
		if err != nil {
			return nil, &AddressError{err}
		}
		members[name] = urls
	}
	seen := map[string]bool{}
	for _, urls := range members {
		for _, u := range urls {
			if seen[u.String()] {
				return nil, fmt.Errorf("initial cluster %s has duplicate url", initialClusterText(members))
			}
			seen[u.String()] = true
		}
	}
	return members, nil
}

// initialClusterText is an initial cluster as ParseInitialCluster reads it, by name and address.
func initialClusterText(members map[string]URLs) string {
	var pairs []string
	for name, urls := range members {
		for _, u := range urls {
			pairs = append(pairs, name+"="+u.String())
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// InitialClusterOf is the initial cluster of a member alone, as ParseInitialCluster reads it.
func InitialClusterOf(name string, peerURLs URLs) string {
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
	ctx, cancel := context.WithTimeout(ctx, ResolveTimeout)
	defer cancel()
	initialAddresses, err := resolveAll(ctx, resolver, initial)
	var advertisedAddresses []string
	if err == nil {
		if advertisedAddresses, err = resolveAll(ctx, resolver, advertised); err == nil &&
			slices.Equal(initialAddresses, advertisedAddresses) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("failed to resolve %s to match --initial-cluster=%s (%w)",
			advertised, InitialClusterOf(c.Member.Name, initial), err)
	}
	for _, u := range initial {
		if !advertised.contains(u) {
			return fmt.Errorf("--initial-cluster has %s=%s but missing from --initial-advertise-peer-urls=%s (%s)",
				c.Member.Name, u.String(), advertised, unequal(advertisedAddresses, initialAddresses))
		}
	}
	for _, u := range advertised {
		if !initial.contains(u) {
			return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s",
				u.String(), InitialClusterOf(c.Member.Name, initial))
		}
	}
	return nil
}

// unequal says where two lists of addresses differ first, in etcd's words.
func unequal(a, b []string) string {
	if len(a) != len(b) {
		return fmt.Sprintf("len(%q) != len(%q)", a, b)
	}
	for i := range a {
		if a[i] != b[i] {
			return fmt.Sprintf("resolved urls: %q != %q", a[i], b[i])
		}
	}
	return "resolved urls are the same"
}

// SameAddresses reports whether two lists of peer URLs, in any order, name the same addresses: literally, or once host
// names are resolved, which is tried for as long as ctx lasts. The error is the resolver's; it comes with false.
func SameAddresses(ctx context.Context, resolver Resolver, a, b []string) (bool, error) {
	first, err := parseURLs(a)
	if err != nil {
		return false, err
	}
	second, err := parseURLs(b)
	if err != nil {
		return false, err
	}
	if first.String() == second.String() {
		return true, nil
	}
	if len(first) != len(second) {
		return false, nil
	}
	firstAddresses, err := resolveAll(ctx, resolver, first)
	if err != nil {
		return false, err
	}
	secondAddresses, err := resolveAll(ctx, resolver, second)
	return err == nil && slices.Equal(firstAddresses, secondAddresses), err
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
