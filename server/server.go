package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"

	"keelson/api/ops"
	"keelson/api/v3"
	"keelson/command"
	"keelson/config"
	"keelson/env"
	"keelson/leader"
	"keelson/node"
	"keelson/raftlog"
	"keelson/state"
	"keelson/watch"
)

// Versions that clients see: the level of the API, not ours.
const (
	clusterVersion = "3.7.0" // what a cluster of such members agrees on
	storageVersion = "3.7.0"
)

// Server is one running member with everything around it. Start it, Stop it once.
type Server struct {
	config *config.Config
	logger *zap.Logger
	clock  env.Clock

	engine   *engine
	measures *measures
	calls    callCounts
	node     *node.Node
	running  atomic.Pointer[node.Node] // node, for those who are told things before it is made
	hub      *watch.Hub
	metrics  *ops.Metrics
	services *v3.Services
	front    *front

	failed   chan error  // capacity 1: what ends the member from inside
	broken   atomic.Bool // it has failed: its files are left as a crash would leave them
	stopOnce sync.Once
	stopErr  error
}

// Start runs a member and returns when it serves clients: the cluster knows it, and its listeners accept. If ctx ends
// before that, or anything fails, everything that was started is stopped again.
func Start(ctx context.Context, c *config.Config, logger *zap.Logger) (_ *Server, err error) {
	s := &Server{config: c, logger: logger, clock: env.SystemClock(), failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	listeners, err := listen(ctx, c)
	if err != nil {
		return nil, err
	}
	s.front = newFront(listeners, logger, &s.calls.traffic, s.fail)
	s.measures = &measures{logger: logger, slowApply: c.Warnings.Apply, clock: s.clock.Now}
	if s.engine, err = openEngine(ctx, c, logger, hooks{fatal: s.fail, flushed: s.flushed, synced: s.observeSyncs}); err != nil {
		return nil, err
	}
	if err := s.startNode(); err != nil {
		return nil, err
	}
	s.buildServices()
	if err := s.front.serve(s); err != nil {
		return nil, err
	}
	if err := s.publish(ctx); err != nil {
		return nil, err
	}
	s.front.announce()
	return s, nil
}

// Failed delivers what ended the member from inside: its disk, or a listener.
func (s *Server) Failed() <-chan error { return s.failed }

// fail is told of an error that the member can't survive.
func (s *Server) fail(err error) {
	s.broken.Store(true)
	select {
	case s.failed <- err:
	default:
	}
}

// flushed is told that the store has put more on disk.
func (s *Server) flushed() {
	if n := s.running.Load(); n != nil {
		n.Sweep()
	}
}

// observeSyncs adds the observation of syncs to the log's options.
func (s *Server) observeSyncs(o raftlog.Options) raftlog.Options {
	o.Now, o.OnSync = s.clock.Monotonic, s.measures.noteSync
	return o
}

func (s *Server) startNode() error {
	c := s.config
	s.hub = watch.NewHub(s.engine.machine, watch.Options{
		ProgressInterval: c.Watch.ProgressInterval,
		FragmentBytes:    int(c.Limits.MaxRequestBytes) + grpcOverheadBytes,
		Clock:            s.clock, Chance: env.SystemChance(),
		Failed: s.fail,
	})
	s.metrics = ops.NewMetrics(c.Ops, ops.Identity{
		MemberID: s.engine.dir.Identity.MemberID, Version: version.Version, Own: config.Version,
		QuotaBytes: c.Limits.QuotaBytes, Gates: gateStates(c),
	}, s.readings)
	s.measures.metrics.Store(s.metrics)
	auto := c.Compaction.Auto()
	n, err := node.Start(node.Options{
		ClusterID: s.engine.dir.Identity.ClusterID, MemberID: s.engine.dir.Identity.MemberID,
		Machine: s.engine.machine, Log: s.engine.log, Hub: s.hub,
		Clock: s.clock, Chance: env.SystemChance(),
		Heartbeat: c.Member.Heartbeat(), Election: c.Member.Election(),
		RequestTimeout: c.Member.RequestTimeout(), MaxRequestBytes: int(c.Limits.MaxRequestBytes),
		Lessor: leader.LessorOptions{
			Extension: c.Member.Election(), StallMax: c.Member.Election(),
			CheckpointInterval: checkpointInterval(c),
		},
		Compactor: compactorOptions(auto),
		Sweep:     node.SweepOptions{Records: c.Compaction.BatchLimit, Pause: c.Compaction.SleepInterval},
		Fatal:     s.fail,
		Logger:    raftLogger{s.logger.Named("raft").WithOptions(zap.AddCallerSkip(1)).Sugar()},
		Observe:   s.measures.observer(),
	})
	if err != nil {
		return err
	}
	s.node = n
	s.running.Store(n)
	return nil
}

func (s *Server) buildServices() {
	c := s.config
	s.services = v3.New(v3.Options{
		Member: s.node, Lessor: countedLessor{s.node, &s.calls}, Store: s.engine.machine,
		Sizes: s.sizes, Hub: s.hub, Clock: s.clock, Chance: env.SystemChance(),
		Quota: newQuota(c.Limits, s), Requests: requests{s.metrics},
		MaxRequestBytes: int64(c.Limits.MaxRequestBytes), MaxTxnOps: int(c.Limits.MaxTxnOps),
		LeaseTTLMinSeconds: leaseTTLMinSeconds(c.Member.Election()),
		ElectionTimeout:    c.Member.Election(), QuotaBytes: c.Limits.QuotaBytes,
	})
}

// leaseTTLMinSeconds is one and a half election timeouts, in whole seconds.
func leaseTTLMinSeconds(election time.Duration) int64 {
	return int64((election*3/2 + time.Second - 1) / time.Second)
}

// publish tells the cluster, through its log, what this member is called and where clients reach it, and sees to it that
// the cluster has a version. It tries until it has succeeded or ctx ends.
func (s *Server) publish(ctx context.Context) error {
	c := s.config
	name := &command.MemberPublish{
		ID: s.engine.dir.Identity.MemberID, Name: c.Member.Name, ClientURLs: c.Cluster.AdvertiseClientURLs.Strings(),
	}
	if err := s.proposeUntilDone(ctx, name); err != nil {
		return fmt.Errorf("publish member: %w", err)
	}
	s.logger.Info("published local member to cluster through raft",
		hexID("local-member-id", name.ID), zap.String("local-member-attributes", c.Member.Name),
		hexID("cluster-id", s.engine.dir.Identity.ClusterID), zap.Duration("publish-timeout", c.Member.RequestTimeout()))
	view := s.engine.machine.View()
	decided := view.Members().Version()
	view.Close()
	if decided == "" {
		if err := s.proposeUntilDone(ctx, &command.ClusterVersion{Version: clusterVersion}); err != nil {
			return fmt.Errorf("set cluster version: %w", err)
		}
		s.logger.Info("updated cluster version", zap.String("to", majorMinor(clusterVersion)))
	}
	s.logger.Info("enabled capabilities for version", zap.String("cluster-version", majorMinor(clusterVersion)))
	return nil
}

func (s *Server) proposeUntilDone(ctx context.Context, op command.Op) error {
	for {
		r, err := s.node.Propose(ctx, op)
		if err == nil {
			return r.Refusal
		}
		if errors.Is(err, node.ErrStopped) || ctx.Err() != nil {
			return err
		}
		s.logger.Warn("failed to publish local member to cluster through raft", zap.Error(err))
	}
}

// Stop stops serving, then the member, then closes its files. It may be called more than once.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Server) stop() error {
	if s.front != nil {
		s.front.stopAccepting()
	}
	if s.services != nil {
		s.services.Shutdown()
	}
	if s.front != nil {
		s.front.stop(s.config.Member.RequestTimeout())
	}
	if s.node != nil {
		s.node.Stop()
	}
	if s.hub != nil {
		s.hub.Close()
	}
	if s.services != nil {
		s.services.Close()
	}
	if s.engine == nil || s.broken.Load() {
		return nil
	}
	return s.engine.close()
}

// Endpoints are the addresses that the client listeners are bound to.
func (s *Server) Endpoints() []net.Addr { return s.front.clientAddresses() }

func (s *Server) sizes() (total, inUse int64) {
	z := s.engine.db.Sizes()
	return int64(z.DiskBytes + z.MemtableBytes), int64(z.LiveBytes + z.MemtableBytes)
}

// Machine is the member's state, for embedders that read.
func (s *Server) Machine() *state.Machine { return s.engine.machine }
