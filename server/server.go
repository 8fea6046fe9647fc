package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/api/identity"
	"keelson/api/ops"
	"keelson/api/v2"
	"keelson/api/v3"
	"keelson/command"
	"keelson/config"
	"keelson/env"
	"keelson/leader"
	"keelson/node"
	"keelson/raftlog"
	"keelson/server/bootstrap"
	"keelson/server/tracing"
	"keelson/state"
	"keelson/watch"
)

// Versions that clients see: the level of the API, not ours.
const (
	clusterVersion = "3.7.0" // what a cluster of such members agrees on
)

// Server is one running member with everything around it. Start it, Stop it once.
type Server struct {
	config *config.Config
	logger *zap.Logger
	clock  env.Clock
	chance env.Chance

	planes    planes
	files     *files
	toPeers   env.Network // how other members are dialed
	peers     *peers
	snapshots *snapshots
	engine    *engine
	measures  *measures
	saving    atomic.Pointer[saving] // nil: the store is not open yet
	calls     callCounts
	node      *node.Node
	running   atomic.Pointer[node.Node] // node, for those who are told things before it is made
	hub       *watch.Hub
	tree      *v2.Hub
	treeStats *v2.Stats
	quota     v3.Quota
	room      *room
	alarm     *spaceAlarm
	metrics   *ops.Metrics
	tracer    *tracing.Tracer // nil: nothing is traced
	services  *v3.Services
	identity  *identity.Identifier
	front     *front
	caughtUp  *door // open when this member has applied again what it had applied before it was started

	failed    failure
	removed   failure    // the cluster has removed this member
	farewells *farewells // of those who know that
	corrupt   failure    // its state differs from the others'
	checks    checks
	stopOnce  sync.Once
	stopErr   error
}

// Start runs a member and returns when it serves clients: the cluster knows it, and its listeners accept. If ctx ends
// before that, or anything goes wrong, everything that was started is stopped again; but if the member has failed, its
// files are left as a crash would leave them, and the process should end.
func Start(ctx context.Context, c *config.Config, logger *zap.Logger) (*Server, error) {
	s := newServer(c, logger)
	started := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { started <- s.start(ctx) }()
	select {
	case <-s.removed.happened: // nobody will agree to what it has to say
		cancel()
		return nil, s.giveUp(<-started)
	case err := <-started:
		if err != nil {
			return nil, s.giveUp(err)
		}
		return s, nil
	case <-s.failed.happened: // start may never come back from where it happened
		return nil, s.failed.err
	}
}

// errRemoved is why a member ends that does not belong to the cluster any more.
var errRemoved = errors.New("the member has been permanently removed from the cluster")

// Removed is closed when the cluster has removed this member: it is to be stopped.
func (s *Server) Removed() <-chan struct{} { return s.removed.happened }

// giveUp stops what a start has left, and returns what was the matter: of a member that has failed, start itself knows
// only that it has stopped, and of one that was removed, at most that nobody knows it.
func (s *Server) giveUp(err error) error {
	stopped := s.Stop()
	if s.failed.is() {
		return s.failed.err
	}
	if s.removed.is() && !errors.Is(err, errRemoved) {
		err = errors.Join(errRemoved, err)
	}
	return errors.Join(err, stopped)
}

func newServer(c *config.Config, logger *zap.Logger) *Server {
	return &Server{
		config: c, logger: logger, clock: env.SystemClock(), chance: env.SystemChance(),
		failed: failure{happened: make(chan struct{})}, removed: failure{happened: make(chan struct{})},
		farewells: newFarewells(), corrupt: failure{happened: make(chan struct{})}, caughtUp: newDoor(),
	}
}

