package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"keelson/api/ops"
	"keelson/api/peer"
	"keelson/config"
	"keelson/internal/sched"
	"keelson/leader"
	"keelson/state"
	"keelson/state/alarm"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// countedLessor counts renewals.
type countedLessor struct {
	*peer.Lessor
	calls *callCounts
}

// RenewLease implements v3.Lessor.
func (l countedLessor) RenewLease(ctx context.Context, id lease.ID) (int64, error) {
	ttl, err := l.Lessor.RenewLease(ctx, id)
	if err == nil {
		l.calls.renewed.Add(1)
	}
	return ttl, err
}

// timedHashes times what hashes cost.
type timedHashes struct {
	*state.Machine
	metrics *ops.Metrics
}

// Hash implements v3.Store.
func (h timedHashes) Hash() (uint32, mvcc.Revision, error) {
	defer since(h.metrics.Hash, time.Now())
	batch := sched.Begin()
	defer batch.End()
	return h.Machine.Hash()
}

// HashKV implements v3.Store.
func (h timedHashes) HashKV(rev mvcc.Revision) (mvcc.Hash, error) {
	defer since(h.metrics.HashRevision, time.Now())
	batch := sched.Begin()
	defer batch.End()
	return h.Machine.HashKV(rev)
}

func since(o prometheus.Observer, start time.Time) { o.Observe(time.Since(start).Seconds()) }

// requests counts requests by client version.
type requests struct{ metrics *ops.Metrics }

// Count implements v3.Requests.
func (r requests) Count(kind, apiVersion string) { r.metrics.ClientRequest(kind, apiVersion).Inc() }

// health is the member as the health endpoints see it.
type health struct{ s *Server }

// Alarms implements ops.Member.
func (h health) Alarms() []string { return alarmNames(h.s.engine.machine) }

// HasLeader implements ops.Member.
func (h health) HasLeader() bool { return h.s.node.Status().Leader != 0 }

// IsLearner implements ops.Member.
func (h health) IsLearner() bool { return h.s.node.Status().Learner }

// Probe implements ops.Member.
func (h health) Probe(ctx context.Context, serializable bool) error {
	ctx, cancel := context.WithTimeout(ctx, h.s.config.Member.RequestTimeout())
	defer cancel()
	view := h.s.node.ReadLocal()
	if !serializable {
		view.Close()
		var err error
		if view, err = h.s.node.Read(ctx); err != nil {
			return fmt.Errorf("etcdserver: %w", err)
		}
	}
	defer view.Close()
	_, err := view.Get([]byte("health"))
	return err
}

// alarmNames are the kinds of alarms that are raised.
func alarmNames(m *state.Machine) []string {
	view := m.View()
	defer view.Close()
	var names []string
	if view.Alarms().NoSpace() {
		names = append(names, "NOSPACE")
	}
	if view.Alarms().Corrupt() {
		names = append(names, "CORRUPT")
	}
	return names
}

func gateStates(c *config.Config) []ops.GateState {
	var states []ops.GateState
	for _, g := range config.AllGates() {
		states = append(states, ops.GateState{Name: g.Name, Stage: string(g.Stage), On: c.Member.Gates.Enabled(g.Name)})
	}
	return states
}

// checkpointInterval is how often remaining TTLs go through the log.
func checkpointInterval(c *config.Config) time.Duration {
	if c.Member.Gates.Enabled(config.GateLeaseCheckpoint) {
		return 5 * time.Minute
	}
	return 0
}

func compactorOptions(a config.AutoCompaction) leader.CompactorOptions {
	switch {
	case a.Period > 0:
		return leader.CompactorOptions{Mode: leader.CompactPeriodic, Retention: a.Period}
	case a.Revisions > 0:
		return leader.CompactorOptions{Mode: leader.CompactByRevision, Revisions: a.Revisions}
	}
	return leader.CompactorOptions{Mode: leader.CompactNever}
}

// majorMinor cuts a version to its first two numbers.
func majorMinor(v string) string {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return v
	}
	return parts[0] + "." + parts[1]
}

func hexID(key string, id uint64) zap.Field { return zap.String(key, strconv.FormatUint(id, 16)) }

// raftLogger passes raft's messages on. What raft tells as information is for debugging here: the member logs what
// an operator wants to know.
type raftLogger struct{ *zap.SugaredLogger }

func (l raftLogger) Info(v ...any)                    { l.SugaredLogger.Debug(v...) }
func (l raftLogger) Infof(format string, v ...any)    { l.SugaredLogger.Debugf(format, v...) }
func (l raftLogger) Warning(v ...any)                 { l.SugaredLogger.Warn(v...) }
func (l raftLogger) Warningf(format string, v ...any) { l.SugaredLogger.Warnf(format, v...) }

// noSpace is the alarm that a member raises on itself.
const noSpace = alarm.NoSpace
