package transport

import (
	"slices"
	"sync"
)

// reports carries what the handler is to be told from whoever notices it to one goroutine: so nobody who calls the
// transport is called back from within. Reports about the same thing that nobody has passed on yet are one. The bound is
// the number of peers.
type reports struct {
	wake chan struct{} // capacity 1

	mu   sync.Mutex
	lost []uint64 // ids that Unreachable is due for
	gone []uint64 // ids that Removed is due for
}

func newReports() *reports { return &reports{wake: make(chan struct{}, 1)} }

func (r *reports) unreachable(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.lost, id) {
		r.lost = append(r.lost, id)
	}
	r.signal()
}

func (r *reports) removed(by uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.gone, by) {
		r.gone = append(r.gone, by)
	}
	r.signal()
}

func (r *reports) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run passes reports on until done.
func (r *reports) run(done <-chan struct{}, to Handler) {
	for {
		select {
		case <-r.wake:
		case <-done:
			return
		}
		r.mu.Lock()
		lost, gone := r.lost, r.gone
		r.lost, r.gone = nil, nil
		r.mu.Unlock()
		for _, id := range lost {
			to.Unreachable(id)
		}
		for _, id := range gone {
			to.Removed(id)
		}
	}
}
