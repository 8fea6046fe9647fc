package mvcc

import (
	"bytes"
	"fmt"

	"keelson/storage"
)

// scan walks over the pairs of a range as they stood at one revision, in key order.
//
// The table holds the newest version of each key first, so that a scan at the newest revision looks at one record per
// key; at an older one it steps over newer versions, and seeks where there are many of them.
type scan struct {
	it    *storage.Iter
	rev   Revision
	upper []byte // the end of the range; nil: none
	// kv is the pair the scan stands on. Its bytes are valid until the next move.
	kv  KeyValue
	sub uint32
	key []byte // scratch
	err error

	held, heldMax int64 // bytes of pairs that are kept to be sorted, and may be; 0: any number
	room          Room  // is told of them; may be nil
}

// scanSteps is how many versions of one key are stepped over before a seek.
const scanSteps = 8

// first goes to the first pair at or after lower.
func (c *scan) first(lower []byte) bool { c.it.SeekGE(lower); return c.settle() }

// next goes to the next pair.
func (c *scan) next() bool { c.it.NextKey(); return c.settle() }

// close ends the scan and returns what ended it early, if anything.
func (c *scan) close() error {
	err := c.it.Close()
	if c.err != nil {
		return c.err
	}
	return err
}

// fail ends the scan with an error, unless err is nil or another one has ended it.
func (c *scan) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// settle goes from the newest version of a key to the first pair that is there at or after it.
func (c *scan) settle() bool {
	for c.it.Valid() {
		key, v := c.it.KeyVersion()
		if v.Main > c.rev {
			if !c.older(key) {
				continue // at another key's newest version, or at the end
			}
			key, v = c.it.KeyVersion()
		}
		b, err := c.it.Value()
		if err == nil {
			err = decodeVersion(b, &c.kv)
		}
		if err != nil {
			c.err = err
			return false
		}
		if c.kv.Version != 0 {
			c.kv.Key, c.kv.ModRevision, c.sub = key, v.Main, v.Sub
			return true
		}
		c.it.NextKey()
	}
	return false
}

// older goes to the newest version of key that is not newer than the scan's revision, if there is one. If not, it
// goes to the next key.
func (c *scan) older(key []byte) bool {
	c.key = append(c.key[:0], key...)
	for range scanSteps {
		if !c.it.Next() {
			return false
		}
		key, v := c.it.KeyVersion()
		if !bytes.Equal(key, c.key) {
			return false
		}
		if v.Main <= c.rev {
			return true
		}
	}
	return c.it.SeekVersion(c.key, storage.Version{Main: c.rev, Sub: 1<<32 - 1}) && bytes.Equal(c.it.Key(), c.key)
}

// find goes to the version of key that counts at rev. It reports false if there is none; a tombstone leaves a kv of
// Version 0. it is an iterator for points.
func find(it *storage.Iter, key []byte, rev Revision, kv *KeyValue) (sub uint32, ok bool, err error) {
	if !it.SeekVersionOf(key, storage.Version{Main: rev, Sub: 1<<32 - 1}) {
		return 0, false, it.Error()
	}
	_, v := it.KeyVersion()
	b, err := it.Value()
	if err == nil {
		err = decodeVersion(b, kv)
	}
	kv.Key, kv.ModRevision = key, v.Main
	return v.Sub, err == nil, err
}

// findRecord returns what find finds as a record of its own, nil if there is none.
func findRecord(it *storage.Iter, key []byte, rev Revision) (*record, error) {
	r := &record{}
	sub, ok, err := find(it, key, rev, &r.KeyValue)
	if !ok {
		return nil, err
	}
	r.sub, r.Key, r.Value = sub, bytes.Clone(r.Key), bytes.Clone(r.Value)
	return r, nil
}

// pointReader is a *storage.DB or a *storage.Batch.
type pointReader interface {
	PointIter(storage.Space) (*storage.Iter, error)
}

// rangeOne reads a single key.
func rangeOne(r pointReader, rev Revision, q *Query, yield func(*KeyValue) bool) (Summary, error) {
	it, err := r.PointIter(storage.Versions)
	if err != nil {
		return Summary{}, fmt.Errorf("mvcc: range: %w", err)
	}
	var kv KeyValue
	var sum Summary
	_, ok, err := find(it, q.Key, rev, &kv)
	if ok && kv.Version != 0 {
		sum = readOne(&kv, q, yield)
	}
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return Summary{}, fmt.Errorf("mvcc: range: %w", err)
	}
	return sum, nil
}

// rangeAll reads a range of keys, and keeps heldMax bytes of them at most to be sorted, of which room is told; 0: any number.
func rangeAll(
	r storage.Reader, rev Revision, q *Query, count counter, heldMax int64, room Room, yield func(*KeyValue) bool,
) (Summary, error) {
	lower, upper, ok := Selector{q.Key, q.End}.Bounds()
	if !ok {
		return Summary{}, nil
	}
	it, err := r.Iter(storage.Versions, lower, upper)
	if err != nil {
		return Summary{}, fmt.Errorf("mvcc: range: %w", err)
	}
	c := &scan{it: it, rev: rev, upper: upper, heldMax: heldMax, room: room}
	sum := read(c, lower, q, count, yield)
	if err := c.close(); err != nil {
		return Summary{}, fmt.Errorf("mvcc: range: %w", err)
	}
	return sum, nil
}
