package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"keelson/config"
)

var (
	errNoCluster       = errors.New("could not retrieve cluster information from the given URLs")
	errCountUnequal    = errors.New("member count is unequal")
	errIncompatible    = errors.New("incompatible with current running cluster")
	errTooManyLearners = errors.New("too many learner members in cluster")
)

// join finds the place that the running cluster has for this member. described is the cluster as the settings have it;
// its ids mean nothing, since those of members added later depend on when they were added.
func (o Options) join(ctx context.Context, described config.Founding) (Beginning, error) {
	running, local, err := o.ask(ctx, described)
	if err != nil {
		return Beginning{}, err
	}
	if !o.compatible(ctx, running, local.ID) {
		return Beginning{}, errIncompatible
	}
	learners := 0
	for _, m := range running.Members {
		if m.IsLearner {
			learners++
		}
	}
	if learners > o.Config.Cluster.MaxLearners {
		return Beginning{}, errTooManyLearners
	}
	if local.started() {
		return Beginning{}, errLostData(running.ID, local.ID, o.Config.Member.DataDir)
	}
	return Beginning{ClusterID: running.ID, MemberID: local.ID, Contacts: running.Members}, nil
}

// errLostData refuses a member that comes back with nothing. It has voted and acknowledged entries, and others count on
// that: as the same member it could vote twice in a term, or let a leader take for replicated what is gone.
//
// That it has run shows in its name, which each member publishes once it follows the cluster. One that was added and has no
// name yet is let in, so that a first start that was cut short can be repeated; that it lost its data in the moments
// between its first vote and its publication, nobody else can know.
func errLostData(cluster, member uint64, dir string) error {
	return fmt.Errorf("member %x of cluster %x has run before, but there is no data of it in %s; restore the data directory, "+
		"or remove the member (member remove %x), add it again (member add) and start it with an empty data directory",
		member, cluster, dir, member)
}

// ask asks all peers, and takes the first answer, in the order of their URLs, that has a place for this member: one that
// lags behind may not have heard of it yet.
func (o Options) ask(ctx context.Context, described config.Founding) (Cluster, Member, error) {
	urls := described.PeerURLs()
	fetching, cancel := context.WithTimeout(ctx, fetchTimeout)
	answers := o.Peers.clusters(fetching, urls)
	cancel()
	resolving, cancel := context.WithTimeout(ctx, config.ResolveTimeout)
	defer cancel()
	var first error
	for i, a := range answers {
		if a.err != nil {
			o.Logger.Warn("failed to get cluster response", zap.String("address", urls[i]+"/members"), zap.Error(a.err))
			continue
		}
		local, err := o.place(resolving, described, a.value)
		if err == nil {
			return a.value, local, nil
		}
		if first == nil {
			first = fmt.Errorf("error validating peerURLs %s: %w", a.value, err)
		}
	}
	if first == nil {
		first = fmt.Errorf("cannot fetch cluster info from peer urls: %w", errNoCluster)
	}
	return Cluster{}, Member{}, first
}

// place matches the members of the running cluster with the described ones, by peer URLs, and returns the one that is to
// be this member. URLs that are literally equal are matched first, so that nothing is resolved without need.
func (o Options) place(ctx context.Context, described config.Founding, running Cluster) (Member, error) {
	if len(running.Members) != len(described.Members) {
		return Member{}, errCountUnequal
	}
	left := slices.Clone(described.Members)
	var local Member
	take := func(m Member, same func(config.FoundingMember) bool) bool {
		i := slices.IndexFunc(left, same)
		if i < 0 {
			return false
		}
		if left[i].ID == described.LocalID {
			local = m
		}
		left = slices.Delete(left, i, i+1)
		return true
	}
	var strangers []Member
	for _, m := range running.Members {
		urls := slices.Sorted(slices.Values(m.PeerURLs))
		if !take(m, func(d config.FoundingMember) bool { return slices.Equal(urls, d.PeerURLs) }) {
			strangers = append(strangers, m)
		}
	}
	for _, m := range strangers {
		var failure error
		if !take(m, func(d config.FoundingMember) bool {
			same, err := config.SameAddresses(ctx, o.Resolver, m.PeerURLs, d.PeerURLs)
			if err != nil {
				failure = err
			}
			return same
		}) {
			return Member{}, fmt.Errorf("PeerURLs: no match found for existing member (%x, %v), last resolver error (%v)",
				m.ID, m.PeerURLs, failure)
		}
	}
	return local, nil
}
