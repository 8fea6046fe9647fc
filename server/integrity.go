package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"keelson/api/peer"
	"keelson/command"
	"keelson/config"
	"keelson/leader"
	"keelson/server/bootstrap"
	"keelson/state/alarm"
)

// checks are the comparisons of the members' pairs that etcd's flags ask for. What goes through the log, always, is node's.
type checks struct {
	running sync.WaitGroup
	cancel  context.CancelFunc // nil: none run
}

// errCorrupt is why a member goes on without serving clients.
var errCorrupt = errors.New("this member's state differs from that of a quorum")

// startChecks compares this member with the others before it serves, if it is asked to, and begins the periodic
// comparisons.
func (s *Server) startChecks(ctx context.Context) error {
	gates := s.config.Member.Gates
	o := peer.CheckerOptions{
		Member: s.node, Store: timedHashes{s.engine.machine, s.metrics}, Hashes: s.peers.asking.Hashes, Raise: s.raiseCorrupt,
		Clock: s.clock, Log: s.logger, Every: s.config.Checks.CorruptInterval,
	}
	if gates.Enabled(config.GateCompactHashCheck) {
		o.CompactionEvery = s.config.Checks.CompactHashInterval
	}
	checker := peer.NewChecker(o)
	if gates.Enabled(config.GateInitialCorruptCheck) && s.engine.begun {
		if err := checker.Initial(ctx); err != nil {
			return err
		}
	}
	ctx, s.checks.cancel = context.WithCancel(context.Background())
	s.checks.running.Go(func() { checker.Run(ctx) })
	s.checks.running.Go(func() { s.watchVersions(ctx, bootstrap.NewClient(s.planes.peers.Client(), s.toPeers)) })
	s.checks.running.Go(func() { s.scrub(ctx) })
	if !s.config.Limits.QuotaEnforced {
		s.checks.running.Go(func() { s.keepRoom(ctx, s.room, s.alarm) })
	}
	s.checks.running.Go(func() {
		select {
		case <-s.corrupt.happened:
			s.services.EndCorrupt()
			s.tree.Close()
		case <-ctx.Done():
		}
	})
	return nil
}

func (s *Server) stopChecks() {
	if s.checks.cancel != nil {
		s.checks.cancel()
		s.checks.running.Wait()
	}
}

func (s *Server) raiseCorrupt(ctx context.Context, member uint64) error {
	r, err := s.node.ProposeOwn(ctx, &command.Alarm{Member: member, Type: int32(alarm.Corrupt), Raise: true})
	if err != nil {
		return err
	}
	return r.Refusal
}

// noteCorrupt reacts to this member's state being wrong: it answers no client any more, and says what is to be done.
func (s *Server) noteCorrupt(c leader.Corruption) {
	s.logger.Error("this member's state differs from that of a quorum; it serves no clients any more; "+
		"remove the member from the cluster, remove its data directory, and add it again: its data is on the others",
		hexID("member-id", s.engine.dir.Identity.MemberID), zap.String("data-dir", s.config.Member.DataDir),
		zap.Uint64("index", c.Index), hexID("hash", c.Ours), hexID("hash-of-the-others", c.Right))
	s.corrupt.note(errCorrupt)
}

func (s *Server) noteDisputed(v leader.Verdict) {
	s.logger.Error("the members' states differ", zap.Uint64("index", v.Index), zap.Bool("decided", v.Decided),
		zap.Uint64s("corrupt", v.Corrupt), zap.Uint64s("unchecked", v.Unchecked))
}

func (s *Server) noteStalled(stalled time.Duration, to uint64) {
	s.logger.Warn("the disk of the raft log does not answer; giving leadership away",
		zap.Duration("stalled", stalled), hexID("to", to))
}
