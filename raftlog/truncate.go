package raftlog

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Truncate drops the segments whose live entries are all at or below index, oldest first, and never the newest
// segment. index must be one that the state holds durably, because the dropped entries are gone. FirstIndex rises to
// the oldest entry left, which is where it will be after a restart: the base stands in the oldest segment's header.
//
// Each removal is durable before the next begins, so a crash leaves no gap. Errors are failures of the disk and poison
// the log.
func (l *Log) Truncate(index uint64) error {
	l.dropMu.Lock()
	defer l.dropMu.Unlock()
	dropped, err := l.dropThrough(index)
	if err != nil {
		return err
	}
	for _, s := range dropped {
		if err := l.remove(s); err != nil {
			return l.poison(fmt.Errorf("raftlog: truncate through %d: %w", index, err))
		}
	}
	return nil
}

// dropThrough takes the segments that can go out of the log.
func (l *Log) dropThrough(index uint64) ([]*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	n := 0
	for n < len(l.segments)-1 && l.index.lastIn(l.segments[n]) <= index {
		l.index.dropSegment(l.segments[n])
		n++
	}
	dropped := slices.Clone(l.segments[:n])
	l.segments = slices.Delete(l.segments, 0, n)
	l.tail.trim(l.index.base.Index)
	return dropped, nil
}

// remove closes and removes one file of a dropped segment, durably.
func (l *Log) remove(s *segment) error {
	if err := l.drop(s); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	l.dirMu.Lock()
	defer l.dirMu.Unlock()
	return removeFiles(l.o.FS, l.o.Dir, []string{segmentName(s.header.number)})
}

// Reset replaces the log by an empty one that begins behind base: a snapshot that holds everything up to base was
// installed, durably. A crash leaves the old log or the new one. hs, if not nil, gives the new term and vote; its
// commit index is taken to be base.Index, which must not be below the present one. The append goroutine calls it.
//
// Errors are failures of the disk and poison the log.
func (l *Log) Reset(base Position, hs *raftpb.HardState) error {
	if err := l.Err(); err != nil {
		return err
	}
	w := &l.w
	next := w.hs
	if given := hardStateOf(hs); given != (hardState{}) {
		next = given
	}
	next.term, next.commit = max(next.term, base.Term), base.Index
	if next.term < w.hs.term || next.commit < w.hs.commit {
		panic(fmt.Sprintf("raftlog: reset to %+v with %+v after %+v", base, next, w.hs))
	}
	if next.term > w.hs.term && hardStateOf(hs).term != next.term {
		next.vote = 0 // a vote belongs to its term
	}
	// Records that were not synced are void with the rest, so the new log's watermark may stand above them.
	w.hs, w.prev, w.dirty = next, 0, 0
	w.synced, w.watermark, w.lastData = w.seq, w.seq, w.seq
	before, err := l.begin(w.seg.header.number+1, base, false)
	if err != nil {
		return l.poison(fmt.Errorf("raftlog: reset to %d: %w", base.Index, err))
	}
	for _, s := range before {
		if err := l.remove(s); err != nil {
			return l.poison(fmt.Errorf("raftlog: reset to %d: %w", base.Index, err))
		}
	}
	return nil
}
