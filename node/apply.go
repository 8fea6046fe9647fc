package node

import (
	"sync/atomic"

	"keelson/replica"
	"keelson/state"
)

// applyBytesMax bounds the entries applied in one storage batch: results should not wait for too many others, and what a batch
// works on should stay in the processor's caches. Some 400 puts of 256 bytes are enough to share what a batch costs.
const applyBytesMax = 128 << 10

// applier makes the apply move: committed entries go to the machine, as many as have come, and then everybody is told.
// Its fields belong to the one whose turn it is.
type applier struct {
	turn  turn
	move  func() // round
	brief func() // briefRound
	n     *Node

	quick   atomic.Bool // the last round was: see quickMove
	queued  []*replica.Apply
	entries []state.Entry
}

func newApplier(n *Node) *applier {
	a := &applier{n: n}
	a.move, a.brief = a.round, a.briefRound
	return a
}

// loop makes the move whenever there is something to apply.
func (a *applier) loop() {
	for {
		a.turn.take(a.move)
		a.n.passOn(a.n.applies.len() == 0)
		select {
		case <-a.n.applies.wake:
		case <-a.n.stopped.Done():
			return
		}
	}
}

// round makes one move.
func (a *applier) round() {
	a.queued = a.n.applies.take(a.queued)
	a.carryOut()
}

// briefRound makes a move that takes no longer than a moment, or none.
func (a *applier) briefRound() {
	a.queued = a.n.applies.takeIf(areBriefApplies, a.queued)
	a.carryOut()
}

func (a *applier) carryOut() {
	if len(a.queued) == 0 {
		return
	}
	n := a.n
	begun := n.o.Clock.Monotonic()
	for rest := a.queued; len(rest) > 0; {
		var run []*replica.Apply
		run, rest = splitRun(rest)
		a.entries = a.entries[:0]
		for _, e := range run {
			a.entries = state.AppendEntries(a.entries, e.Entries, e.ConfState)
		}
		settled, refused, err := n.applyRun(a.entries)
		if err != nil {
			n.fail(err)
			return
		}
		for i, e := range run {
			n.events.put(replica.ApplyDone{Apply: e, Settled: settled, Refused: refused && i == len(run)-1})
			settled = nil
		}
		clear(a.entries)
	}
	a.quick.Store(n.o.Clock.Monotonic()-begun < quickMove)
}

// splitRun cuts off what is applied together: at least one Apply, up to applyBytesMax.
func splitRun(queued []*replica.Apply) (run, rest []*replica.Apply) {
	size := 0
	for i, a := range queued {
		for _, e := range a.Entries {
			size += len(e.GetData())
		}
		if i > 0 && size > applyBytesMax {
			return queued[:i], queued[i:]
		}
	}
	return queued, nil
}

// applyRun applies, then tells everybody, in the order of the package comment. It returns which of this member's own
// batches were among the entries, and whether the machine refused the conf change that they end in.
func (n *Node) applyRun(entries []state.Entry) (settled []uint64, refused bool, err error) {
	start := n.o.Clock.Monotonic()
	out, err := n.o.Machine.ApplyTelling(entries, n.o.Observe.Tokens)
	if err != nil {
		return nil, false, err
	}
	now := n.o.Clock.Monotonic()
	n.leases.observe(out.Leases, now)
	n.integrity.applied(&out, n.o.Machine.Applied().Index)
	if out.Users {
		n.o.Hub.Review()
	}
	for _, b := range out.Batches {
		n.proposals.settle(b.ID, b.Results)
	}
	if out.Light {
		n.o.Hub.PublishLight(out.Events, out.Revision)
	} else {
		n.o.Hub.Publish(out.Events, out.Revision)
	}
	if out.Members {
		n.membersChanged()
	}
	if out.Floor {
		n.Sweep()
	}
	if n.o.Observe.Applied != nil {
		n.o.Observe.Applied(&out, len(entries), now-start)
	}
	return n.proposals.own(out.Batches), out.ConfRefused, nil
}
