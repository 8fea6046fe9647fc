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
		r.applies.waiting = append(r.applies.waiting, newApply(m.GetResponses()[0], entries[start:i+1:i+1], cc))
		start = i + 1
	}
}

// newApply makes an Apply of some of the entries that raft waits to be answered about.
func newApply(answer *raftpb.Message, entries []*raftpb.Entry, change *raftpb.ConfChangeV2) *Apply {
	return &Apply{Entries: entries, change: change, response: &raftpb.Message{
		Type: answer.Type, To: answer.To, From: answer.From, Term: answer.Term, Entries: entries,
	}}
}

// handOutApplies emits Applies up to and including the next one with a conf change, which has to wait until the disk knows
// that it is committed, and if it is this member's removal, until another member knows or it is known to be refused.
func (r *Replica) handOutApplies() {
	q := &r.applies
	r.status.Parting = 0
	for len(q.waiting) > 0 && !q.changing {
		a := q.waiting[0]
		if a.change != nil && a.last() > r.changes.durable {
			break
		}
		if a.change != nil && r.partsTooEarly(a) {
			if n := len(a.Entries) - 1; n > 0 { // what stands before it does not wait, and says what becomes of it
				q.waiting[0] = newApply(a.response, a.Entries[n:], a.change)
				q.waiting = slices.Insert(q.waiting, 0, newApply(a.response, a.Entries[:n:n], nil))
				continue
			}
			if !r.isRefused(a) {
				if a.judged {
					r.status.Parting = a.last()
				}
				break
			}
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

// isRefused finds out, as soon as everything before it is applied, whether this member's removal, alone in an Apply, is one
// that the machine will not carry out.
func (r *Replica) isRefused(a *Apply) bool {
	q := &r.applies
	if !a.judged && q.done == q.made {
		conf, _ := changed(q.conf, a.last(), a.change)
		refused, err := r.o.Refuses(a.Entries[0], conf)
		if err != nil {
			panic(fmt.Errorf("replica: what becomes of entry %d: %w", a.last(), err))
		}
		a.judged, a.refused = true, refused
	}
	return a.refused
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
		if a.refused && !ev.Refused {
			panic(fmt.Sprintf("replica: entry %d was to be refused, and was carried out", a.last()))
		}
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
