package mvcc

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"keelson/storage"
)

// Tx carries a run of commands into one storage batch. What a command changes gets one revision, with sub-revisions
// in the order of the changes; later commands of the run see it, readers see it once the run is published.
//
//	tx := s.Begin(batch)
//	tx.Put(...); tx.DeleteRange(...); tx.EndCommand()   // one command
//	...                                                  // more of them
//	tx.EndEntry()                                        // that came in one entry of the log
//	...                                                  // more of them
//	tx.Finish(); batch.Commit(); s.Publish(tx)
//
// The batch may lack versions until Finish: who reads them goes through the Tx.
//
// There is one Tx at a time; Begin drops one that was not published. A failed method leaves the batch half written:
// the member must stop. It belongs to the goroutine that applies.
type Tx struct {
	s     *Store
	batch *storage.Batch
	now   publication // after the last command that has ended
	sub   uint32      // changes of the command that is under way
	moved bool        // now differs from what is published

	floorBefore Revision // the floor that now's has replaced, if the run has moved it

	// index and touched hold the newest version of each key that the run has changed.
	index   map[string]int
	touched []touchedKey
	events  []Event
	lastRun int // events of the last run, as a hint
	// held is about how many bytes events hold. Beyond the limit they are light: without previous pairs, as the touched keys
	// are.
	held  int
	light bool
	// replaced has for each event the version that it replaced, zero if there was none live.
	replaced []storage.Version
	written  int // events whose changes are written
	// waiting are the versions that are not in the batch yet. Who reads versions through the batch writes them first.
	waiting []*record

	it        *storage.Iter // points of what is committed; nil until needed
	flushed   *storage.Iter // points of what was flushed when it was opened; nil until needed
	flushedTo Revision      // everything up to here was flushed then
	changes   changeWriter
	head      []byte // scratch
	buf       []byte // scratch
}

type touchedKey struct {
	rec *record
	// before is the pair as it was before the command that made rec. Nil: there was none.
	// Nil, too, if the run is light.
	before *KeyValue
}

// waitingMax bounds the versions that wait to be written.
const waitingMax = 1 << 12

// touchedKeep bounds the keys of a run whose memory is kept for the next one.
const touchedKeep = 1 << 12

// Begin starts a run of commands that are written to b, which must be a batch that can be read through.
func (s *Store) Begin(b *storage.Batch) *Tx {
	t := &s.tx
	t.reset()
	t.s, t.batch, t.now = s, b, *s.shared.Load()
	if t.index == nil {
		t.index = map[string]int{}
	}
	if t.lastRun > 0 {
		t.events = make([]Event, 0, min(t.lastRun, touchedKeep))
	}
	return t
}

// reset drops everything of the run but what is worth keeping for the next one.
func (t *Tx) reset() {
	t.closeIters()
	t.lastRun = len(t.events)
	t.events = nil // whoever got them keeps them
	t.replaced = t.replaced[:0]
	if len(t.touched) > touchedKeep {
		t.index, t.touched = map[string]int{}, nil // a map never shrinks, and clearing it costs what it once held
		t.replaced = nil
	}
	clear(t.index)
	clear(t.touched)
	t.touched = t.touched[:0]
	t.batch, t.sub, t.moved = nil, 0, false
	t.held, t.light, t.written = 0, false, 0
	clear(t.waiting)
	t.waiting = t.waiting[:0]
}

// Revision is the newest revision as the command under way sees it: its own as soon as it has changed anything.
func (t *Tx) Revision() Revision {
	if t.sub > 0 {
		return t.now.revision + 1
	}
	return t.now.revision
}

// Compacted is the compaction floor; -1: none.
func (t *Tx) Compacted() Revision { return t.now.floor }

// LiveKeys is the number of keys that exist.
func (t *Tx) LiveKeys() int64 { return t.now.live }

// Changed reports whether the command under way has changed anything.
func (t *Tx) Changed() bool { return t.sub > 0 }

// Get returns the pair of key as the command under way sees it, nil if it does not exist. The pair is immutable.
func (t *Tx) Get(key []byte) (*KeyValue, error) {
	if i, ok := t.index[nameOf(key)]; ok {
		return t.touched[i].rec.pair(), nil
	}
	if r := t.s.newest.get(key); r != nil {
		return r.pair(), nil
	}
	r, err := t.load(key)
	if r != nil {
		t.s.newest.put(r)
	}
	return r.pair(), err
}

// Range answers q as View.Range does, from the state that the command under way sees.
//
// Errors: ErrCompacted, ErrFuture, ErrTooLarge.
func (t *Tx) Range(q Query, yield func(*KeyValue) bool) (Summary, error) {
	at := publication{revision: t.Revision(), floor: t.now.floor}
	rev, err := at.resolve(q.Revision)
	if err != nil {
		return Summary{}, err
	}
	if len(q.End) != 0 {
		t.writeVersions()
		return rangeAll(t.batch, rev, &q, countAll, AnswerBytesMax, nil, yield)
	}
	if rev != at.revision {
		t.writeVersions()
		return rangeOne(t.batch, rev, &q, yield)
	}
	kv, err := t.Get(q.Key)
	if err != nil {
		return Summary{}, err
	}
	return readOne(kv, &q, yield), nil
}

