package raftlog

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Recovery says what Open found and did, for the start-up log line.
type Recovery struct {
	Segments    int    // files that make up the log
	Records     int    // in them
	Entries     uint64 // live ones
	Bytes       int64  // that headers and records take
	First, Last uint64 // indexes, as FirstIndex and LastIndex
	Cut         *Cut   // nil if the log ended whole
	// Removed are the files that were removed: temporary ones, segments before a reset, a segment that was being begun.
	Removed []string
	// Confirmed is how many bytes at the end were written again and synced, because nothing proved that they had been.
	Confirmed int64
	// Replaced is true if OpenInstalled found a log that ended before the snapshot.
	Replaced bool
}

// Cut is the unfinished write that Open took off the end of the log. It was never acknowledged to anybody.
type Cut struct {
	File            string
	Offset, Bytes   int64  // what is zero now
	Sequence        uint64 // of the record that was not whole
	Expected, Found string // why it was not
}

// dirFiles are the names in a log's directory that belong to it.
type dirFiles struct {
	segments []uint64 // numbers, rising
	temps    []string // sorted
}

// listFiles sorts the names in dir. Names that are not ours are left alone. A directory that does not exist holds nothing.
func listFiles(fs vfs.FS, dir string) (dirFiles, error) {
	var files dirFiles
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return files, fmt.Errorf("list %s: %w", dir, err)
	}
	for _, name := range names {
		if number, ok := segmentNumber(name); ok {
			files.segments = append(files.segments, number)
		} else if isTemp(name) {
			files.temps = append(files.temps, name)
		}
	}
	slices.Sort(files.segments)
	slices.Sort(files.temps)
	return files, nil
}

// Open recovers the log after a stop or a crash. durable is the position up to which the state holds everything on its
// disk; it has to be inside the log. Everything that Append returned nil for is there again. What a crash left half
// written at the end is cut off if it is proven that nobody was told of it; anything else that is not as written
// refuses, and nothing on disk is changed before all checks have passed.
//
// Errors: ErrNoLog, ErrWrongMember, ErrStateMismatch, CorruptError; failures of the disk.
func Open(o Options, durable Position) (*Log, Recovery, error) {
	return open(o, durable, false)
}

// OpenInstalled is Open after a crash that may have come between the installation of a snapshot at position installed
// and the Reset that goes with it. The caller has proof that the state holds exactly that snapshot, durably. A log that
// ends before the position, or has another term there, is replaced by an empty one behind it. One that begins after it is
// refused as by Open: what it holds was acknowledged, and is in no state that ends before.
func OpenInstalled(o Options, installed Position) (*Log, Recovery, error) {
	return open(o, installed, true)
}

