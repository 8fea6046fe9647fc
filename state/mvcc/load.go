package mvcc

import (
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"keelson/storage"
)

// loadBatchBytes is about how much a Loader writes in one batch.
const loadBatchBytes = 4 << 20

// seenBits is how many bits a Loader has to remember keys by: 16 MiB, enough for some 10 million keys to be told apart from new
// ones nearly always.
const seenBits = 1 << 27

// ErrOrder is in the error of a Loader that is given versions that can't follow each other.
var ErrOrder = errors.New("versions do not follow each other")

// Loader fills an empty store with versions that come from elsewhere, in order of revision, as Export gives them. They keep
// their numbers.
//
//	NewLoader ─► Add... ─► Finish
//
// It belongs to one goroutine, and nobody may read the store before Finish.
type Loader struct {
	db   *storage.DB
	done Revision // below it nothing is left that can't be read
	last storage.Version
	live int64

	b       *storage.Batch
	changes changeWriter
	it      *storage.Iter                  // points of what is committed
	touched map[string]*loaded             // newest versions in b
	seen    []uint64                       // bits, by hashes of all keys so far: what is not there need not be looked for
	hold    func(kv, prev *KeyValue) error // see NewLoader
	buf     []byte
}

// loaded is the newest version of a key.
type loaded struct {
	kv KeyValue // Version 0: a tombstone
	at storage.Version
}

// NewLoader starts filling db. done is the floor up to which the removal of compacted versions has come where the versions
// are from, -1: none has been removed.
//
// hold is called with each version and the pair that it takes the place of (nil: none), and may write to the batch that it is
// given, which also holds the version.
func NewLoader(db *storage.DB, done Revision, hold func(b *storage.Batch, kv, prev *KeyValue) error) *Loader {
	l := &Loader{db: db, done: done, touched: map[string]*loaded{}, seen: make([]uint64, seenBits/64)}
	l.hold = func(kv, prev *KeyValue) error { return hold(l.b, kv, prev) }
	return l
}

// Add stores the next version. Errors: ErrOrder.
func (l *Loader) Add(kv *KeyValue, sub uint32) error {
	v := storage.Version{Main: kv.ModRevision, Sub: sub}
	if v.Main <= 0 || !l.last.Less(v) && l.last != (storage.Version{}) {
		return fmt.Errorf("mvcc: load: %w: %d.%d after %d.%d", ErrOrder, v.Main, v.Sub, l.last.Main, l.last.Sub)
	}
	if err := l.prepare(); err != nil {
		return err
	}
	old, err := l.newest(kv.Key)
	if err != nil {
		return err
	}
	var prev *KeyValue
	if old != nil && old.kv.Version != 0 {
		prev = &old.kv
	}
	if prev == nil && kv.Version == 0 && v.Main < l.done {
		return nil // a tombstone of nothing
	}
	l.last = v
	l.store(kv, v, old)
	if err := l.hold(kv, prev); err != nil {
		return err
	}
	return l.flushIfFull()
}

// store writes a version and its change.
func (l *Loader) store(kv *KeyValue, v storage.Version, old *loaded) {
	c := change{kind: Put, key: kv.Key}
	wasLive := old != nil && old.kv.Version != 0
	if wasLive {
		c.replaced = old.at
	}
	if kv.Version == 0 {
		c.kind = Delete
		if !wasLive { // it was compacted away, and stood anywhere before
			c.replaced = storage.Version{Main: 1}
		}
		l.b.SetVersion(storage.Versions, kv.Key, v, tombstone)
	} else {
		l.buf = appendPairHead(l.buf[:0], kv)
		l.b.SetVersion(storage.Versions, kv.Key, v, l.buf, kv.Value)
	}
	if v.Main >= l.done {
		l.changes.add(l.b, v, c)
	}
	switch isLive := kv.Version != 0; {
	case isLive && !wasLive:
		l.live++
	case !isLive && wasLive:
		l.live--
	}
	n := &loaded{kv: *kv, at: v}
	n.kv.Key, n.kv.Value = nil, nil // nobody asks for them
	l.touched[string(kv.Key)] = n
}

