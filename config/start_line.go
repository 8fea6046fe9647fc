package config

import (
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// StartMessage is the log line that opens a member's life.
const StartMessage = "starting an etcd server"

// MemberDir is where the member's own files are.
func (c *Config) MemberDir() string { return filepath.Join(c.Member.DataDir, "member") }

// WALDir is where the raft log is.
func (c *Config) WALDir() string {
	if c.Member.WALDir != "" {
		return c.Member.WALDir
	}
	return filepath.Join(c.MemberDir(), "wal")
}

// SnapDir is where the state is.
func (c *Config) SnapDir() string { return filepath.Join(c.MemberDir(), "snap") }

// StartFields are the fields of the start line: the whole configuration in effect, in the order that log parsers know.
// initialized reports whether the data directory held a member already.
//
// Source: the operations specification, 1.14.
func (c *Config) StartFields(initialized bool) []zap.Field {
	m, auto := c.Member, c.Compaction.Auto()
	retention := auto.Period
	if auto.Revisions > 0 {
		retention = time.Duration(auto.Revisions)
	}
	fields := []zap.Field{
		zap.String("etcd-version", APIVersion),
		zap.String("git-sha", GitSHA),
		zap.String("go-version", runtime.Version()),
		zap.String("go-os", runtime.GOOS),
		zap.String("go-arch", runtime.GOARCH),
		zap.Int("max-cpu-set", runtime.GOMAXPROCS(0)),
		zap.Int("max-cpu-available", runtime.NumCPU()),
		zap.Bool("member-initialized", initialized),
		zap.String("name", m.Name),
		zap.String("data-dir", m.DataDir),
		zap.String("wal-dir", m.WALDir),
		zap.String("wal-dir-dedicated", m.WALDir),
		zap.String("member-dir", c.MemberDir()),
		zap.Bool("force-new-cluster", c.Unsafe.ForceNewCluster),
		zap.String("heartbeat-interval", m.Heartbeat().String()),
		zap.String("election-timeout", m.Election().String()),
		zap.Bool("initial-election-tick-advance", m.TickAdvance),
		zap.Uint64("snapshot-count", c.Storage.SnapshotCount),
		zap.Uint("max-wals", c.Storage.MaxWALs),
		zap.Uint("max-snapshots", c.Storage.MaxSnapshots),
		zap.Uint64("snapshot-catchup-entries", c.Storage.CatchUpEntries),
		zap.Strings("initial-advertise-peer-urls", c.Cluster.AdvertisePeerURLs.Strings()),
		zap.Strings("listen-peer-urls", m.ListenPeerURLs.Strings()),
		zap.Strings("advertise-client-urls", c.Cluster.AdvertiseClientURLs.Strings()),
		zap.Strings("listen-client-urls", m.ListenClientURLs.Strings()),
		zap.Strings("listen-metrics-urls", m.ListenMetricsURLs.Strings()),
		zap.String("local-address", c.LocalAddress()),
		zap.Strings("cors", sorted(c.HTTP.Origins)),
		zap.Strings("host-whitelist", sorted(c.HTTP.HostWhitelist)),
		zap.String("initial-cluster", c.Cluster.initialForLog()),
		zap.String("initial-cluster-state", c.Cluster.InitialState),
		zap.String("initial-cluster-token", c.Cluster.InitialToken),
		zap.Int64("quota-backend-bytes", c.Limits.QuotaBytes),
		zap.Uint("max-request-bytes", c.Limits.MaxRequestBytes),
		zap.Uint32("max-concurrent-streams", c.Limits.MaxConcurrentStreams),
		zap.Bool("pre-vote", m.PreVote),
		zap.String("feature-gates", m.Gates.String()),
		zap.Bool("initial-corrupt-check", m.Gates.Enabled(GateInitialCorruptCheck)),
		zap.String("corrupt-check-time-interval", c.Checks.CorruptInterval.String()),
		zap.Duration("compact-check-time-interval", c.Checks.CompactHashInterval),
		zap.String("auto-compaction-mode", c.Compaction.AutoMode),
		zap.Duration("auto-compaction-retention", retention),
		zap.String("auto-compaction-interval", retention.String()),
	}
	fields = append(fields, c.Discovery.fields()...)
	return append(fields,
		zap.String("downgrade-check-interval", c.Checks.DowngradeInterval.String()),
		zap.Int("max-learners", c.Cluster.MaxLearners),
		zap.String("v2-deprecation", c.Cluster.V2Deprecation),
		zap.String("keelson-version", Version),
	)
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// initialForLog is the initial cluster by name and address, or as it was given if it can't be read.
func (c Cluster) initialForLog() string {
	members, err := ParseInitialCluster(c.Initial)
	if err != nil {
		return c.Initial
	}
	return initialClusterText(members)
}

func (d Discovery) fields() []zap.Field {
	return []zap.Field{
		zap.String("discovery-token", d.Token),
		zap.String("discovery-endpoints", strings.Join(d.Endpoints, ",")),
		zap.String("discovery-dial-timeout", d.DialTimeout.String()),
		zap.String("discovery-request-timeout", d.RequestTimeout.String()),
		zap.String("discovery-keepalive-time", d.KeepaliveTime.String()),
		zap.String("discovery-keepalive-timeout", d.KeepaliveTimeout.String()),
		zap.Bool("discovery-insecure-transport", d.InsecureTransport),
		zap.Bool("discovery-insecure-skip-tls-verify", d.InsecureSkipVerify),
		zap.String("discovery-cert", d.CertFile),
		zap.String("discovery-key", d.KeyFile),
		zap.String("discovery-cacert", d.CAFile),
		zap.String("discovery-user", d.User),
	}
}