// Put writes a pair and returns the one it replaced, nil if there was none; that one is immutable. ignoreValue keeps
// the value of the pair that is there, ignoreLease its lease. key and value are copied.
//
// Errors: ErrKeyNotFound if there is nothing to keep.
func (t *Tx) Put(key, value []byte, lease int64, ignoreValue, ignoreLease bool) (prev *KeyValue, err error) {
	old, before, err := t.current(key)
	if err != nil {
		return nil, err
	}
	prev = old.pair()
	if prev == nil && (ignoreValue || ignoreLease) {
		return nil, ErrKeyNotFound
	}
	r := &record{sub: t.sub}
	r.ModRevision, r.Lease = t.now.revision+1, lease
	if prev != nil {
		r.CreateRevision, r.Version = prev.CreateRevision, prev.Version+1
	} else {
		r.CreateRevision, r.Version = r.ModRevision, 1
	}
	// Key and value are copied one by one: a new value must not keep the old one's memory alive, nor the log entry's.
	if old != nil {
		r.Key, r.slot = old.Key, old.slot
	} else {
		r.Key = append(make([]byte, 0, len(key)), key...)
	}
	if ignoreValue {
		r.Value = prev.Value
	} else {
		r.Value = append(make([]byte, 0, len(value)), value...)
	}
	if ignoreLease {
		r.Lease = prev.Lease
	}
	if prev == nil {
		t.now.live++
	}
	ev := Event{Kind: Put, Sub: r.sub, KV: r.KeyValue}
	if r.CreateRevision != r.ModRevision {
		ev.Prev = before
	}
	t.record(ev, old.version(), r, before)
	return prev, nil
}

// DeleteRange removes the pairs that Selector{key, end} names and returns how many there were. It calls yield (unless
// nil) with each, in key order; they are immutable. Unless values is true they may come without theirs: a range may be
// larger than memory.
func (t *Tx) DeleteRange(key, end []byte, values bool, yield func(prev *KeyValue)) (n int64, err error) {
	sel := Selector{key, end}
	if sel.Single() {
		old, before, err := t.current(key)
		if err != nil || !old.live() {
			return 0, err
		}
		t.remove(old, before, yield)
		return 1, nil
	}
	lower, upper, ok := sel.Bounds()
	if !ok {
		return 0, nil
	}
	t.writeVersions()
	// The iterator shows the batch as it is now: the tombstones that follow do not disturb it.
	it, err := t.batch.Iter(storage.Versions, lower, upper)
	if err != nil {
		return 0, fmt.Errorf("mvcc: delete range: %w", err)
	}
	c := &scan{it: it, rev: t.Revision()}
	for ok := c.first(lower); ok; ok = c.next() {
		old, before := t.known(c.kv.Key)
		if old == nil {
			old = &record{KeyValue: c.kv, sub: c.sub}
			old.Key, old.Value = bytes.Clone(c.kv.Key), nil
			if values || !t.light {
				old.Value = bytes.Clone(c.kv.Value)
			}
			before = &old.KeyValue
		}
		if !old.live() || old.ModRevision != c.kv.ModRevision {
			panic(fmt.Sprintf("mvcc: newest version of %.64q is %d, known as %d", c.kv.Key, c.kv.ModRevision, old.ModRevision))
		}
		t.remove(old, before, yield)
		n++
	}
	if err := c.close(); err != nil {
		return n, fmt.Errorf("mvcc: delete range: %w", err)
	}
	return n, nil
}

// remove puts a tombstone on top of a live version.
func (t *Tx) remove(old *record, before *KeyValue, yield func(prev *KeyValue)) {
	r := &record{sub: t.sub}
	r.Key, r.slot, r.ModRevision = old.Key, old.slot, t.now.revision+1
	t.now.live--
	t.record(Event{Kind: Delete, Sub: r.sub, KV: r.KeyValue, Prev: before}, old.version(), r, before)
	if yield != nil {
		yield(&old.KeyValue)
	}
}

var tombstone = []byte{kindTombstone}

// record notes a change: its event, and r as the key's newest version.
func (t *Tx) record(ev Event, replaced storage.Version, r *record, before *KeyValue) {
	t.held += eventBytes + len(r.Key) + len(r.Value)
	if before != nil {
		t.held += len(before.Value)
	}
	if t.light = t.light || t.held > t.s.eventsKept; t.light {
		ev.Prev, before = nil, nil
	}
	t.events, t.replaced = append(t.events, ev), append(t.replaced, replaced)
	if t.waiting = append(t.waiting, r); len(t.waiting) == waitingMax {
		t.writeVersions()
	}
	if i, ok := t.index[nameOf(r.Key)]; ok {
		t.touched[i] = touchedKey{r, before}
	} else {
		t.index[nameOf(r.Key)] = len(t.touched)
		t.touched = append(t.touched, touchedKey{r, before})
	}
	t.sub++
	if t.sub == 0 {
		panic("mvcc: a command of more than 2^32 changes")
	}
}