// newest finds the newest version of a key so far, nil if there is none.
func (l *Loader) newest(key []byte) (*loaded, error) {
	if n := l.touched[nameOf(key)]; n != nil {
		return n, nil
	}
	if !l.see(key) {
		return nil, nil
	}
	r, err := findRecord(l.it, key, storage.VersionMax.Main)
	if err != nil || r == nil {
		return nil, err
	}
	return &loaded{kv: r.KeyValue, at: r.version()}, nil
}

// see remembers a key, and reports whether it may have been seen before.
func (l *Loader) see(key []byte) bool {
	h := xxhash.Sum64(key) % seenBits
	word, bit := &l.seen[h/64], uint64(1)<<(h%64)
	before := *word&bit != 0
	*word |= bit
	return before
}

func (l *Loader) prepare() (err error) {
	if l.b == nil {
		l.b = l.db.NewBatch()
	}
	if l.it == nil {
		if l.it, err = l.db.PointIter(storage.Versions); err != nil {
			return fmt.Errorf("mvcc: load: %w", err)
		}
	}
	return nil
}

func (l *Loader) flushIfFull() error {
	if l.b.Len() < loadBatchBytes {
		return nil
	}
	return l.flush()
}

func (l *Loader) flush() error {
	l.changes.flush(l.b)
	err := l.it.Close()
	if e := l.b.Commit(); err == nil {
		err = e
	}
	l.b, l.it = nil, nil
	clear(l.touched)
	if err != nil {
		return fmt.Errorf("mvcc: load: %w", err)
	}
	return nil
}

// Finish writes where the store stands: revision is the newest one, floor the oldest that can be read (-1: all can). What
// that leaves over is removed by CompactStep.
//
// Errors: ErrOrder if the revision is below a version's, or the floor above the revision or below done; ErrRevision.
func (l *Loader) Finish(revision, floor Revision) error {
	if revision < max(l.last.Main, revisionFirst) || floor > revision || floor < l.done {
		return fmt.Errorf("mvcc: load: %w: newest version at %d, revision %d, floor %d, removed below %d",
			ErrOrder, l.last.Main, revision, floor, l.done)
	}
	if revision > revisionMax {
		return fmt.Errorf("mvcc: load: %w: %d, which may be %d at most", ErrRevision, revision, int64(revisionMax))
	}
	if err := l.prepare(); err != nil {
		return err
	}
	p := publication{revision: revision, floor: floor, live: l.live}
	l.b.Set(storage.Meta, revisionsKey, p.append(nil))
	if l.done > 0 {
		r := removal{done: l.done}
		l.b.Set(storage.Meta, removalKey, r.append(nil))
	}
	return l.flush()
}

// Abort ends a Loader that is not to be finished. The database is of no use then.
func (l *Loader) Abort() {
	if l.it != nil {
		l.it.Close() // of no use either
		l.it = nil
	}
	if l.b != nil {
		l.b.Discard()
		l.b = nil
	}
}

// revisionMax is the newest revision that a store may begin with: there has to be room for all that follow.
const revisionMax = 1 << 62

// ErrRevision is in the error of a Raise, or a Loader, beyond the revisions that there are.
var ErrRevision = errors.New("revision out of range")

// Raise adds to the newest revision, and makes everything before unreadable. It writes to b; nobody may have the store open.
//
// Errors: ErrRevision.
func Raise(r storage.Reader, b *storage.Batch, by int64) error {
	p := publication{revision: revisionFirst, floor: floorNone}
	v, ok, err := r.Get(storage.Meta, revisionsKey)
	if err == nil && ok {
		p, err = decodeRevisions(v)
	}
	if err != nil {
		return fmt.Errorf("mvcc: raise: %w", err)
	}
	from := max(p.revision, p.floor)
	if by < 0 || by > revisionMax-from {
		return fmt.Errorf("mvcc: raise: %w: %d more than %d, which may be %d at most", ErrRevision, uint64(by), from, int64(revisionMax))
	}
	p.revision = from + by
	p.floor = p.revision
	b.Set(storage.Meta, revisionsKey, p.append(nil))
	return nil
}
