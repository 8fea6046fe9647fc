package raftlog

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Log is an open raft log. See the package comment for who may call what.
//
// Locks, in the order in which they are taken: dropMu (removal of old segments), readMu (the buffer for reading old
// entries), scrubMu (the scrub's position), dirMu (names in the directory), mu (everything that readers see). The
// writer belongs to the append goroutine and has no lock.
type Log struct {
	o Options
	w writer

	mu       sync.Mutex
	err      error      // the failure that poisoned the log, or ErrClosed
	hs       hardState  // as of the last finished append
	segments []*segment // oldest first; the last one is being written
	end      int64      // bytes used in the last segment
	index    index
	tail     tail
	spare    *tempFile // prepared by Prepare, taken by the next rotation
	temps    uint64    // number for the next temporary file's name

	dirMu sync.Mutex

	readMu sync.Mutex
	reader entryFileReader

	dropMu sync.Mutex

	scrubMu sync.Mutex
	scrub   scrubPlace
}

// Create makes a new log whose first entry will be base.Index+1, with an empty hard state but for the commit index,
// which is base.Index. The directory may exist, but not hold a log. When Create returns, the log survives a crash;
// after a crash during Create, Open returns either the log or ErrNoLog, and then Create may be called again.
//
// Errors: ErrExists; failures of the disk.
func Create(o Options, base Position) (*Log, error) {
	o = o.withDefaults()
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("raftlog: create: %w", err)
	}
	if err := syncDir(o.FS, o.FS.PathDir(o.Dir)); err != nil {
		return nil, fmt.Errorf("raftlog: create: %w", err)
	}
	files, err := listFiles(o.FS, o.Dir)
	if err != nil {
		return nil, fmt.Errorf("raftlog: create: %w", err)
	}
	if len(files.segments) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrExists, o.Dir)
	}
	if err := removeFiles(o.FS, o.Dir, files.temps); err != nil {
		return nil, fmt.Errorf("raftlog: create: %w", err)
	}
	l := newLog(o, base, hardState{term: base.Term, commit: base.Index})
	if _, err := l.begin(1, base, true); err != nil {
		return nil, fmt.Errorf("raftlog: create: %w", err)
	}
	return l, nil
}

// newLog returns a log without any segment yet.
func newLog(o Options, base Position, hs hardState) *Log {
	l := &Log{o: o, hs: hs, index: newIndex(base), tail: tail{limit: o.TailBytes}}
	l.w = writer{hs: hs, end: base}
	l.reader.w.chunk = readChunkBytes
	return l
}

// begin starts a segment with which the log begins anew at base, makes it the only one, and returns those before.
func (l *Log) begin(number uint64, base Position, zeroFill bool) (before []*segment, err error) {
	seg, err := l.nextSegment(segmentHeader{
		origin: true, number: number, firstSeq: l.w.seq + 1, base: base, hs: l.w.hs, synced: l.w.seq,
	}, zeroFill)
	if err != nil {
		return nil, err
	}
	l.w.enter(seg)
	l.w.end = base
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.segments
	l.segments, l.end = []*segment{seg}, seg.end
	replaced := l.index.replaced
	l.index = newIndex(base)
	l.index.replaced = replaced + 1
	l.tail.trim(^uint64(0))
	l.hs = l.w.hs
	return before, nil
}

// HardState returns the last hard state whose append has returned. Its commit index is never below what the state had
// applied when the log was opened, nor below the entry before FirstIndex. The caller owns the result.
func (l *Log) HardState() *raftpb.HardState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hs.proto()
}

// FirstIndex is the index of the first entry that Entries can return, LastIndex+1 if there is none. The error is
// always nil; it is there for raft.Storage.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index.base.Index + 1, nil
}

// LastIndex is the index of the newest entry whose append has returned, FirstIndex-1 if there is none. The error is
// always nil; it is there for raft.Storage.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index.last, nil
}

// Term returns the term of entry i, FirstIndex-1 <= i <= LastIndex.
//
// Errors: raft.ErrCompacted below that range, raft.ErrUnavailable above. Source: raft.Storage.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case i < l.index.base.Index:
		return 0, raft.ErrCompacted
	case i > l.index.last:
		return 0, raft.ErrUnavailable
	}
	return l.index.term(i), nil
}

// Size returns the bytes that records and headers take, and the number of segments.
func (l *Log) Size() (bytes int64, segments int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments[:len(l.segments)-1] {
		bytes += s.end
	}
	return bytes + l.end, len(l.segments)
}

// Err returns the failure that poisoned the log, ErrClosed after Close, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close marks everything as synced, so that the next Open can tell damage from a torn write, and closes the files.
// Nobody may call the log any more, and no call may be under way.
func (l *Log) Close() error {
	err := l.MarkIdle()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = ErrClosed
	for _, s := range l.segments {
		err = errors.Join(err, s.file.Close())
	}
	if l.spare != nil {
		err = errors.Join(err, l.spare.file.Close(), l.o.FS.Remove(l.spare.path))
		l.spare = nil
	}
	return err
}

// poison records the first failure and returns the one to report.
func (l *Log) poison(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	return l.err
}

// acquire keeps the segment's file open until release. l.mu is held.
func (s *segment) acquire() { s.refs++ }

func (l *Log) release(s *segment) error {
	l.mu.Lock()
	s.refs--
	last := s.dropped && s.refs == 0
	l.mu.Unlock()
	if last {
		return s.file.Close()
	}
	return nil
}

// drop closes the file of a segment that is no longer in l.segments, now or when its last reader is done.
func (l *Log) drop(s *segment) error {
	l.mu.Lock()
	s.dropped = true
	unused := s.refs == 0
	l.mu.Unlock()
	if unused {
		return s.file.Close()
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync directory %s: %w", dir, err), d.Close())
	}
	if err := d.Close(); err != nil {
		return fmt.Errorf("close directory %s: %w", dir, err)
	}
	return nil
}

// removeFiles removes names from dir in order, and makes that durable before it returns.
func removeFiles(fs vfs.FS, dir string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := fs.Remove(fs.PathJoin(dir, name)); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return syncDir(fs, dir)
}
