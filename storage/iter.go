package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Iter walks over one space in key order and, within a key, from its newest version to its oldest.
// Positioning methods report whether they stand on something. It belongs to one goroutine.
type Iter struct {
	it    *pebble.Iterator
	db    *DB
	space Space
	buf   []byte // scratch for seek keys
	room  [64]byte
}

// Options of iterators without bounds, which nobody changes.
var (
	pointOptions        = pebble.IterOptions{UseL6Filters: true}
	flushedPointOptions = pebble.IterOptions{UseL6Filters: true, OnlyReadGuaranteedDurable: true}
)

func bounds(s Space, lower, upper []byte) (lo, hi []byte) {
	lo = []byte{byte(s), 0}
	if lower != nil {
		lo = s.Key(make([]byte, 0, len(lower)+2), lower)
	}
	hi = s.end()
	if upper != nil {
		hi = s.Key(make([]byte, 0, len(upper)+2), upper)
	}
	return lo, hi
}

func (db *DB) newIter(r pebble.Reader, s Space, lower, upper []byte, o pebble.IterOptions) (*Iter, error) {
	o.LowerBound, o.UpperBound = bounds(s, lower, upper)
	it, err := r.NewIter(&o)
	if err != nil {
		return nil, db.readFailed(fmt.Errorf("storage: iterate over space %c: %w", s, err))
	}
	return db.opened(&Iter{it: it, db: db, space: s}), nil
}

// newPointIter makes an iterator without bounds: a seek for one key can't leave the space.
func (db *DB) newPointIter(r pebble.Reader, s Space, flushed bool) (*Iter, error) {
	o := &pointOptions
	if flushed {
		o = &flushedPointOptions
	}
	it, err := r.NewIter(o)
	if err != nil {
		return nil, db.readFailed(fmt.Errorf("storage: look up in space %c: %w", s, err))
	}
	i := &Iter{it: it, db: db, space: s}
	i.buf = i.room[:0]
	return db.opened(i), nil
}

// opened notes an iterator that is open.
func (db *DB) opened(i *Iter) *Iter {
	if db.o.Manual {
		db.left.mu.Lock()
		if db.left.open == nil {
			db.left.open = map[*Iter]bool{}
		}
		db.left.open[i] = true
		db.left.mu.Unlock()
	}
	return i
}

// closed notes that an iterator is not open any more.
func (db *DB) closed(i *Iter) {
	if db.o.Manual {
		db.left.mu.Lock()
		delete(db.left.open, i)
		db.left.mu.Unlock()
	}
}

// closeLeft closes what was left open by those who gave up.
func (db *DB) closeLeft() {
	if !db.failed.Load() {
		return
	}
	db.left.mu.Lock()
	defer db.left.mu.Unlock()
	for i := range db.left.open {
		_ = i.it.Close()
	}
}

// First goes to the first entry within the bounds.
func (i *Iter) First() bool { return i.it.First() }

// Last goes to the last entry within the bounds.
func (i *Iter) Last() bool { return i.it.Last() }

// SeekGE goes to the first entry with at least this key, whatever its version.
func (i *Iter) SeekGE(key []byte) bool {
	i.buf = i.space.Key(i.buf[:0], key)
	return i.it.SeekGE(i.buf)
}

// SeekLT goes to the last entry with a smaller key.
func (i *Iter) SeekLT(key []byte) bool {
	i.buf = i.space.Key(i.buf[:0], key)
	return i.it.SeekLT(i.buf)
}

// SeekVersion goes to the newest version of key that is not newer than v or, if there is none, to the next key's newest.
func (i *Iter) SeekVersion(key []byte, v Version) bool {
	i.buf = i.space.versionKey(i.buf[:0], key, v)
	return i.it.SeekGE(i.buf)
}

// SeekVersionOf is SeekVersion for one key alone: it can ask the bloom filters first, and then stands on nothing if
// there is no such version. Afterwards only Next may follow, and only within the key.
func (i *Iter) SeekVersionOf(key []byte, v Version) bool {
	i.buf = i.space.versionKey(i.buf[:0], key, v)
	return i.it.SeekPrefixGE(i.buf)
}

// Next goes to the next entry: the next older version of the same key, or the next key's newest.
func (i *Iter) Next() bool { return i.it.Next() }

// NextKey goes to the next key's newest version.
func (i *Iter) NextKey() bool { return i.it.NextPrefix() }

// Prev goes back by one entry.
func (i *Iter) Prev() bool { return i.it.Prev() }

// Valid reports whether the iterator stands on an entry.
func (i *Iter) Valid() bool { return i.it.Valid() }

// Key is the entry's key, without space and version. It is valid until the next move.
func (i *Iter) Key() []byte { key, _ := splitKey(i.it.Key()); return key }

// KeyVersion is the entry's key, valid until the next move, and its version (zero if it has none).
func (i *Iter) KeyVersion() ([]byte, Version) { return splitKey(i.it.Key()) }

// Value is the entry's value. It is valid until the next move.
func (i *Iter) Value() ([]byte, error) {
	v, err := i.it.ValueAndErr()
	if err != nil {
		return nil, i.db.readFailed(fmt.Errorf("storage: read value in space %c: %w", i.space, err))
	}
	return v, nil
}

// Error is what ended the iteration early, if anything.
func (i *Iter) Error() error {
	if err := i.it.Error(); err != nil {
		return i.db.readFailed(fmt.Errorf("storage: iterate over space %c: %w", i.space, err))
	}
	return nil
}

// Close ends the iteration and returns Error's error.
func (i *Iter) Close() error {
	i.db.closed(i)
	if err := i.it.Close(); err != nil {
		return i.db.readFailed(fmt.Errorf("storage: iterate over space %c: %w", i.space, err))
	}
	return nil
}
