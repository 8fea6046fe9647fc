package server

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/api/ops"
	"keelson/api/v2"
	"keelson/api/v3"
	"keelson/node"
	"keelson/state"
)

// measures counts what the node reports, for logs and metrics. The counters are written by the node's goroutines and
// read by scrapes.
type measures struct {
	logger      *zap.Logger
	slowApply   time.Duration
	metrics     atomic.Pointer[ops.Metrics] // made after the node's options, before the node starts
	clock       func() time.Time
	applied     counts
	leaders     atomic.Uint64
	expired     atomic.Uint64
	removed     atomic.Uint64
	compactedAt atomic.Int64 // seconds since 1970
	logBytes    atomic.Uint64
	compaction  string       // its mode, if there is a schedule
	scheduled   atomic.Int64 // the revision of a compaction that has fallen due and is not done; 0: none
}

// counts are running totals of state.Counts, and of lease changes.
type counts struct {
	puts, deletes, txns, putBytes, granted, revoked atomic.Uint64
}

// observer is what the node is given to report to.
func (m *measures) observer() node.Observer {
	return node.Observer{Applied: m.noteApplied, Leader: m.noteLeader, Compacted: m.noteCompacted, Expired: m.noteExpired,
		NoSpare: m.noteNoSpare, Late: m.noteLate, Compacting: m.noteCompacting, Removing: m.noteRemoving, Promoted: m.notePromoted}
}

// calls is what the services are given to report to.
func (m *measures) calls() v3.Observer {
	metrics := m.metrics.Load()
	return v3.Observer{WatchSent: m.noteWatchSent, StreamFailed: metrics.StreamFailed, CancelFailed: m.noteCancelFailed}
}

// noteCancelFailed is told that a downgrade was not called off: mostly there was none.
func (m *measures) noteCancelFailed(err error) {
	m.logger.Warn("failed to cancel downgrade", zap.Error(err))
}

func (m *measures) noteWatchSent(kind v3.WatchResponse, events int, took time.Duration) {
	metrics := m.metrics.Load()
	switch kind {
	case v3.WatchControl:
		metrics.WatchControl.Observe(took.Seconds())
	case v3.WatchProgress:
		metrics.WatchProgress.Observe(took.Seconds())
	default:
		metrics.WatchSend.Observe(took.Seconds())
		metrics.WatchSendPerEvent.Observe(took.Seconds() / float64(max(events, 1)))
	}
}

// noteRemoving is told of a step of the removal of compacted versions.
func (m *measures) noteRemoving(_ int, took time.Duration) {
	if metrics := m.metrics.Load(); metrics != nil {
		metrics.CompactionPauseMillis.Observe(float64(took.Microseconds()) / 1000)
	}
}

// notePromoted is told how a promotion of a learner ended.
func (m *measures) notePromoted(err error) {
	if metrics := m.metrics.Load(); err == nil {
		metrics.LearnersPromoted.Inc()
	} else {
		metrics.PromotionFailed(v3.Text(err))
	}
}

func (m *measures) noteApplied(out *state.Outcome, entries int, took time.Duration) {
	c := &out.Counts
	m.applied.puts.Add(uint64(c.Puts))
	m.applied.deletes.Add(uint64(c.Deletes))
	m.applied.txns.Add(uint64(c.Txns))
	m.applied.putBytes.Add(uint64(c.PutBytes))
	metrics := m.metrics.Load()
	for _, l := range out.Leases {
		switch l.Kind {
		case state.LeaseGranted:
			m.applied.granted.Add(1)
			metrics.LeaseTTL.Observe(float64(l.TTLSeconds))
		case state.LeaseRevoked:
			m.applied.revoked.Add(1)
		}
	}
	metrics.Applied(entries)
	metrics.Commit.Observe(took.Seconds())
	metrics.Apply(true).Observe(took.Seconds())
	if took > m.slowApply {
		metrics.SlowApply.Inc()
		m.logger.Warn("apply request took too long", zap.Duration("took", took),
			zap.Duration("expected-duration", m.slowApply), zap.Int("entries", entries), zap.Int64("revision", out.Revision))
	}
}