func open(o Options, durable Position, installed bool) (_ *Log, _ Recovery, err error) {
	o = o.withDefaults()
	r := recoverer{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := r.read(); err != nil {
		return nil, Recovery{}, fmt.Errorf("raftlog: open %s: %w", o.Dir, err)
	}
	fits := r.checkState(durable)
	replaces := installed && !errors.Is(fits, ErrStateBehind) && durable.Index >= r.hs.commit
	if fits != nil && !replaces {
		return nil, Recovery{}, fmt.Errorf("raftlog: open %s: %w", o.Dir, fits)
	}
	if err := r.repair(); err != nil {
		return nil, Recovery{}, fmt.Errorf("raftlog: open %s: %w", o.Dir, err)
	}
	l := r.log()
	r.segments = nil // they belong to the log from here on
	if fits != nil {
		r.report.Replaced = true
		err = l.Reset(durable, nil)
	} else {
		l.raiseCommit(durable.Index)
		err = l.MarkIdle()
	}
	if err != nil {
		return nil, Recovery{}, errors.Join(err, l.closeFiles())
	}
	r.report.First, r.report.Last = l.index.base.Index+1, l.index.last
	r.report.Entries = l.index.last - l.index.base.Index
	r.report.Bytes, r.report.Segments = l.Size()
	return l, r.report, nil
}

// raiseCommit makes the commit index at least i, which the state has applied. The newest commit indexes are written
// without a sync and a crash may have taken them.
func (l *Log) raiseCommit(i uint64) {
	l.hs.commit = max(l.hs.commit, i)
	l.w.hs = l.hs
}

// recoverer reads the files of a log and decides what is to be done. It changes nothing before repair.
type recoverer struct {
	o        Options
	files    dirFiles
	segments []*segment // that count, oldest first
	remove   []string   // names to remove
	report   Recovery

	index  index
	hs     hardState
	cursor *cursor // behind the newest record of the segment being read

	watermark uint64  // highest seen anywhere
	open      []place // records above the watermark, oldest first
	lastData  uint64  // sequence number of the newest record that is not a marker
	cutEnd    int64   // where the bytes to be zeroed end; the cursor's offset if there are none
}

// place is where a record begins.
type place struct {
	segment int
	off     int64
	seq     uint64
}

func (r *recoverer) close() error {
	var err error
	for _, s := range r.segments {
		err = errors.Join(err, s.file.Close())
	}
	return err
}

// load opens the segments that count: those from the newest origin on.
func (r *recoverer) load() error {
	var err error
	if r.files, err = listFiles(r.o.FS, r.o.Dir); err != nil {
		return err
	}
	if len(r.files.segments) == 0 {
		return fmt.Errorf("%w; %s", ErrNoLog, adviceForeign)
	}
	r.remove = slices.Clone(r.files.temps)
	for _, number := range r.files.segments {
		s, err := r.openSegment(number)
		if s != nil {
			r.segments = append(r.segments, s)
		}
		if err != nil {
			return err
		}
	}
	return r.dropVoid()
}

func (r *recoverer) openSegment(number uint64) (*segment, error) {
	path := r.o.FS.PathJoin(r.o.Dir, segmentName(number))
	file, err := r.o.FS.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &segment{path: path, file: file}
	w := &window{chunk: segmentHeaderSize}
	info, err := file.Stat()
	if err != nil {
		return s, fmt.Errorf("stat %s: %w", path, err)
	}
	w.reset(file, info.Size())
	b, err := w.at(0, segmentHeaderSize)
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if s.header, err = parseSegmentHeader(path, b); err != nil {
		return s, err
	}
	h := &s.header
	if h.clusterID != r.o.ClusterID || h.memberID != r.o.MemberID {
		return s, fmt.Errorf("%w: %s is of cluster %016x member %016x, this is cluster %016x member %016x; %s",
			ErrWrongMember, path, h.clusterID, h.memberID, r.o.ClusterID, r.o.MemberID, adviceForeign)
	}
	if h.number != number || h.firstSeq == 0 || h.synced >= h.firstSeq {
		return s, corrupt(path, 32, fmt.Sprintf("segment %d and a watermark below its records", number),
			fmt.Sprintf("segment %d, records from %d, watermark %d", h.number, h.firstSeq, h.synced))
	}
	return s, nil
}

// dropVoid leaves out what stands before the newest origin.
func (r *recoverer) dropVoid() error {
	origin := 0
	for i, s := range r.segments {
		if s.header.origin {
			origin = i
		}
	}
	for _, s := range r.segments[:origin] {
		r.remove = append(r.remove, segmentName(s.header.number))
		if err := s.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", s.path, err)
		}
	}
	r.segments = slices.Delete(r.segments, 0, origin)
	return nil
}

// scan reads all records, in order.
func (r *recoverer) scan() error {
	first := &r.segments[0].header
	r.index, r.hs = newIndex(first.base), first.hs
	r.watermark = first.synced
	r.lastData = first.firstSeq - 1
	for i := range r.segments {
		done, err := r.scanSegment(i)
		if err != nil || done {
			return err
		}
	}
	return nil
}

// scanSegment reads one segment. done means that the log ends in it.
func (r *recoverer) scanSegment(i int) (done bool, err error) {
	s := r.segments[i]
	if i > 0 {
		if err := r.checkSuccessor(s); err != nil {
			return false, err
		}
	}
	info, err := s.file.Stat()
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", s.path, err)
	}
	r.noteWatermark(s.header.synced)
	r.cursor = newCursor(&s.header, s.file, info.Size())
	for !r.cursor.sealed {
		rec, d, err := r.cursor.next()
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.path, err)
		}
		if d != nil {
			return true, r.endAt(i, d)
		}
		if err := r.note(i, &rec); err != nil {
			return false, err
		}
	}
	s.end = r.cursor.off
	if i == len(r.segments)-1 {
		return false, corrupt(s.path, s.end, "a next segment, "+segmentName(s.header.number+1), "none")
	}
	return false, checkSealedRest(s.path, r.cursor)
}

// checkSuccessor compares a segment's header with what was read before it.
func (r *recoverer) checkSuccessor(s *segment) error {
	h, c := &s.header, r.cursor
	last := Position{r.index.last, r.index.term(r.index.last)}
	before := r.segments[slices.Index(r.segments, s)-1].header.number
	switch {
	case h.number != before+1:
		return corrupt(s.path, 32, fmt.Sprintf("segment %d to follow segment %d", before+1, before), "a gap")
	case h.firstSeq != c.seq || h.prev != c.prev:
		return corrupt(s.path, 40, fmt.Sprintf("record %d after hash %016x", c.seq, c.prev),
			fmt.Sprintf("record %d after hash %016x", h.firstSeq, h.prev))
	case h.base != last || h.hs != r.hs:
		return corrupt(s.path, 48, fmt.Sprintf("base %+v and hard state %+v", last, r.hs),
			fmt.Sprintf("base %+v and hard state %+v", h.base, h.hs))
	}
	return nil
}

