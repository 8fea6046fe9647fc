package raftlog

import (
	"fmt"
	"hash/crc32"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	recordSoftBytes = 1 << 20 // a record is ended when its body has grown to this
	writeSoftBytes  = 4 << 20 // what is encoded is written when it has grown to this
	bufferKeep      = 8 << 20 // a larger buffer is given back after use
)

// writer is what the append goroutine knows: the place of the next record, and what was written but is not yet
// visible to readers.
//
// Invariant: watermark <= synced <= seq, lastData <= seq.
type writer struct {
	seg    *segment
	off    int64  // where buf belongs in seg
	buf    []byte // records that are encoded but not written
	seq    uint64 // of the newest record, written or in buf
	prev   uint64 // hash of its header
	synced uint64 // records up to this sequence number are durable

	watermark uint64 // the highest watermark that stands in a record
	lastData  uint64 // the newest record with entries or a hard state

	hs    hardState // in the newest record
	end   Position  // the newest entry in a record
	dirty int       // bytes written since the last sync

	staged []stagedRecord  // records with entries, to be published
	terms  []termRange     // where the term changes in them, to be published
	opened []*segment      // segments begun, to be published
	pend   []*raftpb.Entry // entries that wait for their record; empty between appends
}

// stagedRecord is a record that is written but not yet visible.
type stagedRecord struct {
	seg         *segment
	off         int64
	first, last uint64
	prevTerm    uint64
	terms       int // how many of writer.terms come up to here
}

// enter makes seg the one that is written.
func (w *writer) enter(seg *segment) {
	w.seg, w.off, w.buf = seg, seg.end, w.buf[:0]
}

// Append writes the batches, in order, as few records, and makes them durable with one sync. When it returns nil they
// are on disk and visible. A batch that changes nothing but the commit index is written but not waited for: no
// promise depends on it, and after a crash the commit index is learned again.
//
// An error is a failure of the disk. The log is then poisoned: whether the batches are on disk is unknown, every later
// call returns the same error, and the caller must stop the process. A batch that breaks a rule of Batch panics.
func (l *Log) Append(batches ...Batch) error {
	if err := l.Err(); err != nil {
		return err
	}
	mustSync, err := l.stage(batches)
	if err == nil {
		err = l.flush()
	}
	if err == nil && mustSync {
		err = l.sync()
	}
	if err != nil {
		return l.poison(fmt.Errorf("raftlog: append: %w", err))
	}
	l.publish(batches)
	return nil
}

// stage turns the batches into records in the buffer. It writes only when the buffer or the segment is full.
//
// Batches whose entries follow each other share records. A record's hard state is the one after the batch its entries
// come from; with a commit index limited to its own last entry, so that it never speaks of entries that a later
// record brings and a crash may take away.
func (l *Log) stage(batches []Batch) (mustSync bool, err error) {
	w := &l.w
	hs, last := w.hs, w.end.Index
	var prevTerm uint64
	defer func() { clear(w.pend); w.pend = w.pend[:0] }()
	for i := range batches {
		b := &batches[i]
		mustSync = mustSync || b.MustSync
		if len(b.Entries) > 0 {
			first := b.Entries[0].GetIndex()
			if first <= hs.commit || first > last+1 {
				panic(fmt.Sprintf("raftlog: append from %d, but commit is %d and last is %d", first, hs.commit, last))
			}
			if len(w.pend) > 0 && first != last+1 {
				if err := l.stageEntries(w.pend, prevTerm, hs); err != nil {
					return false, err
				}
				w.pend = w.pend[:0]
			}
			if len(w.pend) == 0 {
				prevTerm = l.stagedTerm(batches[:i], first-1)
			}
			w.pend = append(w.pend, b.Entries...)
			last = first + uint64(len(b.Entries)) - 1
			mustSync = true
		}
		if next := hardStateOf(b.HardState); next != (hardState{}) {
			if next.term < hs.term || next.commit < hs.commit || next.commit > last {
				panic(fmt.Sprintf("raftlog: hard state %+v after %+v, last index %d", next, hs, last))
			}
			mustSync = mustSync || next.term != hs.term || next.vote != hs.vote
			hs = next
		}
	}
	if len(w.pend) > 0 {
		return mustSync, l.stageEntries(w.pend, prevTerm, hs)
	}
	if hs != w.hs {
		return mustSync, l.stageRecord(recordHeader{kind: kindState, hs: hs}, nil)
	}
	return mustSync, nil
}

