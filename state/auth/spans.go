package auth

import (
	"bytes"
	"slices"
)

// span is the keys from start on and below end; a nil end is behind all keys.
type span struct{ start, end []byte }

// spanOf is the span of a range selector that holds a key at least.
func spanOf(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{key, append(slices.Clone(key), 0)}
	case isOpen(end):
		return span{key, nil}
	}
	return span{key, end}
}

// isOpen reports whether the end of a range selector is behind all keys.
func isOpen(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// isEmpty reports whether a range selector holds no key whatever there is.
func isEmpty(key, end []byte) bool {
	return len(end) > 0 && !isOpen(end) && bytes.Compare(key, end) >= 0
}

// spans is a set of keys. Invariant: in order, and neither overlapping nor touching, so that a range is covered by all of
// them together exactly if it is covered by one.
type spans []span

// merge makes spans of any, which it reorders.
func merge(list []span) spans {
	slices.SortFunc(list, func(a, b span) int { return bytes.Compare(a.start, b.start) })
	var merged spans
	for _, s := range list {
		if n := len(merged) - 1; n >= 0 && merged[n].reaches(s.start) {
			merged[n].extend(s.end)
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// reaches reports whether there is no key between the span and one that begins at start.
func (s *span) reaches(start []byte) bool { return s.end == nil || bytes.Compare(start, s.end) <= 0 }

func (s *span) extend(end []byte) {
	if s.end != nil && (end == nil || bytes.Compare(end, s.end) > 0) {
		s.end = end
	}
}

// at is the span that a key is in; ok is false if it is in none.
func (s spans) at(key []byte) (in span, ok bool) {
	i, found := slices.BinarySearchFunc(s, key, func(s span, key []byte) int { return bytes.Compare(s.start, key) })
	if !found {
		i-- // the last one that begins before key
	}
	if i < 0 || s[i].end != nil && bytes.Compare(key, s[i].end) >= 0 {
		return span{}, false
	}
	return s[i], true
}

// hasAll reports whether all keys of a range selector are in the set. A range of no keys stands for its first key, which is
// not to be asked about either.
func (s spans) hasAll(key, end []byte) bool {
	in, ok := s.at(key)
	switch {
	case !ok:
		return false
	case len(end) == 0:
		return true
	case isOpen(end):
		return in.end == nil
	case isEmpty(key, end):
		return true
	}
	return in.end == nil || bytes.Compare(end, in.end) <= 0
}
