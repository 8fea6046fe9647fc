package mvcc

import (
	"bytes"
	"fmt"

	"keelson/storage"
)

// count is the counter that uses the fences: how many pairs there are from lower to the end of the scan's range.
//
// The view that the caller holds keeps readable what count needs: versions at the scan's revision, and the changes since.
func (s *Store) count(c *scan, lower []byte) (n int64, err error) {
	t := s.fences.plan(lower, c.upper, c.rev)
	for _, piece := range t.scans {
		found := s.countScan(c, piece)
		if c.err != nil {
			return 0, c.err
		}
		if n += found.count; found.worth() {
			s.fences.learn(found)
		}
	}
	back, err := s.bornSince(c.rev, &t)
	return n + t.known - back, err
}

// countScan counts the pairs of a stretch one by one.
func (s *Store) countScan(c *scan, piece stretch) *learned {
	l := &learned{stretch: piece, rev: c.rev}
	for ok := c.first(piece.lower); ok; ok = c.next() {
		if piece.upper != nil && bytes.Compare(c.kv.Key, piece.upper) >= 0 {
			break
		}
		if l.count > 0 && l.count%int64(s.fences.spacing) == 0 {
			l.fences = append(l.fences, bytes.Clone(c.kv.Key))
		}
		l.count++
	}
	return l
}

// bornSince is by how much the keys of t's known stretches have grown from rev to t.at. It reads the changes in between.
func (s *Store) bornSince(rev Revision, t *tally) (n int64, err error) {
	if t.at <= rev || len(t.exact) == 0 {
		return 0, nil
	}
	from, to := storage.Version{Main: rev + 1}, storage.Version{Main: t.at + 1}
	it, err := s.db.Iter(storage.Changes, appendChangeKey(nil, from), appendChangeKey(nil, to))
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var b []byte
		var c change
		if b, err = it.Value(); err == nil {
			c, err = decodeChange(b)
		}
		switch {
		case err != nil || !t.knows(c.key):
		case c.kind == Delete:
			n--
		case c.replaced.Main == 0:
			n++
		}
	}
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return 0, fmt.Errorf("changes %d..%d: %w", rev+1, t.at, err)
	}
	return n, nil
}
