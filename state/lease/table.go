package lease

import (
	"fmt"

	"keelson/storage"
)

// knownMax bounds how many ids a Table remembers as existing.
const knownMax = 1 << 16

// Table is the writer's side. Its zero value is ready. It belongs to the goroutine that applies.
type Table struct {
	// known are ids that exist, as of the newest write: a put needs no read to learn that its lease is there.
	known map[ID]struct{}
}

// Begin starts writing to a batch. There is one Tx at a time; a batch that is not committed ends the Table too.
func (t *Table) Begin(b *storage.Batch) *Tx { return &Tx{t: t, b: b} }

func (t *Table) learn(id ID) {
	if t.known == nil || len(t.known) >= knownMax {
		t.known = make(map[ID]struct{})
	}
	t.known[id] = struct{}{}
}

// Tx writes to one batch.
type Tx struct {
	t   *Table
	b   *storage.Batch
	buf []byte // scratch for keys and records
}

// Exists reports whether there is a lease.
func (tx *Tx) Exists(id ID) (bool, error) {
	if _, ok := tx.t.known[id]; ok {
		return true, nil
	}
	_, ok, err := Get(tx.b, id)
	if ok {
		tx.t.learn(id)
	}
	return ok, err
}

// Get returns a lease as the batch leaves it; ok is false if there is none.
func (tx *Tx) Get(id ID) (l Lease, ok bool, err error) { return Get(tx.b, id) }

// Grant stores a lease; there must be none of its id.
func (tx *Tx) Grant(l Lease) {
	tx.store(l)
	tx.t.learn(l.ID)
}

// Checkpoint stores a lease anew, with what is recorded as remaining; there must be one of its id and grant.
func (tx *Tx) Checkpoint(l Lease) { tx.store(l) }

// Revoke removes a lease. Its keys must have been detached; Keys lists them.
func (tx *Tx) Revoke(id ID) {
	tx.b.Delete(storage.Leases, tx.key(id, nil))
	delete(tx.t.known, id)
}

// Keys returns the keys attached to a lease, in order.
func (tx *Tx) Keys(id ID) ([][]byte, error) {
	var keys [][]byte
	var bytes []byte
	err := Keys(tx.b, id, func(key []byte) bool {
		at := len(bytes)
		bytes = append(bytes, key...)
		keys = append(keys, bytes[at:len(bytes):len(bytes)])
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("lease: revoke %d: %w", id, err)
	}
	return keys, nil
}

// Move records that a key whose lease was from (0: none, or no such key) now has the lease to (0: none, or no such key
// any more). It costs nothing if they are the same.
func (tx *Tx) Move(key []byte, from, to ID) {
	if from == to {
		return
	}
	if from != 0 {
		tx.b.Delete(storage.LeaseKeys, tx.key(from, key))
	}
	if to != 0 {
		tx.b.Set(storage.LeaseKeys, tx.key(to, key), nil)
	}
}

func (tx *Tx) store(l Lease) {
	k := tx.key(l.ID, nil)
	r := appendRecord(k, l)[len(k):]
	tx.b.Set(storage.Leases, k, r)
}

// key builds a key in the scratch buffer.
func (tx *Tx) key(id ID, key []byte) []byte {
	tx.buf = append(appendID(tx.buf[:0], id), key...)
	return tx.buf
}
