package server

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/state"
)

// saving puts the state on disk after a number of applied entries (--snapshot-count), if it has not got there by its size
// before: the log can then be cut, and a start has little to apply again.
type saving struct {
	machine  *state.Machine
	logger   *zap.Logger
	measures *measures
	every    uint64 // entries

	since   atomic.Uint64 // entries applied since the state was put on disk last
	busy    atomic.Bool
	running sync.WaitGroup
}

// applied is told of applied entries. It does not wait.
func (s *saving) applied(entries int) {
	if s.since.Add(uint64(entries)) < s.every || !s.busy.CompareAndSwap(false, true) {
		return
	}
	s.since.Store(0)
	s.running.Go(func() {
		defer s.busy.Store(false)
		s.save()
	})
}

func (s *saving) save() {
	began := time.Now()
	if err := s.machine.Flush(); err != nil {
		s.logger.Warn("failed to save snapshot", zap.Error(err)) // a store that can't go on ends the member by itself
		return
	}
	s.measures.noteSaved(time.Since(began))
	at, err := s.machine.DurableApplied()
	if err != nil {
		s.logger.Warn("failed to save snapshot", zap.Error(err))
		return
	}
	s.logger.Info("saved snapshot to disk", zap.Uint64("snapshot-index", at.Index), zap.Duration("took", time.Since(began)))
}

// saved is told that the state has got to the disk, for whatever reason.
func (s *saving) saved() { s.since.Store(0) }

// wait returns when nothing is being saved. Nobody may call applied any more.
func (s *saving) wait() { s.running.Wait() }
