package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"

	"keelson/config"
	"keelson/env"
)

// Beginning is what a member without data starts from.
type Beginning struct {
	ClusterID, MemberID uint64
	// Members are those the cluster starts with, by id. Empty if the member joins: it starts from nothing, and gets the
	// state from the cluster.
	Members []config.FoundingMember
	// Contacts are the members of the cluster that is joined, as they are now: whom to answer until the state has come.
	Contacts []Member
}

// Joins reports whether there is a cluster already.
func (b Beginning) Joins() bool { return len(b.Members) == 0 }

// Resolver asks DNS; net.Resolver is one.
type Resolver interface {
	config.Resolver
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Options are what Begin works with. All fields are required.
type Options struct {
	Config   *config.Config
	Resolver Resolver
	Peers    *Client
	Clock    env.Clock // of the pauses between attempts
	Logger   *zap.Logger
}

// Error is a failure to begin. It reads as what caused it.
type Error struct{ Cause error }

func (e *Error) Error() string { return e.Cause.Error() }
func (e *Error) Unwrap() error { return e.Cause }

var errDiscoveryAndExisting = errors.New("discovery URL should not be set when joining existing initial cluster")

// Begin finds out what a member without data starts from.
//
// Errors: *Error around what spoke against it, in the words of the specification; that of ctx.
// Source: the operations specification, 1.8 (texts), 1.10 (decision) and 1.11 (discovery).
func Begin(ctx context.Context, o Options) (Beginning, error) {
	b, err := begin(ctx, o)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return Beginning{}, ctx.Err()
	}
	return Beginning{}, &Error{err}
}

func begin(ctx context.Context, o Options) (Beginning, error) {
	discovery := o.Config.Discovery
	switch {
	case o.Config.Cluster.Joining() && (len(discovery.Endpoints) > 0 || discovery.URL != ""):
		return Beginning{}, errDiscoveryAndExisting
	case discovery.URL != "":
		return o.discoverByURL(ctx)
	case len(discovery.Endpoints) > 0:
		return o.discover(ctx)
	}
	initial := o.Config.Cluster.Initial
	if discovery.SRV != "" {
		var err error
		if initial, err = o.lookUpMembers(ctx); err != nil {
			return Beginning{}, err
		}
	}
	f, err := o.Config.Founding(ctx, o.Resolver, initial, o.Config.Cluster.InitialToken)
	if _, ok := errors.AsType[*config.AddressError](err); ok {
		err = fmt.Errorf("error setting up initial cluster: %w", err)
	}
	if err != nil {
		return Beginning{}, err
	}
	if o.Config.Cluster.Joining() {
		return o.join(ctx, f)
	}
	return o.found(ctx, f)
}

// found makes sure, as far as the peers can tell, that this member has not been part of that cluster before.
func (o Options) found(ctx context.Context, f config.Founding) (Beginning, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, a := range o.Peers.clusters(ctx, f.PeerURLs()) {
		if m, ok := a.value.find(f.LocalID); a.err == nil && ok && m.started() {
			return Beginning{}, fmt.Errorf("member %x has already been bootstrapped", f.LocalID)
		}
	}
	return Beginning{ClusterID: f.ClusterID, MemberID: f.LocalID, Members: f.Members}, nil
}
