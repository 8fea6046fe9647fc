package replica

import (
	"encoding/binary"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/fault"
)

// outbox holds this member's proposals until they are seen applied, and sees to it that each becomes an entry once, over
// changes of leaders and lost messages.
//
//	idle ── a leader takes it, in its term ──► given ── applied ──► gone
//	 ▲                                           │
//	 └── an entry of a later term was applied ───┘
//
// A proposal that was given in term t becomes an entry of term t or none: a leader appends what it is given in its own
// term only. Entries of a log stand in the order of their terms. So when this member has applied an entry of a later term
// and not the proposal, nobody ever will, and it can be proposed again.
//
// To another member, proposals go as a chain, whose links are counted from 1 in each term. The leader takes only the link
// that follows on the last one it took; so the whole chain can be sent again when something was lost, and nothing is taken
// twice. What nobody waits for any more stays in the chain as a link without entry.
type outbox struct {
	origin     uint64 // of this run: the leader tells the chains of two runs apart by it
	proposals  []*proposal
	live       int    // of them, those with an entry
	term       uint64 // that the chain belongs to
	last       uint64 // its last link; 0: it has none
	sinceTicks int    // since the chain was begun or sent again, or a proposal was settled
	retry      bool   // idle ones may be tried again
}

// proposal is one of this member's own.
type proposal struct {
	id     uint64
	entry  *raftpb.Entry // nil: nobody waits for it any more
	change bool          // of the configuration
	term   uint64        // in which it was given to a leader; 0: idle
	link   uint64        // its place in the chain of that term, if it went to another member; 0: it is in none
}

// chains is what a leader remembers of other members' proposals: the last link it took, by origin. It is void in another
// term.
type chains struct {
	term uint64
	last map[uint64]uint64
}

const linkBytes = 16

// appendLink encodes the place of a proposal in its chain: origin | link, little endian. It travels as the context of a
// MsgProp, whose term is the chain's.
func appendLink(origin, link uint64) []byte {
	b := make([]byte, 0, linkBytes)
	b = binary.LittleEndian.AppendUint64(b, origin)
	return binary.LittleEndian.AppendUint64(b, link)
}

func decodeLink(b []byte) (origin, link uint64, ok bool) {
	if len(b) != linkBytes {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), true
}

func (q *outbox) add(p *proposal) {
	q.proposals = append(q.proposals, p)
	q.live++
	q.retry = true
}

// remove takes out the proposals that a condition holds for.
func (q *outbox) remove(gone func(p *proposal) bool) {
	kept := q.proposals[:0]
	for _, p := range q.proposals {
		if !gone(p) {
			kept = append(kept, p)
		} else if p.entry != nil {
			q.live--
		}
	}
	clear(q.proposals[len(kept):])
	q.proposals = kept
}

// settle takes out what was applied, and the links without entry before it, which the leader has taken.
func (q *outbox) settle(ids []uint64) {
	for _, id := range ids {
		q.sinceTicks = 0
		i := slices.IndexFunc(q.proposals, func(p *proposal) bool { return p.id == id })
		if i < 0 {
			continue // nobody waited for it
		}
		settled := q.proposals[i]
		q.remove(func(p *proposal) bool {
			return p == settled || p.entry == nil && p.term == settled.term && p.link < settled.link
		})
	}
}

// forget notes that nobody waits for a proposal any more.
func (q *outbox) forget(id uint64) {
	for i, p := range q.proposals {
		if p.id != id || p.entry == nil {
			continue
		}
		q.live--
		p.entry = nil
		if p.link == 0 {
			q.proposals = append(q.proposals[:i], q.proposals[i+1:]...)
		}
		return
	}
}