func (s *Server) start(ctx context.Context) error {
	c, logger := s.config, s.logger
	listeners, err := listen(ctx, c)
	if err != nil {
		return &bootstrap.Error{Cause: err}
	}
	if s.planes, err = newPlanes(c, logger); err != nil {
		return errors.Join(&bootstrap.Error{Cause: err}, closeAll(listeners))
	}
	if s.files, err = watchFiles(s.planes, logger); err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	s.toPeers = networkToPeers(c, logger)
	s.front = newFront(listeners, s.planes.clients, logger, &s.calls.traffic, s.files.clientLimit(), s.failed.note)
	if s.peers, err = listenPeers(ctx, s); err != nil {
		return &bootstrap.Error{Cause: err}
	}
	s.treeStats = s.newTreeStats()
	s.measures = &measures{logger: logger, slowApply: c.Warnings.Apply, clock: s.clock.Now, compaction: c.Compaction.AutoMode}
	if s.engine, err = openEngine(ctx, c, bootstrap.NewClient(s.planes.peers.Client(), s.toPeers), s.fetchState, logger, hooks{fatal: s.failed.note, flushed: s.flushed, synced: s.observeSyncs}); err != nil {
		return err
	}
	if s.engine.isRemoved(s.engine.dir.Identity.MemberID) { // when that was applied, others knew
		s.removed.note(errRemoved)
		return errRemoved
	}
	if s.identity, err = s.newIdentity(); err != nil {
		return err
	}
	if c.Storage.DefragThresholdMB > 0 {
		logger.Info("Skipping defragmentation", zap.Uint("experimental-bootstrap-defrag-threshold-megabytes", c.Storage.DefragThresholdMB))
	}
	s.saving.Store(&saving{machine: s.engine.machine, logger: logger, measures: s.measures, every: c.Storage.SnapshotCount})
	s.snapshots = newSnapshots(s)
	if err := s.peers.connect(); err != nil {
		return err
	}
	if err := s.startNode(); err != nil {
		return err
	}
	s.peers.ready()
	s.caughtUp.within(catchUpPatience)
	if err := s.startTracing(ctx); err != nil {
		return err
	}
	s.buildServices()
	if err := s.startChecks(ctx); err != nil {
		return err
	}
	if err := s.front.serve(s); err != nil {
		return err
	}
	if err := s.publish(ctx); err != nil {
		return err
	}
	s.caughtUp.open()                 // everything before its name in the log is applied
	if err := ctx.Err(); err != nil { // published in time, or just not: either way nobody waits for this member any more
		return err
	}
	s.front.announce()
	return nil
}

// Failed is closed when something has ended the member from inside: its disk, or a listener. Stop then tells what.
func (s *Server) Failed() <-chan struct{} { return s.failed.happened }

// flushed is told that the store has put more on disk.
func (s *Server) flushed() {
	if saving := s.saving.Load(); saving != nil {
		saving.saved()
	}
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
		Failed: s.failed.note,
	})
	s.tree = v2.NewHub(s.engine.machine)
	s.metrics = ops.NewMetrics(c.Ops, ops.Identity{
		MemberID: s.engine.dir.Identity.MemberID, Version: version.Version, Own: config.Version,
		Gates: gateStates(c),
	}, s.readings)
	s.measures.metrics.Store(s.metrics)
	auto := c.Compaction.Auto()
	n, err := node.Start(node.Options{
		ClusterID: s.engine.dir.Identity.ClusterID, MemberID: s.engine.dir.Identity.MemberID,
		Machine: s.engine.machine, Log: s.engine.log, Hub: s.hub,
		Clock: s.clock, Chance: s.chance,
		Network: s.peers.transport, Snapshots: s.snapshots,
		StrictReconfiguration: c.Cluster.StrictReconfigCheck, CatchUpEntries: c.Storage.CatchUpEntries,
		NoPreVote: !c.Member.PreVote, TickAdvance: c.Member.TickAdvance,
		Heartbeat: c.Member.Heartbeat(), Election: c.Member.Election(),
		RequestTimeout: c.Member.RequestTimeout(), MaxRequestBytes: int(c.Limits.MaxRequestBytes),
		Lessor: leader.LessorOptions{
			Extension: c.Member.Election(), StallMax: c.Member.Election(),
			CheckpointInterval: checkpointInterval(c),
		},
		Compactor: compactorOptions(auto),
		Sweep:     node.SweepOptions{Records: c.Compaction.BatchLimit, Pause: c.Compaction.SleepInterval},
		Fatal:     s.nodeFailed,
		Logger:    raftLogger{s.logger.Named("raft").WithOptions(zap.AddCallerSkip(1)).Sugar()},
		Observe:   s.observer(),
	})
	if err != nil {
		return err
	}
	s.node = n
	s.running.Store(n)
	view := n.ReadLocal()
	defer view.Close()
	s.peers.meet(view.Members())
	return nil
}

// startTracing makes what traces calls, if that was asked for.
func (s *Server) startTracing(ctx context.Context) (err error) {
	o := s.config.Tracing
	if !o.Enabled {
		return nil
	}
	s.tracer, err = tracing.New(ctx, tracing.Options{
		Address: o.Address, ServiceName: o.ServiceName, InstanceID: o.InstanceID, Version: version.Version, PerMillion: o.PerMillion,
	})
	if err != nil {
		return err
	}
	s.logger.Info("distributed tracing has been enabled", zap.String("distributed-tracing-address", o.Address),
		zap.String("distributed-tracing-service-name", o.ServiceName),
		zap.String("distributed-tracing-service-instance-id", o.InstanceID), zap.Int("distributed-tracing-sampling-rate", o.PerMillion))
	return nil
}

// stopTracing sends the spans that wait. A collector that is not there must not hold up the end for long.
func (s *Server) stopTracing() {
	if s.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracingPatience)
	defer cancel()
	if err := s.tracer.Close(ctx); err != nil {
		s.logger.Warn("failed to send the last traces", zap.Error(err))
	}
}

// tracingPatience is what the last spans are given to get to the collector.
const tracingPatience = time.Second

