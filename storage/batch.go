package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Batch gathers writes that become visible, and durable, all together or not at all. It reads its own writes: the first
// read indexes what was written until then, and from then on every write costs its place in the index. A batch that
// nobody reads does without. It belongs to one goroutine.
type Batch struct {
	b   *pebble.Batch
	db  *DB
	key []byte // scratch
}

// Get implements Reader.
func (b *Batch) Get(s Space, key []byte) ([]byte, bool, error) {
	return b.db.get(b.indexed(), s, key)
}

// Iter implements Reader. It sees the batch as it is at this moment.
func (b *Batch) Iter(s Space, lower, upper []byte) (*Iter, error) {
	return b.db.newIter(b.indexed(), s, lower, upper, pebble.IterOptions{})
}

// Indexed reports whether the batch has been read.
func (b *Batch) Indexed() bool { return b.b.Indexed() }

// Beneath reads the store as it is without the batch.
func (b *Batch) Beneath() Reader { return b.db }

// PointIter is DB.PointIter with the batch as it is at this moment on top.
func (b *Batch) PointIter(s Space) (*Iter, error) { return b.db.newPointIter(b.indexed(), s, false) }

// indexed is the batch in a form that can be read through.
func (b *Batch) indexed() *pebble.Batch {
	if !b.b.Indexed() {
		plain := b.b
		b.b = b.db.p.NewIndexedBatch()
		must(b.b.Apply(plain, nil))
		must(plain.Close())
	}
	return b.b
}

// Set writes an unversioned key. It copies key and value.
func (b *Batch) Set(s Space, key, value []byte) {
	b.key = s.Key(b.key[:0], key)
	must(b.b.Set(b.key, value, nil))
}

// Delete removes an unversioned key.
func (b *Batch) Delete(s Space, key []byte) {
	b.key = s.Key(b.key[:0], key)
	must(b.b.Delete(b.key, nil))
}

// DeleteRange removes all lower <= key < upper of a space (nil bounds are the space's own).
func (b *Batch) DeleteRange(s Space, lower, upper []byte) {
	lo, hi := bounds(s, lower, upper)
	must(b.b.DeleteRange(lo, hi, nil))
}

// SetVersion writes one version of a key; value is given in pieces that are written one after the other.
func (b *Batch) SetVersion(s Space, key []byte, v Version, value ...[]byte) {
	b.key = s.versionKey(b.key[:0], key, v)
	n := 0
	for _, p := range value {
		n += len(p)
	}
	op := b.b.SetDeferred(len(b.key), n)
	copy(op.Key, b.key)
	at := op.Value
	for _, p := range value {
		at = at[copy(at, p):]
	}
	must(op.Finish())
}

// DeleteVersion removes one version of a key.
func (b *Batch) DeleteVersion(s Space, key []byte, v Version) {
	b.key = s.versionKey(b.key[:0], key, v)
	must(b.b.Delete(b.key, nil))
}

// Len is the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Commit makes the writes visible, without waiting for any disk, and ends the batch.
func (b *Batch) Commit() error {
	size := b.b.Len()
	if err := b.b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("storage: commit of %d bytes: %w", size, err)
	}
	b.db.committed.Add(uint64(size))
	return b.b.Close()
}

// Discard ends the batch without a trace.
func (b *Batch) Discard() { must(b.b.Close()) }

// must turns what can't happen with a batch in memory into a panic.
func must(err error) {
	if err != nil {
		panic("storage: batch: " + err.Error())
	}
}