// stagedTerm returns the term of entry i as it will be after the batches before.
func (l *Log) stagedTerm(before []Batch, i uint64) uint64 {
	for n := len(before) - 1; n >= 0; n-- {
		if e := before[n].Entries; len(e) > 0 && i >= e[0].GetIndex() {
			return e[i-e[0].GetIndex()].GetTerm()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index.term(i)
}

// stageEntries makes records of consecutive entries. hs is the hard state after all of them.
func (l *Log) stageEntries(entries []*raftpb.Entry, prevTerm uint64, hs hardState) error {
	for len(entries) > 0 {
		n, size := 0, 0
		first, term := entries[0].GetIndex(), prevTerm
		for n < len(entries) && (n == 0 || size+len(entries[n].Data) <= recordSoftBytes) {
			size += len(entries[n].Data) + entryMaxOverhead
			if t := entries[n].GetTerm(); t != term {
				l.w.terms = append(l.w.terms, termRange{first + uint64(n), t})
				term = t
			}
			n++
		}
		last := first + uint64(n) - 1
		h := recordHeader{kind: kindEntries, first: first, count: uint32(n), prevTerm: prevTerm, hs: hs}
		h.hs.commit = min(hs.commit, last)
		if err := l.stageRecord(h, entries[:n]); err != nil {
			return err
		}
		prevTerm = term
		entries = entries[n:]
	}
	return nil
}

// stageRecord encodes one record behind the buffer, in a new segment if this one is full. It fills in the fields of h
// that depend on the place.
func (l *Log) stageRecord(h recordHeader, entries []*raftpb.Entry) error {
	w := &l.w
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, recordHeaderSize)...)
	w.buf = appendBody(w.buf, &h, entries)
	size := int64(len(w.buf) - at)
	room := l.o.SegmentBytes - recordHeaderSize // the seal needs a place too
	if off := w.off + int64(at); off > segmentHeaderSize && off+size > room {
		rec := append([]byte(nil), w.buf[at:]...) // rare: once a segment
		w.buf = w.buf[:at]
		if err := l.rotate(); err != nil {
			return err
		}
		w.buf, at = append(w.buf[:0], rec...), 0
	}
	l.finishRecord(&h, at)
	if h.kind == kindEntries {
		w.staged = append(w.staged, stagedRecord{w.seg, int64(h.offset), h.first, h.last(), h.prevTerm, len(w.terms)})
		w.end = Position{h.last(), entries[len(entries)-1].GetTerm()}
	}
	if h.kind != kindMarker {
		w.lastData = w.seq
	}
	if len(w.buf) >= writeSoftBytes {
		return l.flush()
	}
	return nil
}

// appendBody encodes entries, or the zeros of a marker, padding and footer, and sets the header's body length.
func appendBody(b []byte, h *recordHeader, entries []*raftpb.Entry) []byte {
	if h.kind == kindMarker && h.bodyLen > 0 {
		b = append(b, make([]byte, h.bodyLen)...)
		return append(b, recordFooter...)
	}
	if len(entries) == 0 {
		return b
	}
	start, term := len(b), h.prevTerm
	for i, e := range entries {
		if e.GetIndex() != h.first+uint64(i) || e.GetTerm() < term {
			panic(fmt.Sprintf("raftlog: entry %d of term %d at place %d, after term %d",
				e.GetIndex(), e.GetTerm(), h.first+uint64(i), term))
		}
		b = appendEntry(b, e, term)
		term = e.GetTerm()
	}
	if len(b)-start > maxBodyBytes {
		panic(fmt.Sprintf("raftlog: record of %d bytes at entry %d, limit %d", len(b)-start, h.first, maxBodyBytes))
	}
	h.bodyLen = uint32(len(b) - start)
	for (len(b)-start)%recordAlign != 0 {
		b = append(b, 0)
	}
	return append(b, recordFooter...)
}

// finishRecord fills in the header of the record that stands at place at of the buffer.
func (l *Log) finishRecord(h *recordHeader, at int) {
	w := &l.w
	body := w.buf[at+recordHeaderSize : at+recordHeaderSize+int(h.bodyLen)]
	h.fileID, h.offset = w.seg.header.fileID, uint64(w.off)+uint64(at)
	h.seq, h.prev, h.synced = w.seq+1, w.prev, w.synced
	if h.bodyLen > 0 {
		h.bodyCRC = crc32.Checksum(body, castagnoli)
		h.zeroSectors = zeroSectorsIn(w.buf[at+recordHeaderSize:at+int(h.size())-footerSize], int64(h.offset)+recordHeaderSize)
	}
	w.prev = h.encode(w.buf[at:])
	w.seq, w.hs, w.watermark = h.seq, h.hs, h.synced
}

