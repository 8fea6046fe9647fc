package sim

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/raftlog"
)

// ledger is what a host's log must hold, whatever crash comes: what was in it when it was opened, and what Append has
// returned for since.
type ledger struct {
	base       uint64   // entries up to here are gone
	terms      []uint64 // of the entries behind
	writtenIn  []uint64 // the terms that the member was in when it wrote them; 0: not known any more
	term, vote uint64
	longest    uint64          // the newest entry that ever was in it
	opened     bool            // there is a log
	writing    []raftlog.Batch // under way: a crash keeps the first some of them
	installing *installation   // under way: a crash keeps the old log or begins the new one; nil: none is
}

// installation is a state that takes the place of what was before.
type installation struct {
	at   raftlog.Position
	hard *raftpb.HardState
}

// after is the ledger once a state is installed. Of the term and vote that come with it, a crash in between may leave those
// of before, but for a term that the state is beyond.
func (l ledger) after(i *installation, complete bool) *ledger {
	hard := ledger{term: l.term, vote: l.vote}
	if i.hard != nil && complete {
		hard.term, hard.vote = i.hard.GetTerm(), i.hard.GetVote()
	}
	if hard.term < i.at.Term {
		hard.term, hard.vote = i.at.Term, 0
	}
	return &ledger{base: i.at.Index, term: hard.term, vote: hard.vote, longest: i.at.Index, opened: true}
}

// installed notes that a state is installed.
func (l *ledger) installed() { *l = *l.after(l.installing, true) }

// last is the newest entry.
func (l *ledger) last() uint64 { return l.base + uint64(len(l.terms)) }

// termOf returns the term of an entry; 0: it is not there, or not any more.
func (l *ledger) termOf(index uint64) uint64 {
	if index <= l.base || index > l.last() {
		return 0
	}
	return l.terms[index-l.base-1]
}

// termWrittenIn returns the term that the member was in when it wrote an entry; 0: that is not known.
func (l *ledger) termWrittenIn(index uint64) uint64 {
	if index <= l.base || index > l.last() {
		return 0
	}
	return l.writtenIn[index-l.base-1]
}

// has reports whether an entry that is known to be committed was written.
func (l *ledger) has(index, term uint64) bool { return index <= l.base || l.termOf(index) == term }

// with is the ledger after some batches.
func (l ledger) with(batches []raftlog.Batch) *ledger {
	l.terms, l.writtenIn = slices.Clone(l.terms), slices.Clone(l.writtenIn)
	l.written(batches)
	return &l
}

// written notes that an append has returned.
func (l *ledger) written(batches []raftlog.Batch) {
	for _, b := range batches {
		if h := b.HardState; h != nil {
			l.term, l.vote = h.GetTerm(), h.GetVote()
		}
		for _, e := range b.Entries {
			at := e.GetIndex() - l.base - 1
			l.terms = append(l.terms[:at], e.GetTerm())
			l.writtenIn = append(l.writtenIn[:at], l.term)
			l.longest = max(l.longest, e.GetIndex())
		}
	}
	l.writing = nil
}

// differs says how a log differs from the ledger, empty if it does not. Entries may have left the log at its beginning.
func (l *ledger) differs(log *raftlog.Log) string {
	first, _ := log.FirstIndex()
	last, _ := log.LastIndex()
	hard := log.HardState()
	switch {
	case last != l.last():
		return "the log ends elsewhere"
	case hard.GetTerm() != l.term || hard.GetVote() != l.vote:
		return "another term or vote"
	}
	for i := max(first, l.base+1); i <= last; i++ {
		if t, err := log.Term(i); err != nil || t != l.termOf(i) {
			return "other entries"
		}
	}
	return ""
}

// reopen compares the ledger with the log after a start, and takes over what is there.
func (l *ledger) reopen(m *member) {
	installing := l.installing
	if installing != nil && m.machine.Applied().Index < installing.at.Index {
		installing = nil
	}
	if installing != nil {
		m.host.applied = max(m.host.applied, installing.at.Index)
	}
	if why := l.settle(m, installing); why != "" && l.opened {
		first, _ := m.log.FirstIndex()
		last, _ := m.log.LastIndex()
		m.w.violate("%v: the log is not what was written to it: %s: %d to %d, %v, want %d to %d, term %d, vote %x",
			m, why, first, last, m.log.HardState(), l.base+1, l.last(), l.term, l.vote)
	}
	l.read(m.log)
}

// settle finds out how much of what was under way the log holds, and takes it over; otherwise it says what is wrong.
func (l *ledger) settle(m *member, installing *installation) (why string) {
	for k := range len(l.writing) + 1 {
		written := l.with(l.writing[:k])
		for _, after := range written.starts(installing) {
			if why = after.differs(m.log); why != "" {
				continue
			}
			m.w.reach("an append was lost in a crash", k < len(l.writing))
			m.w.reach("an append that never returned is there", k > 0)
			m.w.reach("a crash left the installed state", after != written)
			*l = *after
			return ""
		}
	}
	return why
}

// starts are the ledgers that a start may find, if i was installed: a log that goes on behind the state stays.
func (l *ledger) starts(i *installation) []*ledger {
	if i == nil || l.has(i.at.Index, i.at.Term) {
		return []*ledger{l}
	}
	return []*ledger{l.after(i, true), l.after(i, false)}
}

// read takes over what a log holds.
func (l *ledger) read(log *raftlog.Log) {
	first, _ := log.FirstIndex()
	last, _ := log.LastIndex()
	hard := log.HardState()
	before := *l
	*l = ledger{opened: true, base: first - 1, term: hard.GetTerm(), vote: hard.GetVote()}
	for i := first; i <= last; i++ {
		t, _ := log.Term(i)
		l.terms = append(l.terms, t)
		l.writtenIn = append(l.writtenIn, before.termWrittenIn(i))
	}
	l.longest = last
}

// promises says what a message promises about its sender's disk that the disk never held; empty: nothing. What it
// promised in a term may be gone when the disk is in a later one: an append that followed was under the same sync.
func (l *ledger) promises(msg *raftpb.Message, sender uint64) string {
	switch t := msg.GetType(); {
	case t == raftpb.MsgPreVote:
		if l.longest < msg.GetIndex() {
			return "log it boasts of"
		}
	case l.term > msg.GetTerm() || msg.GetReject():
	case t == raftpb.MsgApp || t == raftpb.MsgHeartbeat:
		if l.term < msg.GetTerm() {
			return "term"
		}
	case t == raftpb.MsgVote:
		if l.term < msg.GetTerm() || l.vote != sender {
			return "candidacy"
		}
		if l.longest < msg.GetIndex() { // what it had may have been replaced under the same sync, by the leader of that term
			return "log it boasts of"
		}
	case t == raftpb.MsgVoteResp:
		if l.term < msg.GetTerm() || l.vote != msg.GetTo() {
			return "vote"
		}
	case t == raftpb.MsgAppResp:
		if l.term < msg.GetTerm() {
			return "term"
		}
		if l.last() < msg.GetIndex() {
			return "entries"
		}
	}
	return ""
}