// note takes a sound record into the picture.
func (r *recoverer) note(i int, rec *record) error {
	s := r.segments[i]
	r.noteWatermark(rec.synced)
	r.open = append(r.open, place{i, rec.off, rec.seq})
	r.report.Records++
	if rec.kind != kindMarker {
		r.lastData = rec.seq
	}
	if rec.kind == kindEntries {
		if err := r.noteEntries(i, rec); err != nil {
			return err
		}
	}
	if rec.hs.term < r.hs.term || rec.hs.commit < r.hs.commit || rec.hs.commit > r.index.last {
		return corrupt(s.path, rec.off+64, fmt.Sprintf("a hard state after %s, last index %d", r.hs, r.index.last),
			rec.hs.String())
	}
	r.hs = rec.hs
	return nil
}

func (r *recoverer) noteEntries(i int, rec *record) error {
	s, x := r.segments[i], &r.index
	switch {
	case rec.first > x.last+1 || rec.first <= r.hs.commit:
		return corrupt(s.path, rec.off+40, fmt.Sprintf("entries from %d to %d on", r.hs.commit+1, x.last+1),
			fmt.Sprintf("from %d", rec.first))
	case rec.first <= x.base.Index && r.segments[0].header.origin:
		return corrupt(s.path, rec.off+40, fmt.Sprintf("entries above the base %d", x.base.Index),
			fmt.Sprintf("from %d", rec.first))
	case rec.first > x.base.Index && rec.prevTerm != x.term(rec.first-1):
		return corrupt(s.path, rec.off+56, fmt.Sprintf("term %d before entry %d", x.term(rec.first-1), rec.first),
			fmt.Sprint(rec.prevTerm))
	}
	x.add(s, rec.off, rec.first, rec.last(), rec.prevTerm)
	e := newEntryReader(&rec.recordHeader, rec.body)
	for range rec.count {
		if err := e.next(); err != nil {
			return corrupt(s.path, rec.off+recordHeaderSize, "entries", err.Error())
		}
		if e.flags&entryNewTerm != 0 {
			x.terms = append(x.terms, termRange{e.index, e.term})
		}
	}
	return nil
}

// read finds out what the files hold.
func (r *recoverer) read() error {
	if err := r.load(); err != nil {
		return err
	}
	return r.scan()
}

// noteWatermark raises the watermark and forgets the records that it covers.
func (r *recoverer) noteWatermark(seq uint64) {
	r.watermark = max(r.watermark, seq)
	n := 0
	for n < len(r.open) && r.open[n].seq <= r.watermark {
		n++
	}
	r.open = r.open[n:]
}

// checkState compares the recovered log with the state on disk: the state continues where the log begins or later,
// and it does not hold what the log does not know.
func (r *recoverer) checkState(durable Position) error {
	x := &r.index
	lost := ""
	if c := r.report.Cut; c != nil {
		lost = fmt.Sprintf(" (behind it %s has %d bytes at offset %d that are not a whole record: expected %s, found %s)",
			c.File, c.Bytes, c.Offset, c.Expected, c.Found)
	}
	switch {
	case durable.Index < x.base.Index:
		return fmt.Errorf("%w: the state holds entries up to %d, the log begins with %d; %s",
			ErrStateBehind, durable.Index, x.base.Index+1, adviceDamage)
	case durable.Index > x.last:
		return fmt.Errorf("%w: the state holds entries up to %d, the log ends with %d%s; %s",
			ErrStateMismatch, durable.Index, x.last, lost, adviceDamage)
	case durable.Term != x.term(durable.Index):
		return fmt.Errorf("%w: entry %d has term %d in the state and %d in the log; %s",
			ErrStateMismatch, durable.Index, durable.Term, x.term(durable.Index), adviceDamage)
	}
	return nil
}

// log builds the open log from what was read.
func (r *recoverer) log() *Log {
	l := newLog(r.o, r.index.base, r.hs)
	newest := r.segments[len(r.segments)-1]
	newest.end = segmentHeaderSize
	l.segments, l.end, l.index = r.segments, r.cursor.off, r.index
	l.w = writer{
		seg: newest, off: r.cursor.off, seq: r.cursor.seq - 1, prev: r.cursor.prev, synced: r.cursor.seq - 1,
		watermark: r.watermark, lastData: r.lastData, hs: r.hs,
		end: Position{r.index.last, r.index.term(r.index.last)},
	}
	return l
}

// closeFiles closes what a failed open has in hand.
func (l *Log) closeFiles() error {
	var err error
	for _, s := range l.segments {
		err = errors.Join(err, s.file.Close())
	}
	return err
}
