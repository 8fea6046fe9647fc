package raftlog

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Entries returns the entries lo <= index < hi, or as many of the first of them as fit into maxSize bytes as raft
// counts them, but at least one. The caller owns the slice, nobody may change the entries. Entries that are no longer
// in memory are read from the files, one reader at a time.
//
// Errors: raft.ErrCompacted if lo < FirstIndex, raft.ErrUnavailable if hi > LastIndex+1, a CorruptError if a file does
// not hold what was written to it, failures of the disk. Source: raft.Storage.
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	g := gather{lo: lo, hi: hi, limit: maxSize}
	l.mu.Lock()
	done, err := l.gatherTail(&g)
	l.mu.Unlock()
	if done || err != nil {
		return g.entries, err
	}
	l.readMu.Lock()
	defer l.readMu.Unlock()
	for {
		g = gather{lo: lo, hi: hi, limit: maxSize}
		again, err := l.gatherFiles(&g)
		if err != nil {
			return nil, err
		}
		if !again {
			return g.entries, nil
		}
	}
}

// gather collects consecutive entries up to a limit.
type gather struct {
	lo, hi, limit uint64
	entries       []*raftpb.Entry
	size          uint64
	full          bool
}

// next is the index of the entry that is wanted next.
func (g *gather) next() uint64 { return g.lo + uint64(len(g.entries)) }

func (g *gather) done() bool { return g.full || g.next() >= g.hi }

// take adds consecutive entries, which begin at next, until it is done.
func (g *gather) take(entries []*raftpb.Entry) {
	for _, e := range entries {
		if g.done() {
			return
		}
		size := g.size + entrySize(e)
		if size > g.limit && len(g.entries) > 0 {
			g.full = true
			return
		}
		g.entries, g.size = append(g.entries, e), size
	}
}

// gatherTail checks the range and serves it from memory if its next entry is there. l.mu is held.
func (l *Log) gatherTail(g *gather) (done bool, err error) {
	if g.lo <= l.index.base.Index {
		return false, raft.ErrCompacted
	}
	if g.hi > l.index.last+1 {
		return false, raft.ErrUnavailable
	}
	if g.done() {
		return true, nil
	}
	first, ok := l.tail.first()
	if !ok || g.next() < first {
		return false, nil
	}
	from := g.next() - first
	if g.entries == nil {
		g.entries = make([]*raftpb.Entry, 0, min(g.hi-g.lo, uint64(len(l.tail.entries))-from))
	}
	g.take(l.tail.entries[from:])
	return true, nil
}

// gatherFiles reads from the files until the range is complete or the tail continues it. again reports that a suffix
// was replaced meanwhile, so that what was gathered may be a mixture. readMu is held.
func (l *Log) gatherFiles(g *gather) (again bool, err error) {
	l.mu.Lock()
	replaced := l.index.replaced
	for {
		if l.index.replaced != replaced {
			l.mu.Unlock()
			return true, nil
		}
		done, err := l.gatherTail(g)
		if done || err != nil {
			l.mu.Unlock()
			return false, err
		}
		r, p := l.index.runOf(g.next())
		part := filePart{seg: r.seg, off: p.off, last: r.last, size: r.seg.end}
		if r.seg == l.segments[len(l.segments)-1] {
			part.size = l.end
		}
		part.seg.acquire()
		l.mu.Unlock()
		readErr := l.reader.read(part, g)
		if err := l.release(part.seg); readErr == nil {
			readErr = err
		}
		if readErr != nil {
			return false, fmt.Errorf("raftlog: read entry %d: %w", g.next(), readErr)
		}
		l.mu.Lock()
	}
}

// filePart is the stretch of a segment that holds a run, or the rest of one.
type filePart struct {
	seg  *segment
	off  int64  // of a record of the run
	last uint64 // last live entry of the run
	size int64  // bytes of the file that hold records
}

// entryFileReader reads entries from segments. It keeps the record in which the last read ended, because the next
// read usually begins there. It is guarded by Log.readMu.
type entryFileReader struct {
	w window

	seg     *segment
	off     int64
	entries []*raftpb.Entry
}

// read takes entries of a part until g is done or the part ends. The first one it wants is in the part.
func (r *entryFileReader) read(part filePart, g *gather) error {
	r.w.reset(part.seg.file, part.size)
	for off := part.off; !g.done() && g.next() <= part.last; {
		head, err := r.w.at(off, recordHeaderSize)
		if err != nil {
			return err
		}
		h, bad := parseRecordHeader(head, part.seg.header.fileID, off)
		if bad != nil {
			return corrupt(part.seg.path, bad.at, bad.expected, bad.found)
		}
		if off+h.size() > part.size {
			return corrupt(part.seg.path, off, fmt.Sprintf("at most %d bytes", part.size-off), fmt.Sprint(h.size()))
		}
		if h.kind == kindEntries && h.last() >= g.next() {
			if h.first > g.next() {
				return corrupt(part.seg.path, off, fmt.Sprintf("entry %d", g.next()), fmt.Sprint(h.first))
			}
			if err := r.takeRecord(part, &h, g); err != nil {
				return err
			}
		}
		off += h.size()
	}
	return nil
}

// takeRecord takes the live entries of the record with the header h, from g.next on.
func (r *entryFileReader) takeRecord(part filePart, h *recordHeader, g *gather) error {
	off := int64(h.offset)
	if r.seg != part.seg || r.off != off {
		b, err := r.w.at(off, int(h.size()))
		if err != nil {
			return err
		}
		body, d := checkBody(h, b)
		if d != nil {
			return corrupt(part.seg.path, d.at, d.expected, d.found)
		}
		if r.entries, err = decodeEntries(h, body); err != nil {
			return corrupt(part.seg.path, off+recordHeaderSize, "entries", err.Error())
		}
		r.seg, r.off = part.seg, off
	}
	live := r.entries[:min(h.last(), part.last)-h.first+1]
	g.take(live[g.next()-h.first:])
	if g.next() > h.last() {
		r.seg, r.entries = nil, nil
	}
	return nil
}
