package replica

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// storage is what raft reads from: the log, and what was known of hard state and configuration at the start. Raft has no
// way to hand on an error of the disk, so storage panics with it: the member can't go on without its log.
type storage struct {
	Log
	hard     *raftpb.HardState
	conf     *raftpb.ConfState
	snapshot func() (*raftpb.Snapshot, error)
}

// newStorage brings the parts into the one picture that raft insists on.
//
// The hard state's commit index is written with the next entries, not at once, so the state machine may be ahead of it:
// what is applied was committed. A log that never held a hard state begins in the term of the entry before its first.
func newStorage(o Options) (*storage, error) {
	first, err := o.Log.FirstIndex()
	if err != nil {
		return nil, fmt.Errorf("replica: first index: %w", err)
	}
	last, err := o.Log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("replica: last index: %w", err)
	}
	term, err := o.Log.Term(last)
	if err != nil {
		return nil, fmt.Errorf("replica: term of entry %d: %w", last, err)
	}
	h := o.HardState
	if raft.IsEmptyHardState(h) {
		h = &raftpb.HardState{Term: new(term), Commit: new(first - 1)}
	}
	switch {
	case o.Applied+1 < first:
		return nil, fmt.Errorf("replica: applied up to %d, but the log begins at %d", o.Applied, first)
	case o.Applied > last:
		return nil, fmt.Errorf("replica: applied up to %d, but the log ends at %d", o.Applied, last)
	case h.GetTerm() < term:
		return nil, fmt.Errorf("replica: hard state of term %d, but entry %d is of term %d", h.GetTerm(), last, term)
	case h.GetCommit() > last:
		return nil, fmt.Errorf("replica: committed up to %d, but the log ends at %d", h.GetCommit(), last)
	}
	commit := max(h.GetCommit(), o.Applied, first-1)
	return &storage{
		Log:      o.Log,
		hard:     &raftpb.HardState{Term: new(h.GetTerm()), Vote: new(h.GetVote()), Commit: new(commit)},
		conf:     o.ConfState,
		snapshot: o.Snapshot,
	}, nil
}

func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

func (s *storage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	e, err := s.Log.Entries(lo, hi, maxSize)
	if err != nil && !errors.Is(err, raft.ErrCompacted) {
		panic(fmt.Errorf("replica: read entries %d..%d: %w", lo, hi-1, err))
	}
	return e, err
}

func (s *storage) Term(index uint64) (uint64, error) {
	t, err := s.Log.Term(index)
	if err != nil && !errors.Is(err, raft.ErrCompacted) && !errors.Is(err, raft.ErrUnavailable) {
		panic(fmt.Errorf("replica: term of entry %d: %w", index, err))
	}
	return t, err
}

func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	if s.snapshot == nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	snap, err := s.snapshot()
	if err != nil && !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
		panic(fmt.Errorf("replica: describe snapshot: %w", err))
	}
	return snap, err
}
