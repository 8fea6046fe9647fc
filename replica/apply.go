package replica

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// applies is the queue towards the state machine.
type applies struct {
	made, done uint64            // sequence numbers: of the last one handed out, of the last one reported done
	changing   bool              // the last one handed out ends in a conf change and is not done
	waiting    []*Apply          // not handed out yet, because of that
	conf       *raftpb.ConfState // as of the last one done
}

// idle reports whether everything that raft handed out is applied.
func (q *applies) idle() bool { return q.done == q.made && len(q.waiting) == 0 }

// removed reports whether a member is not part of the configuration.
func (q *applies) removed(id uint64) bool {
	return !slices.Contains(q.conf.GetVoters(), id) &&
		!slices.Contains(q.conf.GetLearners(), id) &&
		!slices.Contains(q.conf.GetVotersOutgoing(), id)
}

// queueApply cuts what raft hands out behind each conf change: what follows one may depend on whether it took effect. Raft
// hears of each piece by itself: up to there the log may be cut off, and it must not look there again.
func (r *Replica) queueApply(m *raftpb.Message) {
	entries, start := m.GetEntries(), 0
	for i, e := range entries {
		cc := confChange(e)
		last := i == len(entries)-1
		if cc == nil && !last {
			continue
		}
		a := &Apply{Entries: entries[start : i+1 : i+1], change: cc}
		whole := m.GetResponses()[0]
		a.response = &raftpb.Message{
			Type: whole.Type, To: whole.To, From: whole.From, Term: whole.Term, Entries: a.Entries,
		}
		start = i + 1
		r.applies.waiting = append(r.applies.waiting, a)
	}
}

// handOutApplies emits Applies up to and including the next one with a conf change, which has to wait until the disk knows
// that it is committed, and if it is this member's removal, until another member knows.
func (r *Replica) handOutApplies() {
	q := &r.applies
	for len(q.waiting) > 0 && !q.changing {
		a := q.waiting[0]
		if a.change != nil && (a.last() > r.changes.durable || r.partsTooEarly(a)) {
			break
		}
		q.waiting[0], q.waiting = nil, q.waiting[1:]
		q.made++
		a.sequence = q.made
		if a.change != nil {
			q.changing = true
			// A change that leads nowhere stays without a ConfState, the same on every member.
			a.ConfState, _ = changed(q.conf, a.last(), a.change)
		}
		r.emit(a)
	}
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
}

func (a *Apply) last() uint64 { return a.Entries[len(a.Entries)-1].GetIndex() }

func (r *Replica) applyDone(ev ApplyDone) {
	q, a := &r.applies, ev.Apply
	if a.sequence != q.done+1 {
		panic(fmt.Sprintf("replica: apply %d reported done after apply %d", a.sequence, q.done))
	}
	q.done = a.sequence
	r.status.Applied = a.last()
	r.outbox.settle(ev.Settled)
	r.outbox.passed(a.Entries[len(a.Entries)-1].GetTerm())
	if a.change != nil {
		q.changing = false
		if !ev.Refused && a.ConfState != nil {
			r.changeConfiguration(a)
		}
	}
	r.must(r.rn.Step(a.response))
	r.campaignIfLone()
}

// changeConfiguration tells raft of a conf change that was applied, unless raft has accepted a snapshot meanwhile: its
// configuration is then the snapshot's, which is a later one.
func (r *Replica) changeConfiguration(a *Apply) {
	r.applies.conf = a.ConfState
	r.collect() // an accepted snapshot is seen only then
	if r.appends.installs > 0 {
		return
	}
	cs := r.rn.ApplyConfChange(a.change)
	if err := cs.Equivalent(a.ConfState); err != nil {
		panic(fmt.Sprintf("replica: entry %d makes configuration %v in raft, %v here: %v", a.last(), cs, a.ConfState, err))
	}
	r.configure(cs)
}
