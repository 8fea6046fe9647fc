package replica

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/fault"
)

// appends is the queue towards the log.
type appends struct {
	made, done uint64            // sequence numbers: of the last one made, of the last one reported done
	hard       *raftpb.HardState // a new commit index that waits for the next write; nil: none
	installs   int               // Installs made and not done: 0 or 1
	installing *Install          // handed out and not done; nil: none
	behind     []Effect          // Appends and Installs that wait for an Install or, at the head, an Install for Applies
}

// send emits messages to other members, but not requests for votes: those it returns, for they go the way of raft's own
// responses. They speak of a term and of entries that must be on disk first: a member that forgets in a crash that it
// was a candidate could vote for another one in the same term, or count votes given to a longer log than it still has.
// The same goes for what tells of a conf change that the disk does not know to be committed: see changes.
func (r *Replica) send(ms []*raftpb.Message) (held []*raftpb.Message) {
	for _, m := range ms {
		if isCampaign(m) || r.changes.tells(m) {
			held = append(held, m)
		}
	}
	if len(held) > 0 {
		rest := make([]*raftpb.Message, 0, len(ms)-len(held))
		for _, m := range ms {
			if !isCampaign(m) && !r.changes.tells(m) {
				rest = append(rest, m)
			}
		}
		ms = rest
	}
	if len(ms) > 0 {
		r.emit(&Send{Messages: ms})
	}
	return held
}

func isCampaign(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgVote || m.GetType() == raftpb.MsgPreVote
}

// queueAppend turns raft's message to the append move (nil: none), and messages held back by send, into an effect.
//
// A commit index alone is not worth a write, unless it is that of a conf change: it travels with the next one, and if there
// is none, the next start finds out again. An Append without a write remains if something is to be said after earlier ones.
func (r *Replica) queueAppend(rd *raft.Ready, m *raftpb.Message, held []*raftpb.Message) {
	q := &r.appends
	if !raft.IsEmptyHardState(rd.HardState) {
		q.hard = rd.HardState
	}
	a := &Append{Entries: m.GetEntries(), Sync: rd.MustSync, responses: append(m.GetResponses(), held...)}
	installs := !raft.IsEmptySnap(rd.Snapshot)
	if a.Sync || installs || r.changes.isDue(r.status.Committed) {
		a.Sync = true
		a.HardState, q.hard = q.hard, nil
		r.changes.handedOut(a.HardState.GetCommit())
	} else if len(a.responses) == 0 {
		return
	}
	q.made++
	a.sequence = q.made
	if !installs {
		q.behind = append(q.behind, a)
		return
	}
	q.installs++
	q.behind = append(q.behind, &Install{Snapshot: rd.Snapshot, Append: a})
	r.configure(rd.Snapshot.GetMetadata().GetConfState())
}

// handOutAppends emits Appends at once, and an Install when everything before it is applied; nothing overtakes an
// Install. While raft has one under way, it hands out nothing to apply.
func (r *Replica) handOutAppends() {
	q := &r.appends
	for len(q.behind) > 0 && q.installing == nil {
		if in, ok := q.behind[0].(*Install); ok {
			fault.Sometimes("a snapshot waits for applies", !r.applies.idle())
			if !r.applies.idle() && !fault.Mutant("install-before-applied") {
				return
			}
			q.installing = in
		}
		r.emit(q.behind[0])
		q.behind[0], q.behind = nil, q.behind[1:]
	}
	if len(q.behind) == 0 {
		q.behind = nil
	}
}

// Awaits reports whether a snapshot is to be installed and is not yet.
func (r *Replica) Awaits(s *raftpb.Snapshot) bool {
	is := func(e Effect) bool {
		in, ok := e.(*Install)
		return ok && in != nil && in.Snapshot.GetMetadata().GetIndex() == s.GetMetadata().GetIndex() &&
			in.Snapshot.GetMetadata().GetTerm() == s.GetMetadata().GetTerm()
	}
	return is(r.appends.installing) || slices.ContainsFunc(r.appends.behind, is)
}

func (r *Replica) appendDone(a *Append) {
	r.inOrder(a)
	r.changes.written(a.HardState.GetCommit())
	r.respond(a)
}

func (r *Replica) installDone(in *Install) {
	if in != r.appends.installing {
		panic("replica: another snapshot reported installed than handed out")
	}
	r.inOrder(in.Append)
	r.appends.installs--
	r.appends.installing = nil
	meta := in.Snapshot.GetMetadata()
	r.changes.written(meta.GetIndex())
	r.applies.conf = meta.GetConfState()
	r.status.Applied = meta.GetIndex()
	r.skipped(meta.GetTerm())
	r.respond(in.Append)
	r.campaignIfLone()
}

// skipped gives up the proposals that may be among the entries that a snapshot stands for, and this member never sees.
func (r *Replica) skipped(term uint64) {
	for _, id := range r.outbox.givenUntil(term) {
		r.outbox.forget(id) // of the chain a link without entry remains
		r.emit(&ProposalDropped{ID: id, Err: ErrSkipped})
	}
}

func (r *Replica) inOrder(a *Append) {
	if a.sequence != r.appends.done+1 {
		panic(fmt.Sprintf("replica: append %d reported done after append %d", a.sequence, r.appends.done))
	}
	r.appends.done = a.sequence
}

// respond says what may be said now that an append is on disk: to raft itself, and to others.
func (r *Replica) respond(a *Append) {
	var others []*raftpb.Message
	for _, m := range a.responses {
		if m.GetTo() == r.o.ID {
			_ = r.rn.Step(m) // refused only if this member was removed meanwhile
		} else {
			others = append(others, m)
		}
	}
	a.responses = nil
	if len(others) > 0 {
		r.emit(&Send{Messages: others})
	}
}