// writeVersions writes the versions that wait, sorted: keys that ascend find their places in a memtable from one to the next, which is
// a shorter way than from the top.
func (t *Tx) writeVersions() {
	slices.SortFunc(t.waiting, func(a, b *record) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(b.ModRevision, a.ModRevision), cmp.Compare(b.sub, a.sub))
	})
	for _, r := range t.waiting {
		v := storage.Version{Main: r.ModRevision, Sub: r.sub}
		if !r.live() {
			t.batch.SetVersion(storage.Versions, r.Key, v, tombstone)
			continue
		}
		t.head = appendPairHead(t.head[:0], &r.KeyValue)
		t.batch.SetVersion(storage.Versions, r.Key, v, t.head, r.Value)
	}
	clear(t.waiting)
	t.waiting = t.waiting[:0]
}

// current returns the newest version of key as the command under way sees it, a tombstone or nil if it does not
// exist, and the pair as it was before the command.
func (t *Tx) current(key []byte) (rec *record, before *KeyValue, err error) {
	if rec, before = t.known(key); rec != nil {
		return rec, before, nil
	}
	rec, err = t.load(key)
	return rec, rec.pair(), err
}

// known is current without the disk: nil says nothing about the key.
func (t *Tx) known(key []byte) (rec *record, before *KeyValue) {
	if i, ok := t.index[nameOf(key)]; ok {
		k := t.touched[i]
		if k.rec.ModRevision > t.now.revision {
			return k.rec, k.before
		}
		return k.rec, k.rec.pair()
	}
	rec = t.s.newest.get(key)
	return rec, rec.pair()
}

// load reads the newest committed version of a key that the run has not changed, and that the cache does not know. If all
// that the cache does not know is flushed, the memtables need not be searched: that is most of the cost for a new key.
func (t *Tx) load(key []byte) (*record, error) {
	it, open := &t.it, t.s.db.PointIter
	if t.flushed == nil {
		t.flushedTo = t.s.flushedRevision()
	}
	if t.s.newest.forgotten(key) <= t.flushedTo {
		it, open = &t.flushed, t.s.db.FlushedPointIter
	}
	if *it == nil {
		made, err := open(storage.Versions)
		if err != nil {
			return nil, fmt.Errorf("mvcc: read newest version: %w", err)
		}
		*it = made
	}
	r, err := findRecord(*it, key, storage.VersionMax.Main)
	if err != nil {
		return nil, fmt.Errorf("mvcc: read newest version: %w", err)
	}
	return r, nil
}

func (t *Tx) closeIters() {
	for _, it := range []**storage.Iter{&t.it, &t.flushed} {
		if *it != nil {
			(*it).Close() // its errors have been seen by those who used it
			*it = nil
		}
	}
}

// EndCommand ends a command. It returns the revision after it, and whether that is its own.
func (t *Tx) EndCommand() (rev Revision, changed bool) {
	if t.sub == 0 {
		return t.now.revision, false
	}
	t.now.revision++
	t.sub, t.moved = 0, true
	return t.now.revision, true
}

// Compact makes all revisions below rev unreadable. What that leaves over is removed by CompactStep, in its own time.
// It is a command of its own: nothing else may be under way.
//
// Errors: ErrCompacted if rev is not above the floor, ErrFuture if above the newest revision.
func (t *Tx) Compact(rev Revision) error {
	switch {
	case t.sub > 0:
		panic("mvcc: compaction within another command")
	case rev <= t.now.floor:
		return ErrCompacted
	case rev > t.now.revision:
		return ErrFuture
	}
	t.floorBefore, t.now.floor, t.moved = t.now.floor, rev, true
	return nil
}

// Events are the changes of the run so far, in order of revision and sub-revision. They are immutable and may be kept.
func (t *Tx) Events() []Event { return t.events }

// Light reports that there is too much in the run to be held in memory: some of its events lack the previous pair. Whoever
// needs that reads the changes from the store.
func (t *Tx) Light() bool { return t.light }

// Finish writes what is not written yet, and where the run has led to, once all its commands have ended.
func (t *Tx) Finish() {
	if t.sub > 0 {
		panic("mvcc: run ends within a command")
	}
	t.closeIters()
	t.EndEntry()
	t.writeVersions()
	if t.moved {
		t.buf = t.now.append(t.buf[:0])
		t.batch.Set(storage.Meta, revisionsKey, t.buf)
	}
}

// EndEntry ends an entry of the log: it writes the changes of its commands, which share records. What is on the disk then
// follows from the log, and not from where this member ends its runs.
func (t *Tx) EndEntry() {
	for i := t.written; i < len(t.events); i++ {
		e := &t.events[i]
		at := storage.Version{Main: e.KV.ModRevision, Sub: e.Sub}
		t.changes.add(t.batch, at, change{kind: e.Kind, replaced: t.replaced[i], key: e.KV.Key})
	}
	t.changes.flush(t.batch)
	t.written = len(t.events)
}
