package server

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"keelson/command"
	"keelson/server/bootstrap"
	"keelson/state/members"
)

// versionsTimeout bounds the wait for one member's answer to what it is.
const versionsTimeout = 2 * time.Second

// minor is the part of a version that members have to agree on.
type minor struct{ major, minor int }

func parseMinor(version string) (m minor, ok bool) {
	_, err := fmt.Sscanf(version, "%d.%d", &m.major, &m.minor)
	return m, err == nil
}

func (m minor) String() string { return fmt.Sprintf("%d.%d.0", m.major, m.minor) }

func (m minor) before(n minor) bool {
	return m.major < n.major || m.major == n.major && m.minor < n.minor
}

// agreement says what becomes of the cluster's version.
type agreement struct {
	version string // to be set; empty: the one there is stays
	ended   bool   // the downgrade has reached its target
}

// agree decides on the cluster's version by what the members are: it rises to the lowest of them, and falls only when a
// downgrade is under way and all members are of its target. current is the version there is, target that of a downgrade
// (empty: none).
func agree(current, target string, servers []string) (a agreement) {
	now, ok := parseMinor(current)
	if !ok || len(servers) == 0 {
		return agreement{}
	}
	var lowest, highest minor
	for i, s := range servers {
		m, ok := parseMinor(s)
		if !ok {
			return agreement{}
		}
		if i == 0 || m.before(lowest) {
			lowest = m
		}
		if i == 0 || highest.before(m) {
			highest = m
		}
	}
	goal, isDowngrade := parseMinor(target)
	switch {
	case isDowngrade && lowest == goal && highest == goal:
		a.ended = true
		if now != goal {
			a.version = goal.String()
		}
	case !isDowngrade && now.before(lowest):
		a.version = lowest.String()
	}
	return a
}

// watchVersions has the leader look, once in a while, at what the members are, until ctx ends.
func (s *Server) watchVersions(ctx context.Context, peers *bootstrap.Client) {
	for {
		timer := s.clock.NewTimer(s.config.Checks.DowngradeInterval)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if !s.node.Status().Leading {
			continue
		}
		view := s.node.ReadLocal()
		set := view.Members()
		view.Close()
		if set.Version() == "" || set.Downgrade() == "" && set.Version() == clusterVersion {
			continue // nothing to do, as nearly always
		}
		servers, err := serverVersions(ctx, peers, set)
		if err != nil {
			s.logger.Warn("failed to get the version of a member", zap.Error(err))
			continue
		}
		s.settleVersion(ctx, set, agree(set.Version(), set.Downgrade(), servers))
	}
}

// serverVersions asks all members what they are.
func serverVersions(ctx context.Context, peers *bootstrap.Client, set *members.Set) (list []string, err error) {
	for _, m := range set.List() {
		v, err := serverVersion(ctx, peers, m)
		if err != nil {
			return nil, fmt.Errorf("member %x: %w", m.ID, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func serverVersion(ctx context.Context, peers *bootstrap.Client, m members.Member) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, versionsTimeout)
	defer cancel()
	for _, u := range m.PeerURLs {
		var v bootstrap.Versions
		if v, err = peers.Versions(ctx, u); err == nil {
			return v.Server, nil
		}
	}
	return "", err
}

// settleVersion carries out what was decided.
func (s *Server) settleVersion(ctx context.Context, set *members.Set, a agreement) {
	propose := func(op command.Op) bool {
		ctx, cancel := context.WithTimeout(ctx, s.config.Member.RequestTimeout())
		defer cancel()
		r, err := s.node.ProposeOwn(ctx, op)
		if err == nil {
			err = r.Refusal
		}
		if err != nil {
			s.logger.Warn("failed to change the cluster version", zap.Error(err))
		}
		return err == nil
	}
	if a.version != "" && propose(&command.ClusterVersion{Version: a.version}) {
		s.logger.Info("updated cluster version", zap.String("from", majorMinor(set.Version())), zap.String("to", majorMinor(a.version)))
	}
	if a.ended && propose(&command.Downgrade{}) {
		s.logger.Info("the cluster has been downgraded", zap.String("cluster-version", majorMinor(set.Downgrade())))
	}
}