func (m *measures) noteLeader(leader, term uint64, leading bool) {
	if leader == 0 {
		m.logger.Info("lost leader", zap.Uint64("term", term))
		return
	}
	m.leaders.Add(1)
	m.logger.Info("elected leader", zap.Uint64("term", term), hexID("leader", leader), zap.Bool("local", leading))
}

func (m *measures) noteCompacted(floor int64, removed int, took time.Duration) {
	m.removed.Add(uint64(removed))
	m.compactedAt.Store(m.clock().Unix())
	m.metrics.Load().CompactionTotalMillis.Observe(float64(took.Milliseconds()))
	if scheduled := m.scheduled.Load(); scheduled != 0 && scheduled <= floor && m.scheduled.CompareAndSwap(scheduled, 0) {
		m.logger.Info("completed auto "+m.compaction+" compaction", zap.Int64("revision", scheduled), zap.Duration("took", took))
	}
	m.logger.Info("finished scheduled compaction", zap.Int64("compact-revision", floor),
		zap.Duration("took", took), zap.Int("removed", removed))
}

// noteSaved is told how long it took to put the state on disk.
func (m *measures) noteSaved(took time.Duration) {
	if metrics := m.metrics.Load(); metrics != nil {
		metrics.Save.Observe(took.Seconds())
		metrics.SaveSync.Observe(took.Seconds())
	}
}

// noteNoSpare is told that the disk is full while the log still has space of its own.
func (m *measures) noteNoSpare(err error) {
	m.logger.Warn("no disk space for the raft log's next segment; free some before it is needed", zap.Error(err))
}

// noteLate is told of heartbeats that came too late.
func (m *measures) noteLate(by time.Duration) {
	if metrics := m.metrics.Load(); metrics != nil {
		metrics.HeartbeatFailures.Inc()
	}
	m.logger.Warn("leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
		zap.Duration("exceeded-duration", by))
}

// noteCompacting is told of a compaction that falls due by schedule.
func (m *measures) noteCompacting(revision int64) {
	if m.scheduled.Swap(revision) != revision { // it is offered until it is done
		m.logger.Info("starting auto "+m.compaction+" compaction", zap.Int64("revision", revision))
	}
}

// noteRoundTrip is told how long another member took to answer.
func (m *measures) noteRoundTrip(peer uint64, took time.Duration) {
	if metrics := m.metrics.Load(); metrics != nil {
		metrics.RoundTrip(peer).Observe(took.Seconds())
	}
}

func (m *measures) noteExpired(leases int) { m.expired.Add(uint64(leases)) }

// noteSync is told of each sync of the raft log.
func (m *measures) noteSync(bytes int, took time.Duration) {
	m.logBytes.Add(uint64(bytes))
	if metrics := m.metrics.Load(); metrics != nil {
		metrics.Sync(bytes, took)
	}
	if took > slowSync {
		m.logger.Warn("slow fdatasync", zap.Duration("took", took), zap.Duration("expected-duration", slowSync))
	}
}

// slowSync is how long a sync may take without a line in the log.
const slowSync = time.Second

