package mvcc

import (
	"bytes"
	"fmt"

	"keelson/storage"
)

// Cursor pages through a range at one revision, in key order. Between two pages it holds nothing in the store, so a
// compaction may overtake it; if another store takes the place of its own, it goes on there. It belongs to one
// goroutine.
type Cursor struct {
	s           *Store
	rev         Revision
	next, upper []byte // what is left: next <= key < upper
	done        bool   // nothing is left
	shape       Query  // how pairs are handed out
}

// Cursor starts paging at q.Revision (<= 0: the view's). Of q it heeds Key, End, Revision and KeysOnly. The cursor
// outlives the view.
//
// Errors: ErrCompacted, ErrFuture.
func (v *View) Cursor(q Query) (*Cursor, error) {
	rev, err := v.at.resolve(q.Revision)
	if err != nil {
		return nil, err
	}
	lower, upper, ok := Selector{q.Key, q.End}.Bounds()
	return &Cursor{
		s:     v.s,
		rev:   rev,
		next:  bytes.Clone(lower),
		upper: bytes.Clone(upper),
		done:  !ok,
		shape: Query{KeysOnly: q.KeysOnly},
	}, nil
}

// Revision is the revision that the cursor reads at.
func (c *Cursor) Revision() Revision { return c.rev }

// Next calls yield with the next pairs, at most limit of them (<= 0: all), and reports whether that was all there
// are. If yield returns false, the page ends after that pair. A pair and its bytes are valid only during the call.
//
// Errors: ErrCompacted if a compaction has overtaken the cursor.
func (c *Cursor) Next(limit int64, yield func(*KeyValue) bool) (done bool, err error) {
	if c.done {
		return true, nil
	}
	given, full := int64(0), false
	c.done = true
	err = c.scan(func(s *scan) {
		for ok := s.first(c.next); ok; ok = s.next() {
			if full || limit > 0 && given == limit {
				c.done, c.next = false, append(c.next[:0], s.kv.Key...)
				return
			}
			given++
			full = !give(&s.kv, &c.shape, yield)
		}
	})
	if err != nil {
		c.done = false
	}
	return c.done, err
}

// Rest counts the pairs that Next has not given yet.
//
// Errors: ErrCompacted if a compaction has overtaken the cursor.
func (c *Cursor) Rest() (count int64, err error) {
	if c.done {
		return 0, nil
	}
	err = c.scan(func(s *scan) { count = readCount(s, c.next, c.s.count).Count })
	return count, err
}

// scan goes over what is left, in a view of its own.
func (c *Cursor) scan(f func(*scan)) error {
	v := c.s.viewOfNewest()
	defer v.Close()
	c.s = v.s
	if _, err := v.at.resolve(c.rev); err != nil {
		return err
	}
	it, err := c.s.db.Iter(storage.Versions, c.next, c.upper)
	if err != nil {
		return fmt.Errorf("mvcc: cursor: %w", err)
	}
	s := &scan{it: it, rev: c.rev, upper: c.upper}
	f(s)
	if err := s.close(); err != nil {
		return fmt.Errorf("mvcc: cursor: %w", err)
	}
	return nil
}
