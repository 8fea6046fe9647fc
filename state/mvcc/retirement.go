package mvcc

import (
	"errors"
	"sync/atomic"
)

// ErrRetired is in place of an answer of a store that another has taken the place of.
var ErrRetired = errors.New("mvcc: store is retired")

// retirement is what a store knows of its successor.
type retirement struct {
	next atomic.Pointer[Store] // set before the gate is shut
	left <-chan struct{}       // closed when the last view is; nil before
}

// Retire ends a store in whose place next stands, which holds the pairs as they came to be later in the same history.
// From then on no view is opened, View returns nil, and what needs one of its own returns ErrRetired. Views that are
// open, and what is under way, go on undisturbed; Drained tells when the views are closed, and Wait when nothing reads
// or writes the database any more. Cursors go on in next.
//
// The goroutine that applies calls it, once, between two runs.
func (s *Store) Retire(next *Store) {
	s.tx.reset()
	s.retirement.next.Store(next)
	s.retirement.left = s.gate.shut()
}

// Drained is closed when the last view of a retired store is.
func (s *Store) Drained() <-chan struct{} { return s.retirement.left }

// Wait returns when nothing uses the database of a retired store any more, nor ever will.
func (s *Store) Wait() {
	<-s.retirement.left
	s.removal.mu.Lock() // a step of removal that had begun; the next one finds the gate shut
	defer s.removal.mu.Unlock()
}

// viewOfNewest opens a view of s or, if that is retired, of the store that has taken its place.
func (s *Store) viewOfNewest() *View {
	for {
		if v := s.View(); v != nil {
			return v
		}
		s = s.retirement.next.Load()
	}
}