// readings looks everything up that a scrape shows.
func (s *Server) readings() ops.Readings {
	m, machine := s.measures, s.engine.machine
	r := ops.Readings{
		LeaderChanges: m.leaders.Load(),
		Keys:          machine.LiveKeys(), Revision: machine.Revision(), CompactRevision: machine.Compacted(),
		Puts: m.applied.puts.Load(), Deletes: m.applied.deletes.Load(), Txns: m.applied.txns.Load(),
		Ranges: s.calls.ranges.Load(), PutBytes: m.applied.putBytes.Load(),
		WatchStreams: int64(s.hub.Streams()), Watchers: int64(s.hub.Watchers()), SlowWatchers: int64(s.hub.SlowWatchers()),
		PendingEvents: int64(s.hub.PendingEvents()), Events: uint64(s.hub.EventsSent()),
		LeasesGranted: m.applied.granted.Load(), LeasesRenewed: s.calls.renewed.Load(),
		LeasesRevoked: m.applied.revoked.Load(), LeasesExpired: m.expired.Load(),
		OpenViews:        machine.OpenViews(),
		CompactedRecords: m.removed.Load(), CompactionLastUnix: m.compactedAt.Load(),
		ClientReceivedBytes: s.calls.traffic.Received.Load(), ClientSentBytes: s.calls.traffic.Sent.Load(),
		LogWrittenBytes: m.logBytes.Load(),
		AuthRevision:    machine.Users().Revision(),
		Alarms:          alarmNames(machine),
	}
	r.SizeBytes, r.SizeInUseBytes = s.sizes()
	r.QuotaBytes = s.quotaBytes()
	for _, p := range s.peers.transport.Stats() {
		r.Peers = append(r.Peers, ops.PeerReading{
			ID: p.ID, Active: p.Live, SentBytes: p.SentBytes, ReceivedBytes: p.ReceivedBytes, SendFailures: p.SendFailures,
			ReceiveFailures: p.ReceiveFailures, Disconnects: p.Disconnects, QueuedBytes: p.QueuedBytes,
		})
	}
	view := machine.View()
	r.ClusterVersion = majorMinor(view.Members().Version())
	view.Close()
	if n := s.running.Load(); n != nil {
		status := n.Status()
		r.HasLeader, r.IsLeader, r.IsLearner = status.Leader != 0, status.Leading, status.Learner
		r.ProposalsCommitted, r.ProposalsApplied = status.Committed, status.Applied
		r.ProposalsPending, r.ProposalsFailed = uint64(n.PendingProposals()), n.FailedProposals()
		r.SlowReadRounds, r.FailedReadRounds = n.ReadRounds()
	}
	r.Tree = treeReading(s.tree.Counts())
	r.Internals = s.internals()
	return r
}

func treeReading(c v2.Counts) ops.TreeReading {
	r := ops.TreeReading{
		Reads: c.GetsDone, ReadsFailed: c.GetsRefused, Expired: c.Expired, Waits: c.Waits, Waiting: c.Waiting,
	}
	for _, a := range []struct {
		name  string
		count state.TreeCount
	}{
		{"set", c.Set}, {"create", c.Create}, {"update", c.Update}, {"delete", c.Delete},
		{"compareAndSwap", c.CompareAndSwap}, {"compareAndDelete", c.CompareAndDelete},
	} {
		r.Writes = append(r.Writes, ops.TreeAction{Action: a.name, Done: a.count.Done, Refused: a.count.Refused})
	}
	return r
}

// internals looks up what goes on inside.
func (s *Server) internals() ops.Internals {
	newest, store, hub := s.engine.machine.NewestCache(), s.engine.machine.Stats(), s.hub.Stats()
	in := ops.Internals{
		InboxBytes: int64(hub.InboxBytes), RingBytes: hub.RingBytes, RingFrom: hub.RingFrom, WatchGroups: hub.Groups, CatchUps: hub.CatchUps,
		NewestHits: newest.Hits, NewestMisses: newest.Misses, NewestBytes: newest.Bytes,
		BlockHits: store.CacheHits, BlockMisses: store.CacheMisses, BlockBytes: store.CacheBytes,
		ReadAmplification: store.ReadAmplification, CompactionDebtBytes: store.CompactionDebtBytes,
		Compactions: store.Compactions, Flushes: store.Flushes,
	}
	for _, l := range store.Levels {
		in.Levels = append(in.Levels, ops.LevelReading{Tables: l.Tables, Bytes: l.Bytes})
	}
	in.LogBytes, in.LogSegments = s.engine.log.Size()
	in.ClientConns, in.ClientRefused = s.front.limit.Count()
	if n := s.running.Load(); n != nil {
		q := n.Queues()
		in.ProposedBytes, in.ReceivedBytes = int64(q.ProposedBytes), q.ReceivedBytes
		in.Events, in.Appends, in.Applies, in.UnsweptRevisions = q.Events, q.Appends, q.Applies, q.Unswept
		in.Waited = n.Waited()
	}
	return in
}
