package mvcc

import "sync/atomic"

// gate lets many readers in and tells one other goroutine when all that were in at some moment have left, without
// either ever waiting for the other.
//
// Readers are counted under the parity of the epoch they came in at. turn begins a new epoch; drained reports that
// all readers of earlier ones have left. A reader whose epoch ends between reading it and being counted tries again,
// so that no reader is counted under an epoch that was drained before. Invariant: turn is called only once the
// previous one has drained, so there are never readers of more than two epochs.
type gate struct {
	epoch atomic.Uint64
	in    [2]struct {
		n atomic.Int64
		_ [56]byte // a cache line each
	}
}

// enter lets a reader in; what it returns goes to leave.
func (g *gate) enter() (epoch uint64) {
	for {
		if e := g.epoch.Load(); g.join(e) {
			return e
		}
	}
}

// join counts a reader under an epoch, unless that has ended.
func (g *gate) join(epoch uint64) bool {
	g.in[epoch&1].n.Add(1)
	if g.epoch.Load() == epoch {
		return true
	}
	g.in[epoch&1].n.Add(-1)
	return false
}

func (g *gate) leave(epoch uint64) { g.in[epoch&1].n.Add(-1) }

// turn begins a new epoch. Whoever enters from now on sees what was stored before.
func (g *gate) turn() { g.epoch.Add(1) }

// drained reports whether all who entered before the last turn have left.
func (g *gate) drained() bool { return g.in[(g.epoch.Load()+1)&1].n.Load() == 0 }
