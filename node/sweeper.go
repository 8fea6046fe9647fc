package node

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// sweeps lets callers wait until everything below a floor has been removed.
type sweeps struct {
	inherited int64 // the floor that this run has started with

	mu    sync.Mutex
	floor int64         // everything below is gone
	moved chan struct{} // closed when floor moves
}

func newSweeps(inherited int64) *sweeps {
	return &sweeps{inherited: inherited, floor: -1, moved: make(chan struct{})}
}

func (s *sweeps) finish(floor int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if floor > s.floor {
		s.floor = floor
		close(s.moved)
		s.moved = make(chan struct{})
	}
}

func (s *sweeps) at() (floor int64, moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floor, s.moved
}

// WaitSwept returns once everything that compactions up to now made unreadable is gone from the store.
func (n *Node) WaitSwept(ctx context.Context) error {
	floor := n.o.Machine.Compacted()
	for {
		done, moved := n.sweeps.at()
		if done >= floor {
			return nil
		}
		n.Sweep()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.stopped.Done():
			return ErrStopped
		}
	}
}

// sweepUp is the sweeper's loop: it removes what compactions made unreadable, then cuts the log below what the store has
// on disk.
func (n *Node) sweepUp() {
	for {
		select {
		case <-n.sweep:
		case <-n.stopped.Done():
			return
		}
		if err := n.truncate(); err != nil {
			n.fail(err)
			return
		}
		if err := n.removeCompacted(); err != nil {
			n.fail(err)
			return
		}
	}
}

func (n *Node) removeCompacted() error {
	start, first := n.o.Clock.Monotonic(), n.o.Machine.Compacted()
	at, applied, busy := start, n.Status().Applied, false
	for total := 0; ; {
		floor := n.o.Machine.Compacted() // it may have moved on meanwhile: the step goes by a newer one, if any
		began := n.o.Clock.Monotonic()
		removed, more, err := n.o.Machine.CompactStep(n.o.Sweep.Records)
		if err != nil {
			return err
		}
		took := n.o.Clock.Monotonic() - began
		if removed > 0 && n.o.Observe.Removing != nil {
			n.o.Observe.Removing(removed, took)
		}
		total += removed
		if !more {
			n.swept(floor, total, n.o.Clock.Monotonic()-start)
			return nil
		}
		if !n.wait(n.o.Sweep.pause(took, busy, floor > first)) {
			return nil
		}
		if now := n.o.Clock.Monotonic(); now-at >= sweepLook {
			entries := n.Status().Applied - applied
			busy = time.Duration(entries)*time.Second > sweepBusy*(now-at)
			at, applied = now, applied+entries
		}
		select { // a long removal must not let the log grow for as long
		case <-n.sweep:
			if err := n.truncate(); err != nil {
				return err
			}
		default:
		}
	}
}

func (n *Node) swept(floor int64, removed int, took time.Duration) {
	before, _ := n.sweeps.at()
	n.sweeps.finish(floor)
	if floor == n.sweeps.inherited && removed == 0 {
		return // an earlier run has done it all
	}
	if floor > before && n.o.Observe.Compacted != nil {
		n.o.Observe.Compacted(floor, removed, took)
	}
}

// logBytesMax is how large the log may grow for the sake of members that lag: beyond it they get a snapshot.
const logBytesMax = 1 << 30

// truncate cuts the log below what no crash can take from the store any more, and nobody lagging needs.
func (n *Node) truncate() error {
	durable, err := n.o.Machine.DurableApplied()
	if err != nil {
		return fmt.Errorf("node: durable applied index: %w", err)
	}
	// Raft looks at entries up to where it knows of their application, which it hears of a little later than the store.
	keep := n.neededFrom(min(durable.Index, n.Status().Applied))
	if keep == 0 || n.stopped.Err() != nil { // who stops does not know any more who lags
		return nil
	}
	if err := n.o.Log.Truncate(keep); err != nil {
		return err
	}
	if n.o.Observe.Truncated != nil {
		n.o.Observe.Truncated(keep)
	}
	return nil
}

// neededFrom is the index up to which the log can go, if the store could do without it up to durable. 0: nothing can.
func (n *Node) neededFrom(durable uint64) uint64 {
	if n.o.Network == nil {
		return durable
	}
	to := durable - min(durable, n.o.CatchUpEntries)
	if bytes, _ := n.o.Log.Size(); bytes > logBytesMax {
		return to
	}
	for _, p := range n.Progress() {
		if p.Active { // whoever is away may be so for long: a snapshot brings it back
			to = min(to, p.Match)
		}
	}
	return to
}
