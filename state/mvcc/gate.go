package mvcc

import (
	"sync"
	"sync/atomic"
)

// gate lets many readers in and tells one other goroutine when all that were in at some moment have left, without
// either ever waiting for the other.
//
// Readers are counted under the parity of the epoch they came in at. turn begins a new epoch; drained reports that
// all readers of earlier ones have left. A reader whose epoch ends between reading it and being counted tries again,
// so that no reader is counted under an epoch that was drained before. Invariant: turn is called only once the
// previous one has drained, so there are never readers of more than two epochs.
//
// shut ends the last epoch: nobody gets in any more, and a channel tells when the last reader has left.
type gate struct {
	epoch atomic.Uint64 // with gateShut, once it is
	empty chan struct{} // made before gateShut is set, closed when nobody is in any more
	told  sync.Once

	// What changes with every reader lies in cache lines away from what every reader reads.
	_  [64]byte
	in [2]struct {
		n atomic.Int64
		_ [56]byte
	}
}

// gateShut is set in the epoch of a gate that nobody gets through any more.
const gateShut = 1 << 63

// enter lets a reader in; what it returns goes to leave. If it is gateShut, the reader is not in, and does not leave.
func (g *gate) enter() (epoch uint64) {
	for {
		e := g.epoch.Load()
		if e&gateShut != 0 {
			return gateShut
		}
		if g.join(e) {
			return e
		}
	}
}

// join counts a reader under an epoch, unless that has ended.
func (g *gate) join(epoch uint64) bool {
	g.in[epoch&1].n.Add(1)
	return g.epoch.Load() == epoch || g.turnBack(epoch)
}

// turnBack takes back what join counted, out of its way.
//
//go:noinline
func (g *gate) turnBack(epoch uint64) bool {
	g.leave(epoch)
	return false
}

// leave is the other half of enter. The last one out of a shut gate tells.
func (g *gate) leave(epoch uint64) {
	if g.in[epoch&1].n.Add(-1) == 0 {
		g.tellIfEmpty()
	}
}

// readers is how many are in, at about this moment.
func (g *gate) readers() int64 { return g.in[0].n.Load() + g.in[1].n.Load() }

// turn begins a new epoch. Whoever enters from now on sees what was stored before.
func (g *gate) turn() { g.epoch.Add(1) }

// drained reports whether all who entered before the last turn have left.
func (g *gate) drained() bool { return g.in[(g.epoch.Load()+1)&1].n.Load() == 0 }

// shut lets nobody in any more. The channel is closed when all who are in have left. It is called once.
func (g *gate) shut() (empty <-chan struct{}) {
	g.empty = make(chan struct{})
	g.epoch.Or(gateShut)
	g.tellIfEmpty()
	return g.empty
}

func (g *gate) isShut() bool { return g.epoch.Load()&gateShut != 0 }

// tellIfEmpty is called by all who make a count zero, and by shut: whoever comes last sees a shut gate and two zeros.
// A count that was zero once the gate was shut stays so, but for a reader who finds it shut and turns back.
func (g *gate) tellIfEmpty() {
	if g.isShut() && g.in[0].n.Load() == 0 && g.in[1].n.Load() == 0 {
		g.told.Do(func() { close(g.empty) })
	}
}
