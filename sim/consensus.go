package sim

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/raftlog"
	"keelson/replica"
	"keelson/state"
)

// consensus checks raft's promises, across all members.
type consensus struct {
	w       *world
	leaders map[uint64]uint64          // by term
	newest  uint64                     // the newest term that had a leader
	written map[place]entry            // everything that was ever in a log
	terms   map[command.BatchID]uint64 // in which batches were proposed
}

// place is a place in some log.
type place struct{ index, term uint64 }

// entry is what stands there.
type entry struct{ before, sum uint64 }

func newConsensus(w *world) *consensus {
	return &consensus{
		w: w, leaders: map[uint64]uint64{}, written: map[place]entry{}, terms: map[command.BatchID]uint64{},
	}
}

// proposed notes the term in which a batch is proposed.
func (c *consensus) proposed(id command.BatchID, term uint64) { c.terms[id] = term }

// checkElected checks that a new leader is the only one of its term, and has every entry that was committed in an earlier
// one. (It may be late: others may be terms ahead.)
func (c *consensus) checkElected(m *member) {
	w, term := c.w, m.leading
	if other, ok := c.leaders[term]; ok && other != m.host.id {
		w.violate("%v leads in term %d, and so does %x", m, term, other)
	}
	w.reach("a leader was replaced", c.newest > 0 && c.leaders[c.newest] != m.host.id)
	c.leaders[term] = m.host.id
	c.newest = max(c.newest, term)
	for i := m.host.ledger.base + 1; i <= w.last(); i++ {
		if has, want := m.host.ledger.termOf(i), w.records[i].term; has != want && w.records[i].committed < term {
			w.violate("%v leads in term %d, but has no entry %d of term %d, which was applied (its own there: term %d)", m, term, i, want, has)
		}
	}
}

// patience is how long a leader may go by the configuration before the last change, because it applies slowly.
const patience = 30 * time.Second

// checkCommitted checks that an entry that is applied for the first time was committed by the rules: it, or one behind it,
// is on the disks of a quorum who wrote it in its own term. Entries of earlier terms are not counted, only carried along.
func (c *consensus) checkCommitted(e *state.Entry) {
	w := c.w
	last := &w.records[e.Index-1]
	why := c.uncommitted(e, last.roster.voters)
	if why != "" && last.before != nil && w.now-last.changed < patience {
		w.reach("an entry was committed by the voters before a change", true)
		why = c.uncommitted(e, last.before)
	}
	if why != "" {
		w.violate("entry %d of term %d is applied, but %s", e.Index, e.Term, why)
	}
}

// uncommitted says why some voters can't have committed an entry; empty: they may have.
func (c *consensus) uncommitted(e *state.Entry, voters []uint64) string {
	w := c.w
	last, holders := uint64(0), 0
	for _, id := range voters {
		l := w.ledgerOf(id)
		last = max(last, l.last())
		if l.has(e.Index, e.Term) {
			holders++
		}
	}
	w.reach("not all members had an entry when it was applied", holders < len(voters))
	if quorum := len(voters)/2 + 1; holders < quorum {
		return fmt.Sprintf("only %d members have it on disk", holders)
	}
	for i := e.Index; i <= last; i++ {
		if w.counted(i, voters) > len(voters)/2 {
			w.reach("an entry was committed by one of a later term", i > e.Index)
			return ""
		}
	}
	return "no quorum was ever counted for it, or for a later one"
}

// counted is how many voters have written the same entry at an index in its own term.
func (w *world) counted(index uint64, voters []uint64) (most int) {
	count := map[uint64]int{}
	for _, id := range voters {
		l := w.ledgerOf(id)
		if t := l.termOf(index); t != 0 && l.termWrittenIn(index) == t {
			count[t]++
			most = max(most, count[t])
		}
	}
	return most
}

// ledgerOf is what the log of a member must hold, or held when it was removed.
func (w *world) ledgerOf(id uint64) *ledger {
	if h := w.hostOf(id); h != nil {
		return &h.ledger
	}
	if l := w.former[id]; l != nil {
		return l
	}
	return &ledger{}
}

// checkAppended checks that logs match: what is equal in index and term is the same entry, behind the same one.
func (c *consensus) checkAppended(m *member, batches []raftlog.Batch) {
	l := &m.host.ledger
	next, before := uint64(0), uint64(0)
	for _, b := range batches {
		for _, e := range b.Entries {
			if e.GetIndex() != next {
				before = l.termOf(e.GetIndex() - 1)
			}
			c.w.reach("a conflicting tail was replaced", next == 0 && e.GetIndex() <= l.last())
			at, is := place{e.GetIndex(), e.GetTerm()}, entry{before, checksum(e.GetData())}
			was, ok := c.written[at]
			switch {
			case ok && was.sum != is.sum:
				c.w.violate("%v: entry %d of term %d is another one than elsewhere", m, at.index, at.term)
			case ok && was.before != 0 && is.before != 0 && was.before != is.before:
				c.w.violate("%v: entry %d of term %d stands behind one of term %d, elsewhere of %d", m, at.index, at.term, is.before, was.before)
			case !ok || was.before == 0:
				c.written[at] = is
			}
			next, before = at.index+1, at.term
		}
	}
}

// checkSent checks that a message promises nothing that its sender's disk does not hold.
func (c *consensus) checkSent(m *member, msg *raftpb.Message) {
	if missing := m.host.ledger.promises(msg, m.host.id); missing != "" {
		c.w.violate("%v sends %s, but its disk has not got the %s", m, raft.DescribeMessage(msg, nil), missing)
	}
}

// reportEarly is the bug of a member that believes in writes before they are on disk.
func (m *member) reportEarly(a *replica.Append) {
	early := m.w.bug("acknowledge-before-sync") || m.w.bug("vote-before-sync") && len(a.Entries) == 0
	if n := len(m.appends); n > 1 {
		before, ok := m.appends[n-2].(*replica.Append)
		early = early && ok && m.reported[before]
	}
	if !early {
		return
	}
	if m.reported == nil {
		m.reported = map[*replica.Append]bool{}
	}
	m.reported[a] = true
	m.tell("append reported early", replica.AppendDone{Append: a})
}

// commitByCounting is the bug of a leader that takes what a quorum holds for committed, of whatever term it is.
func (m *member) commitByCounting(msg *raftpb.Message) *raftpb.Message {
	var match []uint64
	var to uint64
	m.replica.Progress(func(p replica.Progress) {
		match = append(match, p.Match)
		if p.ID == msg.GetTo() {
			to = p.Match
		}
	})
	if len(match) == 0 {
		return msg
	}
	counted := quorumMatch(match)
	switch msg.GetType() {
	case raftpb.MsgHeartbeat:
		counted = min(counted, to)
	case raftpb.MsgApp:
	default:
		return msg
	}
	if counted <= msg.GetCommit() {
		return msg
	}
	msg = proto.Clone(msg).(*raftpb.Message)
	msg.Commit = new(counted)
	return msg
}

// quorumMatch is up to where a majority has everything.
func quorumMatch(match []uint64) uint64 {
	slices.Sort(match)
	return match[(len(match)-1)/2]
}
