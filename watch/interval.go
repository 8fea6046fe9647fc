package watch

import (
	"bytes"
	"strings"
)

// span is a range of keys: lower <= key < upper, or from lower on if open.
type span struct {
	lower, upper string
	open         bool
}

// newSpan reads a selector the way the API defines it (Request.Key and End); ok is false if it selects nothing.
func newSpan(key, end []byte) (r span, ok bool) {
	lower := string(key)
	switch {
	case len(end) == 0:
		return span{lower: lower, upper: lower + "\x00"}, true
	case len(end) == 1 && end[0] == 0:
		return span{lower: lower, open: true}, true
	default:
		return span{lower: lower, upper: string(end)}, bytes.Compare(key, end) < 0
	}
}

// single reports whether r holds exactly one key, its lower bound.
func (r span) single() bool {
	return !r.open && len(r.upper) == len(r.lower)+1 && r.upper[len(r.lower)] == 0 && strings.HasPrefix(r.upper, r.lower)
}

func (r span) contains(key []byte) bool {
	return r.lower <= string(key) && (r.open || string(key) < r.upper)
}

// bounds are the span's bounds as History.Changes takes them.
func (r span) bounds() (lower, upper []byte) {
	if r.open {
		return []byte(r.lower), nil
	}
	return []byte(r.lower), []byte(r.upper)
}

// compare orders spans by lower bound, then upper bound, open ones last.
func (r span) compare(o span) int {
	if c := strings.Compare(r.lower, o.lower); c != 0 {
		return c
	}
	return compareUppers(r.upper, r.open, o.upper, o.open)
}

func compareUppers(a string, aOpen bool, b string, bOpen bool) int {
	switch {
	case aOpen && bOpen:
		return 0
	case aOpen:
		return 1
	case bOpen:
		return -1
	}
	return strings.Compare(a, b)
}
