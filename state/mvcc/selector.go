package mvcc

import "bytes"

// Selector names a set of keys the way the v3 API does:
//
//	Key  End             selects
//	k    empty           k alone
//	k    one zero byte   all keys >= k
//	k    e > k           k <= key < e
//	k    e <= k          nothing
//
// Source: etcd v3 API, RangeRequest.range_end.
type Selector struct{ Key, End []byte }

// Single reports whether the selector names one key alone.
func (s Selector) Single() bool { return len(s.End) == 0 }

// Bounds returns the selected keys as lower <= key < upper, where a nil upper is no bound. ok is false if nothing is
// selected. lower aliases the selector, and so does upper unless the selector names a single key.
func (s Selector) Bounds() (lower, upper []byte, ok bool) {
	switch {
	case s.Single():
		return s.Key, successor(s.Key), true
	case len(s.End) == 1 && s.End[0] == 0:
		return s.Key, nil, true
	}
	return s.Key, s.End, bytes.Compare(s.Key, s.End) < 0
}

// Contains reports whether key is selected.
func (s Selector) Contains(key []byte) bool {
	switch {
	case s.Single():
		return bytes.Equal(s.Key, key)
	case bytes.Compare(key, s.Key) < 0:
		return false
	case len(s.End) == 1 && s.End[0] == 0:
		return true
	}
	return bytes.Compare(key, s.End) < 0
}

// successor is the smallest key after key.
func successor(key []byte) []byte { return append(append(make([]byte, 0, len(key)+1), key...), 0) }
