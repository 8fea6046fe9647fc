package bootstrap

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"keelson/config"
)

// version is the part of a version that says who can work with whom.
type version struct{ major, minor int }

// oldest is the oldest cluster version that may be joined; the newest is our own.
var oldest = version{3, 0}

func parseVersion(text string) (version, error) {
	var v version
	if _, err := fmt.Sscanf(text, "%d.%d", &v.major, &v.minor); err != nil {
		return version{}, fmt.Errorf("version %q: %w", text, err)
	}
	return v, nil
}

func (v version) before(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// compatible reports whether at least one other member is reached and has a cluster version, and every such version is
// one that we can work with.
func (o Options) compatible(ctx context.Context, running Cluster, local uint64) bool {
	newest, err := parseVersion(config.APIVersion)
	if err != nil {
		panic("bootstrap: own " + err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	found := false
	for i, a := range each(running.Members, func(m Member) (Versions, error) { return o.versions(ctx, m) }) {
		m := running.Members[i]
		if m.ID == local {
			continue
		}
		if a.err != nil {
			o.Logger.Warn("failed to reach the peer URL", zap.String("remote-member-id", fmt.Sprintf("%x", m.ID)), zap.Error(a.err))
			continue
		}
		v, err := parseVersion(a.value.Cluster)
		if err != nil {
			o.Logger.Warn("failed to parse cluster version", zap.String("remote-member-id", fmt.Sprintf("%x", m.ID)), zap.Error(err))
			continue
		}
		if v.before(oldest) || newest.before(v) {
			o.Logger.Warn("cluster version is not compatible", zap.String("remote-member-id", fmt.Sprintf("%x", m.ID)),
				zap.String("remote-member-cluster-version", a.value.Cluster), zap.String("own-version", config.APIVersion))
			return false
		}
		found = true
	}
	return found
}

// versions asks a member at each of its URLs until one answers.
func (o Options) versions(ctx context.Context, m Member) (v Versions, err error) {
	err = fmt.Errorf("member %x has no peer URL", m.ID)
	for _, u := range m.PeerURLs {
		if v, err = o.Peers.Versions(ctx, u); err == nil {
			return v, nil
		}
	}
	return v, err
}