// observer is what the node is given to report to.
func (s *Server) observer() node.Observer {
	o := s.measures.observer()
	o.Applied = func(out *state.Outcome, entries int, took time.Duration) {
		s.tree.Publish(out)
		s.measures.noteApplied(out, entries, took)
		s.saving.Load().applied(entries)
	}
	o.Leader = func(leader, term uint64, leading bool) {
		s.treeStats.NoteLeader(leader)
		s.measures.noteLeader(leader, term, leading)
	}
	o.Installed = func(*raftpb.Snapshot) { s.tree.Reset() }
	o.Members = s.peers.meet
	o.Tokens, o.TokensLost = s.identity.Observe, s.identity.Forget
	o.Removed = func() { s.removed.note(errRemoved) }
	o.Parting = func() {
		s.logger.Warn("the cluster has removed this member; it stays until another member is known to know, which may need its vote for that")
	}
	o.Corrupt = s.noteCorrupt
	o.Disputed = s.noteDisputed
	o.Stalled = s.noteStalled
	return o
}

func (s *Server) buildServices() {
	c := s.config
	s.quota = s.newQuota(c.Limits)
	s.services = v3.New(v3.Options{
		Member: s.node, Cluster: s.node, Promoter: s.peers.promoter, Lessor: countedLessor{s.peers.lessor, &s.calls}, Store: timedHashes{s.engine.machine, s.metrics},
		Identity: s.identity, Images: newImages(s), Shrink: s.shrink,
		Sizes: s.sizes, Hub: s.hub, Clock: s.clock, Chance: env.SystemChance(),
		Corrupt: s.node.Corrupt, CaughtUp: s.caughtUp.opened,
		Quota: s.quota, Requests: requests{s.metrics}, Observe: s.measures.calls(),
		MaxRequestBytes: int64(c.Limits.MaxRequestBytes), MaxTxnOps: int(c.Limits.MaxTxnOps),
		LeaseTTLMinSeconds: leaseTTLMinSeconds(c.Member.Election()),
		MaxLearners:        c.Cluster.MaxLearners,
		ElectionTimeout:    c.Member.Election(), QuotaBytes: s.quotaBytes,
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
	s.sayPublished()
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

// publishPause lies between two tries to publish.
const publishPause = 100 * time.Millisecond

func (s *Server) proposeUntilDone(ctx context.Context, op command.Op) error {
	for {
		r, err := s.node.ProposeOwn(ctx, op)
		if err == nil {
			return r.Refusal
		}
		if errors.Is(err, node.ErrStopped) || ctx.Err() != nil {
			return err
		}
		s.logger.Warn("failed to publish local member to cluster through raft", zap.Error(err))
		select {
		case <-time.After(publishPause):
		case <-ctx.Done():
		}
	}
}

// Stop stops serving, then the member, then closes its files. It may be called more than once. If the member fails, before
// or meanwhile, Stop returns at once with what it has failed of, and does not wait for what may never end.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Server) stop() error {
	stopped := make(chan error, 1)
	go func() { stopped <- s.stopAll() }()
	select {
	case err := <-stopped:
		if s.failed.is() {
			return s.failed.err
		}
		return err
	case <-s.failed.happened:
		return s.failed.err
	}
}

func (s *Server) stopAll() error {
	if s.node != nil {
		s.handOver()
	}
	if s.front != nil {
		s.front.stopAccepting()
	}
	if s.front != nil {
		s.front.stop(s.endStreams, s.config.Member.RequestTimeout())
	}
	s.stopTracing()
	if s.node != nil {
		s.node.Stop()
	}
	s.stopChecks()
	if s.peers != nil {
		s.peers.stop()
	}
	if s.hub != nil {
		s.hub.Close()
	}
	if s.services != nil {
		s.services.Close()
	}
	if s.files != nil {
		s.files.stop()
	}
	if s.engine == nil || s.failed.is() {
		return nil
	}
	if saving := s.saving.Load(); saving != nil {
		saving.wait()
	}
	return s.engine.close()
}

// handOver gives leadership to another member while this one still answers, so that nobody has to wait for an election.
func (s *Server) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Member.Election())
	defer cancel()
	if err := s.node.HandOver(ctx); err != nil {
		s.logger.Warn("leadership transfer failed", zap.Error(err))
	}
}

// endStreams ends everything that clients wait for without an end.
func (s *Server) endStreams() {
	s.services.Shutdown()
	s.tree.Close()
}

// emptyBytes is what a store is said to take before anything is in it: directories and files that are no tables take blocks
// of the file system. It also keeps the size from ever being 0, by which clients divide.
const emptyBytes = 16 << 10

// sizes are the bytes that the store takes and those of them that hold something. What is not on disk yet counts as if it were.
func (s *Server) sizes() (total, inUse int64) {
	z := s.engine.machine.Sizes()
	return int64(z.DiskBytes+z.UnflushedBytes) + emptyBytes, int64(z.LiveBytes+z.UnflushedBytes) + emptyBytes
}
