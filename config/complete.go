package config

import (
	"fmt"
	"net"
	"net/url"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What zero stands for where zero stands for something.
const (
	quotaBytesDefault        = 2 << 30
	quotaBytesRecommended    = 8 << 30
	snapshotCountDefault     = 10000
	compactionBatchDefault   = 1000
	progressIntervalDefault  = 10 * time.Minute
	unaryWarningDefault      = 300 * time.Millisecond
	raftTimeoutMin           = 5 * time.Second
	requestBytesRecommended  = 10 << 20
	nameDefault              = "default"
	clientURLDefault         = "http://localhost:2379"
	peerURLDefault           = "http://localhost:2380"
	selfSignedYearsDefault   = 1
	v2DeprecationAlways      = "write-only"
	authTokenTTLDefault      = 300
	bcryptCostDefault        = 10
	bcryptCostMin            = 4
	bcryptCostMax            = 31
	heartbeatsPerElectionMin = 5
	electionMillisMax        = 50000
)

// complete turns what was gathered into a whole, valid configuration.
func (l *loader) complete() error {
	c := l.config
	if err := l.switchOldGates(); err != nil {
		return l.refuse(err)
	}
	l.deprecations()
	if c.File == "" && l.given["listen-client-urls"] && !l.given["advertise-client-urls"] {
		c.Cluster.AdvertiseClientURLs = nil
	}
	l.chooseInitialCluster()
	if err := c.validate(l.given); err != nil {
		exit := l.refuse(err)
		if err == errAdvertiseClient {
			l.note(zapcore.WarnLevel, "advertise client URLs are not set", zap.Error(err))
			exit.Notes = l.notes
		}
		if isLevelError(err) {
			exit.Code, exit.Notes, exit.Stderr = exitUsage, nil, err.Error()+"\n"
		}
		return exit
	}
	l.replaceZeros()
	l.noteDefaults()
	return nil
}

// chooseInitialCluster advertises the machine's own address where a listener on all addresses would otherwise be
// advertised as localhost, and makes this member the whole cluster where no cluster was given.
func (l *loader) chooseInitialCluster() {
	c := l.config
	host := ""
	advertise := func(listen, advertised URLs, initial string) URLs {
		if len(listen) == 0 || listen[0].Hostname() != "0.0.0.0" || advertised.String() != initial {
			return advertised
		}
		if host == "" {
			found, err := l.machine.DefaultHost()
			if err != nil {
				l.note(zapcore.WarnLevel, "failed to detect default host", zap.Error(err))
				return advertised
			}
			host = found
		}
		return URLs{url.URL{Scheme: listen[0].Scheme, Host: net.JoinHostPort(host, listen[0].Port())}}
	}
	c.Cluster.AdvertisePeerURLs = advertise(c.Member.ListenPeerURLs, c.Cluster.AdvertisePeerURLs, peerURLDefault)
	c.Cluster.AdvertiseClientURLs = advertise(c.Member.ListenClientURLs, c.Cluster.AdvertiseClientURLs, clientURLDefault)
	if host != "" {
		l.note(zapcore.InfoLevel, "detected default host for advertise", zap.String("host", host))
	}
	if c.Cluster.Initial == "" && !c.Discovery.wanted() {
		c.Cluster.Initial = InitialClusterOf(c.Member.Name, c.Cluster.AdvertisePeerURLs)
	}
}

// wanted reports whether members are to be discovered.
func (d Discovery) wanted() bool {
	return d.URL != "" || d.Token != "" || len(d.Endpoints) > 0 || d.SRV != ""
}

func (l *loader) replaceZeros() {
	c := l.config
	c.Limits.QuotaEnforced = c.Limits.QuotaBytes > 0
	orDefault(&c.Limits.QuotaBytes, quotaBytesDefault)
	orDefault(&c.Storage.SnapshotCount, snapshotCountDefault)
	orDefault(&c.Compaction.BatchLimit, compactionBatchDefault)
	orDefault(&c.Watch.ProgressInterval, progressIntervalDefault)
	orDefault(&c.Warnings.Unary, unaryWarningDefault)
	orDefault(&c.TLS.SelfSignedYears, selfSignedYearsDefault)
	orDefault(&c.Auth.TokenTTLSeconds, authTokenTTLDefault)
	if c.Auth.BcryptCost < bcryptCostMin || c.Auth.BcryptCost > bcryptCostMax {
		l.note(zapcore.WarnLevel, "use default bcrypt cost instead of the invalid given cost", zap.Int("min-cost", bcryptCostMin),
			zap.Int("max-cost", bcryptCostMax), zap.Int("default-cost", bcryptCostDefault), zap.Uint("given-cost", c.Auth.BcryptCost))
		c.Auth.BcryptCost = bcryptCostDefault
	}
	c.Cluster.V2Deprecation = v2DeprecationAlways
	if c.Member.DataDir == "" {
		c.Member.DataDir = c.Member.Name + ".etcd"
		l.note(zapcore.WarnLevel, "'data-dir' was empty; using default", zap.String("data-dir", c.Member.DataDir))
	}
	l.raise("raft-read-timeout", &c.Member.RaftReadTimeout)
	l.raise("raft-write-timeout", &c.Member.RaftWriteTimeout)
}

func orDefault[T comparable](value *T, initial T) {
	var zero T
	if *value == zero {
		*value = initial
	}
}

func (l *loader) raise(name string, timeout *time.Duration) {
	if *timeout < raftTimeoutMin {
		*timeout = raftTimeoutMin
		l.note(zapcore.InfoLevel, fmt.Sprintf("%s increased to minimum value: %v", name, raftTimeoutMin))
	}
}

// noteDefaults warns about settings that work but are rarely meant.
func (l *loader) noteDefaults() {
	c := l.config
	if c.Member.Name == nameDefault {
		l.note(zapcore.WarnLevel, "it isn't recommended to use default name, please set a value for --name. "+
			"Note that etcd might run into issue when multiple members have the same default name",
			zap.String("name", c.Member.Name))
	}
	if c.Limits.MaxRequestBytes > requestBytesRecommended {
		l.note(zapcore.WarnLevel, "exceeded recommended request limit",
			zap.Uint("max-request-bytes", c.Limits.MaxRequestBytes),
			zap.Int("recommended-request-bytes", requestBytesRecommended))
	}
	if c.Limits.QuotaBytes > quotaBytesRecommended {
		l.note(zapcore.WarnLevel, "quota exceeds the maximum value", zap.Int64("quota-size-bytes", c.Limits.QuotaBytes),
			zap.Int64("quota-maximum-size-bytes", quotaBytesRecommended))
	}
	if c.Unsafe.NoFsync {
		l.note(zapcore.WarnLevel, "--unsafe-no-fsync has no effect: what is acknowledged is on disk")
	}
	if c.Member.Gates.Enabled(GateLeaseCheckpoint) && !c.Member.Gates.Enabled(GateLeaseCheckpointPersist) {
		l.note(zapcore.WarnLevel, "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist")
	}
}
