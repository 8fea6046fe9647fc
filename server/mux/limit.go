package mux

import "sync/atomic"

// Limit bounds the connections of several muxes together. Make one with NewLimit; nil bounds nothing.
type Limit struct {
	most    int64
	refused func(most int64)
	open    atomic.Int64
	turned  atomic.Uint64 // away
}

// NewLimit makes a limit of most connections. refused is told of each connection that is closed at once because of it.
func NewLimit(most int64, refused func(most int64)) *Limit {
	return &Limit{most: most, refused: refused}
}

// Count tells how many connections are open, and how many were closed at once, in total.
func (l *Limit) Count() (open int64, refused uint64) {
	if l == nil {
		return 0, 0
	}
	return l.open.Load(), l.turned.Load()
}

// tryEnter reports whether there was room for one more.
func (l *Limit) tryEnter() bool {
	if l == nil {
		return true
	}
	if l.open.Add(1) <= l.most {
		return true
	}
	l.open.Add(-1)
	return false
}

// refuse takes note of a connection that there was no room for. It returns false.
func (l *Limit) refuse() bool {
	l.turned.Add(1)
	l.refused(l.most)
	return false
}

func (l *Limit) leave() {
	if l != nil {
		l.open.Add(-1)
	}
}