// rotate ends the segment and begins the next one, in this order:
//
//  1. what is buffered is written to the old segment;
//  2. the new segment gets its header and its name, durably;
//  3. the old segment gets its seal, and is synced.
//
// So a sealed segment always has a successor, and a successor with records always has a sealed segment before it.
func (l *Log) rotate() error {
	w := &l.w
	if err := l.flush(); err != nil {
		return err
	}
	old, synced := w.seg, w.synced
	w.buf = append(w.buf[:0], make([]byte, recordHeaderSize)...)
	l.finishRecord(&recordHeader{kind: kindSeal, hs: w.hs}, 0)
	next, err := l.nextSegment(segmentHeader{
		number: old.header.number + 1, firstSeq: w.seq + 1, base: w.end, hs: w.hs, synced: synced, prev: w.prev,
	}, false)
	if err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.mu.Lock()
	old.end = w.off
	l.mu.Unlock()
	w.opened = append(w.opened, next)
	w.enter(next)
	return nil
}

// flush writes the buffer to the file.
func (l *Log) flush() error {
	w := &l.w
	if len(w.buf) == 0 {
		return nil
	}
	if err := writeAt(w.seg.file, w.buf, w.off); err != nil {
		return fmt.Errorf("write %d bytes to %s at %d: %w", len(w.buf), w.seg.path, w.off, err)
	}
	w.off += int64(len(w.buf))
	w.dirty += len(w.buf)
	w.buf = w.buf[:0]
	if cap(w.buf) > bufferKeep {
		w.buf = nil
	}
	return nil
}

// sync makes everything written so far durable. Nothing is buffered when it is called.
func (l *Log) sync() error {
	w := &l.w
	if w.dirty == 0 {
		return nil
	}
	start := l.now()
	if err := w.seg.file.SyncData(); err != nil {
		return fmt.Errorf("sync %s: %w", w.seg.path, err)
	}
	if l.o.OnSync != nil {
		l.o.OnSync(w.dirty, l.now()-start)
	}
	w.synced, w.dirty = w.seq, 0
	return nil
}

func (l *Log) now() time.Duration {
	if l.o.Now == nil {
		return 0
	}
	return l.o.Now()
}

// publish makes visible what was staged.
func (l *Log) publish(batches []Batch) {
	w := &l.w
	l.mu.Lock()
	defer l.mu.Unlock()
	terms := 0
	for _, s := range w.staged {
		l.index.add(s.seg, s.off, s.first, s.last, s.prevTerm)
		l.index.terms = append(l.index.terms, w.terms[terms:s.terms]...)
		terms = s.terms
	}
	for i := range batches {
		if e := batches[i].Entries; len(e) > 0 {
			l.tail.add(e)
		}
	}
	l.hs = w.hs
	l.segments = append(l.segments, w.opened...)
	l.end = w.off
	clear(w.staged)
	clear(w.opened)
	w.staged, w.terms, w.opened = w.staged[:0], w.terms[:0], w.opened[:0]
}

// MarkIdle repeats the watermark behind the newest record and syncs it, unless that was done already. From then on
// damage to the newest record cannot be taken for a torn write. The append goroutine calls it when it has been without
// work for a moment; it costs one small write and one sync, once. Errors are those of Append.
func (l *Log) MarkIdle() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.w.watermark >= l.w.lastData {
		return nil
	}
	if err := l.mark(); err != nil {
		return l.poison(fmt.Errorf("raftlog: mark: %w", err))
	}
	l.publish(nil)
	return nil
}

// mark writes a marker that fills the page, unless it is full, and one more in the next page, so that the loss of any
// one page cannot take the newest record together with every word of it. If the segment has no room for that, the
// header of the next segment is the marker.
func (l *Log) mark() error {
	if err := l.sync(); err != nil { // commit indexes that were written without one
		return err
	}
	filler := markerFiller(l.w.off)
	if l.w.off+filler+recordHeaderSize > l.o.SegmentBytes-recordHeaderSize {
		return l.rotate()
	}
	if filler > 0 {
		h := recordHeader{kind: kindMarker, hs: l.w.hs}
		if filler > recordHeaderSize {
			h.bodyLen = uint32(filler - recordHeaderSize - footerSize)
		}
		if err := l.stageRecord(h, nil); err != nil {
			return err
		}
	}
	if err := l.stageRecord(recordHeader{kind: kindMarker, hs: l.w.hs}, nil); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	return l.sync()
}

// markerFiller returns the size of the record that takes off to the start of a page, 0 if it is there.
func markerFiller(off int64) int64 {
	gap := (pageSize - off%pageSize) % pageSize
	if gap > 0 && gap != recordHeaderSize && gap <= recordHeaderSize+footerSize {
		gap += pageSize // no record is that small
	}
	return gap
}
