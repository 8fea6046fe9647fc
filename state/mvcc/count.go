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
			if err := s.reach(c.rev, found.count); err != nil {
				return 0, err
			}
			s.fences.learn(found)
		}
	}
	return n + t.known, nil
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

// reach has the births go back to rev, unless that takes reading many more changes than a scan of n keys was.
func (s *Store) reach(rev Revision, n int64) error {
	from, room := s.fences.reached()
	if rev >= from || from-rev > 4*n {
		return nil
	}
	lower, upper := storage.Version{Main: rev + 1}, storage.Version{Main: from + 1}
	it, err := s.db.Iter(storage.Changes, appendChangeKey(nil, lower), appendChangeKey(nil, upper))
	if err != nil {
		return err
	}
	var older []birth
	for ok := it.First(); ok && err == nil && len(older) <= room; ok = it.Next() {
		older, err = appendBirth(older, it)
	}
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("changes %d..%d: %w", rev+1, from, err)
	}
	s.fences.reach(rev, from, older)
	return nil
}

// appendBirth adds the change that it stands on, if that is a birth.
func appendBirth(list []birth, it *storage.Iter) ([]birth, error) {
	v, err := decodeChangeKey(it.Key())
	if err != nil {
		return list, err
	}
	b, err := it.Value()
	if err != nil {
		return list, err
	}
	c, err := decodeChange(b)
	switch {
	case err != nil:
	case c.kind == Delete:
		list = append(list, birth{v.Main, bytes.Clone(c.key), -1})
	case c.replaced.Main == 0:
		list = append(list, birth{v.Main, bytes.Clone(c.key), 1})
	}
	return list, err
}
