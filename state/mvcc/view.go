package mvcc

import (
	"fmt"

	"keelson/storage"
)

// View is the store as it stood at one published revision. Whatever could be read when the view was opened can be
// read until it is closed, whatever is compacted meanwhile: the removal of old versions waits for open views.
// So close it soon; who reads at leisure uses a Cursor. A view may be used by several goroutines.
type View struct {
	s     *Store
	at    *publication
	epoch uint64
}

// View opens a view of the newest published revision. It never waits. Nil: the store is retired.
func (s *Store) View() *View {
	epoch := s.gate.enter()
	if epoch == gateShut {
		return nil
	}
	return &View{s: s, at: s.shared.Load(), epoch: epoch}
}

// Close ends the view. It is called once.
func (v *View) Close() {
	v.s.gate.leave(v.epoch)
	v.s = nil
}

// Revision is the revision that the view shows.
func (v *View) Revision() Revision { return v.at.revision }

// Compacted is the oldest revision that can be read through the view; -1: all can.
func (v *View) Compacted() Revision { return v.at.floor }

// LiveKeys is the number of keys that exist at the view's revision.
func (v *View) LiveKeys() int64 { return v.at.live }

// resolve turns the revision a request asks for into the one to read at.
func (p *publication) resolve(rev Revision) (Revision, error) {
	switch {
	case rev <= 0:
		return p.revision, nil
	case rev > p.revision:
		return 0, ErrFuture
	case rev < p.floor:
		return 0, ErrCompacted
	}
	return rev, nil
}

// Get returns the pair of key at the view's revision, nil if it does not exist. The pair is immutable and may be kept.
func (v *View) Get(key []byte) (*KeyValue, error) {
	if r := v.cached(key, v.at.revision); r != nil {
		return r.pair(), nil
	}
	it, err := v.s.db.PointIter(storage.Versions)
	if err != nil {
		return nil, fmt.Errorf("mvcc: get: %w", err)
	}
	r, err := findRecord(it, key, v.at.revision)
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("mvcc: get: %w", err)
	}
	return r.pair(), nil
}

// cached returns the record that key had at rev, if the cache of newest versions knows it.
func (v *View) cached(key []byte, rev Revision) *record {
	if r := v.s.newest.get(key); r != nil && r.ModRevision <= rev {
		return r
	}
	return nil
}

// Recall answers q, which selects one key, if that takes no look at the store; known says so. Otherwise ask Range.
//
// Errors: those of Range.
func (v *View) Recall(q Query, yield func(*KeyValue) bool) (sum Summary, known bool, err error) {
	rev, err := v.at.resolve(q.Revision)
	if err != nil {
		return Summary{}, true, err
	}
	r := v.cached(q.Key, rev)
	if r == nil {
		return Summary{}, false, nil
	}
	return readOne(r.pair(), &q, yield), true, nil
}

// Range calls yield with the selected pairs, until yield returns false, which leaves the summary unfinished. A pair
// and its bytes are valid only during the call.
//
// The pairs are those of Selector{q.Key, q.End} at q.Revision, or at the view's revision if that is <= 0. Of them,
// those outside the four bounds of mod and create revision (0: no bound) are dropped, the rest are sorted by key or,
// if asked for, by another field (ties by key), and at most q.Limit (<= 0: all) are given. Without a sort order but
// with a target other than the key, the limit cuts off first, in key order, and what is left is sorted ascending.
// KeysOnly leaves out the values. CountOnly gives no pairs and ignores limit, filters and sort.
//
// Errors: ErrCompacted if q.Revision is below the compaction floor, ErrFuture if above the view's revision; ErrTooLarge if more
// would have to be sorted than an answer can hold.
// Source: etcd v3 API, KV.Range.
func (v *View) Range(q Query, yield func(*KeyValue) bool) (Summary, error) {
	return v.RangeIn(nil, q, yield)
}

// RangeIn is Range with a room that is told of what is kept to be sorted, if it is not nil. What is kept goes when RangeIn returns.
func (v *View) RangeIn(room Room, q Query, yield func(*KeyValue) bool) (Summary, error) {
	rev, err := v.at.resolve(q.Revision)
	if err != nil {
		return Summary{}, err
	}
	if len(q.End) == 0 {
		if r := v.cached(q.Key, rev); r != nil {
			return readOne(r.pair(), &q, yield), nil
		}
		return rangeOne(v.s.db, rev, &q, yield)
	}
	return rangeAll(v.s.db, rev, &q, v.s.count, AnswerBytesMax, room, yield)
}
