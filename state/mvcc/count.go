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
	it, err := openChanges(s.db, storage.Version{Main: rev + 1}, from)
	if err != nil {
		return err
	}
	var older []birth
	for len(older) <= room && it.next() {
		older = appendBirth(older, it)
	}
	if err := it.close(); err != nil {
		return fmt.Errorf("changes %d..%d: %w", rev+1, from, err)
	}
	s.fences.reach(rev, from, older)
	return nil
}

// appendBirth adds the change that it stands on, if that is a birth.
func appendBirth(list []birth, it *changeIter) []birth {
	switch c := it.change; {
	case c.kind == Delete:
		list = append(list, birth{it.at.Main, bytes.Clone(c.key), -1})
	case c.replaced.Main == 0:
		list = append(list, birth{it.at.Main, bytes.Clone(c.key), 1})
	}
	return list
}