// givenUntil lists the proposals that were given to a leader in a term up to this one.
func (q *outbox) givenUntil(term uint64) (ids []uint64) {
	for _, p := range q.proposals {
		if p.entry != nil && p.term != 0 && p.term <= term {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// passed makes proposals idle again that were given in a term before one of which an entry was applied.
func (q *outbox) passed(term uint64) {
	lost := func(p *proposal) bool { return p.term != 0 && p.term < term }
	q.remove(func(p *proposal) bool { return p.entry == nil && lost(p) })
	for _, p := range q.proposals {
		if lost(p) {
			fault.Sometimes("a proposal was lost with its leader", true)
			p.term, p.link, q.retry = 0, 0, true
		}
	}
}

// pump gives idle proposals to the leader, and sends the chain again when it is time. It reports whether raft was told
// anything.
func (r *Replica) pump() (told bool) {
	q, s := &r.outbox, &r.status
	switch {
	case len(q.proposals) == 0 || s.Leader == raft.None:
		return false
	case s.Role == raft.StateLeader:
		if q.retry && r.rn.BasicStatus().LeadTransferee == raft.None {
			q.retry = false
			told = r.giveToOneself()
		}
		return told
	case r.applies.removed(r.o.ID):
		return false
	}
	if q.term != s.Term {
		if fault.Mutant("propose-again-at-once") {
			q.passed(s.Term)
		}
		q.term, q.last, q.sinceTicks, q.retry = s.Term, 0, 0, true
	}
	if q.sinceTicks >= r.o.ReadRetryTicks {
		q.sinceTicks = 0
		r.forward(func(p *proposal) bool { return p.link > 0 && p.term == s.Term })
	}
	if q.retry {
		q.retry = false
		r.forward(func(p *proposal) bool { return p.term == 0 })
	}
	return false
}

// giveToOneself proposes what is idle to raft on this leader.
func (r *Replica) giveToOneself() (told bool) {
	q := &r.outbox
	q.remove(func(p *proposal) bool {
		if p.term != 0 {
			return false
		}
		told = true
		switch r.stepProposal(r.o.ID, p.entry) {
		case nil:
			p.term = r.status.Term
		case ErrConfChangePending, ErrTransferring: // tried again with the next tick
			fault.Sometimes("a proposal waits for raft to take it", true)
		default:
			r.emit(&ProposalDropped{ID: p.id, Err: r.whyDropped()})
			return true
		}
		return false
	})
	return told
}

// stepProposal gives an entry to raft on the leader. Its own removal a leader does not take, it first sees to it that
// another one leads: if it were to commit that, and end before the others know, they would go on counting with its vote.
// Of two voters the other one would be stuck for ever.
func (r *Replica) stepProposal(from uint64, e *raftpb.Entry) error {
	if r.removesThis(e) && !r.status.Lone && !fault.Mutant("leader-commits-its-removal") {
		r.giveAway()
		return ErrTransferring
	}
	given := &raftpb.Entry{Type: e.Type, Data: e.Data} // raft fills in term and index
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(from), Entries: []*raftpb.Entry{given}}
	if r.rn.Step(m) != nil {
		return r.whyDropped()
	}
	if m.Entries[0] != given {
		// A leader that can't take a conf change now has put an empty entry in its place.
		return ErrConfChangePending
	}
	return nil
}

// removesThis reports whether an entry takes this member's vote.
func (r *Replica) removesThis(e *raftpb.Entry) bool {
	c := confChange(e)
	if c == nil {
		return false
	}
	conf, err := changed(r.applies.conf, r.status.LastIndex, c)
	return err == nil && !slices.Contains(conf.GetVoters(), r.o.ID)
}

// giveAway hands leadership over, if there is anybody to take it.
func (r *Replica) giveAway() {
	var all []Progress
	r.Progress(func(p Progress) { all = append(all, p) })
	if to := Successor(all, r.o.ID); to != raft.None {
		fault.Sometimes("a leader hands over before its removal", true)
		r.rn.TransferLeader(to)
		r.status.Transfer = to
	}
}

// forward sends proposals to the leader, those that are new to the chain as its next links.
func (r *Replica) forward(which func(p *proposal) bool) {
	q := &r.outbox
	var ms []*raftpb.Message
	for _, p := range q.proposals {
		if !which(p) {
			continue
		}
		if p.term == 0 {
			q.last++
			p.term, p.link = q.term, q.last
		}
		m := &raftpb.Message{
			Type: raftpb.MsgProp.Enum(), From: new(r.o.ID), To: new(r.status.Leader), Term: new(q.term),
			Context: appendLink(q.origin, p.link),
		}
		if p.entry != nil {
			m.Entries = []*raftpb.Entry{p.entry}
		}
		ms = append(ms, m)
	}
	if len(ms) > 0 {
		r.emit(&Send{Messages: ms})
	}
}

// receiveProposal takes another member's proposal, if this member leads in the term it is meant for and it follows on the
// last one taken.
func (r *Replica) receiveProposal(m *raftpb.Message) {
	r.collect() // what this member is may have changed with an earlier event
	c := &r.chains
	origin, link, ok := decodeLink(m.GetContext())
	if !ok || len(m.GetEntries()) > 1 || r.status.Role != raft.StateLeader || m.GetTerm() != r.status.Term {
		return
	}
	if c.term != r.status.Term {
		c.term, c.last = r.status.Term, make(map[uint64]uint64)
	}
	if c.last[origin]+1 != link && !fault.Mutant("take-links-again") {
		fault.Sometimes("a proposal comes again, or too early", true)
		return
	}
	for _, e := range m.GetEntries() {
		if r.stepProposal(m.GetFrom(), e) != nil {
			return // it is sent again
		}
	}
	c.last[origin] = link
}
