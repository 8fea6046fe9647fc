package node

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/env"
	"keelson/replica"
)

// A member is behind when an Apply has waited for behindAfter behind others. A follower tells the leader so, again every
// behindAgain while it lasts, and that it is over. A word that nothing follows is good for behindFor.
const (
	behindAfter = 15 * time.Millisecond
	behindAgain = 10 * time.Millisecond
	behindFor   = 40 * time.Millisecond
	// farBehind is how many entries a follower has to catch up with that nobody waits for: it comes back after a time away.
	farBehind = 1024
)

// What a leader waits for a member is paid from the member's credit, which one part in paceShare of the time without waits is put into: whoever is
// behind all the time, because his machine is slower than the others, has the cluster wait for a fifth of the time at most. It is
// paid from the leader's own credit, too, into which all of that time is put: however many are behind, commands go into the log for half of the time.
const (
	paceShare   = 4
	creditMax   = 100 * time.Millisecond // the longest wait
	creditLeast = 5 * time.Millisecond   // it is not worth while to begin with less
	paceLook    = 5 * time.Millisecond   // how often a leader that waits, or a follower that is behind, looks how things are if nobody tells it
)

// backlog is what this member has to apply. It belongs to the mover.
type backlog struct {
	since  []time.Duration // monotonic, for each Apply, oldest first: when it was handed out
	ended  int             // so many of them are done
	leader uint64          // who was told that this member is behind; 0: nobody
	term   uint64          // in which
	told   time.Duration   // monotonic: when it was told last
}

// begun notes an Apply.
func (b *backlog) begun(now time.Duration) { b.since = append(b.since, now) }

// done notes that the oldest Apply is done.
func (b *backlog) done() {
	if b.ended++; 2*b.ended >= len(b.since) {
		b.since = append(b.since[:0], b.since[b.ended:]...)
		b.ended = 0
	}
}

// isBehind reports whether this member is. The oldest Apply does not wait: it is being carried out, and may be large.
func (b *backlog) isBehind(now time.Duration) bool {
	waiting := b.ended + 1
	return len(b.since) > waiting && now-b.since[waiting] >= behindAfter
}

// word is what a follower has to tell its leader now; nil: nothing.
func (b *backlog) word(now time.Duration, s replica.Status) *raftpb.Message {
	if b.leader != s.Leader || b.term != s.Term {
		b.leader = 0
	}
	behind := b.isBehind(now)
	switch {
	case s.Leader == 0 || s.Leader == s.ID || s.Learner:
		return nil
	case behind && (b.leader == 0 || now-b.told >= behindAgain):
		b.leader, b.term, b.told = s.Leader, s.Term, now
		return behindMessage(s, s.Applied)
	case !behind && b.leader != 0:
		b.leader = 0
		return behindMessage(s, 0)
	}
	return nil
}

// behindMessage tells the leader up to where this member has applied, because it is behind; 0: it is not any more. The message is an
// acknowledgement with a context, which acknowledges nothing, and which raft does not get to see.
func behindMessage(s replica.Status, applied uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), To: &s.Leader, From: &s.ID, Term: &s.Term,
		Context: binary.AppendUvarint(nil, applied),
	}
}

// isBehindMessage reports whether a message is one.
func isBehindMessage(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgAppResp && m.GetContext() != nil
}

// pace keeps the members of a busy cluster together: while one is behind, its leader lets no further commands into the log, for moments
// that are bounded in length and in number. Otherwise a member that was held up, and has as much to do as the others, falls behind
// further the faster they are without it, and its clients wait for all of that.
//
// It belongs to the mover.
type pace struct {
	timer   env.Timer // runs while the leader waits, or this member is behind
	members map[uint64]*standing
	aside   []replica.Event // proposals of followers that wait, bounded like all that is received
	waits   bool
	credit  credit        // for all members together
	looked  time.Duration // monotonic: when it was decided last
	waited  atomic.Int64  // nanoseconds, in total; anybody may read it
}

// standing is how a member stands that has been behind since its leader came to lead.
type standing struct {
	applied uint64        // 0: it is not behind
	at      time.Duration // monotonic: when it said so
	credit  credit
	waited  bool // the leader waits for it, perhaps for others, too
}

func newPace(clock env.Clock) *pace {
	t := clock.NewTimer(time.Hour)
	t.Stop()
	return &pace{timer: t, members: make(map[uint64]*standing), credit: credit(creditMax)}
}

// note notes up to where a member has applied that is behind; 0: it is not.
func (p *pace) note(id, applied uint64, now time.Duration) {
	s := p.members[id]
	switch {
	case s != nil:
		s.applied, s.at = applied, now
	case applied != 0:
		p.members[id] = &standing{applied: applied, at: now, credit: credit(creditMax)}
	}
}

// hear notes what a follower has told of the term.
func (p *pace) hear(m *raftpb.Message, term uint64, now time.Duration) {
	if applied, n := binary.Uvarint(m.GetContext()); n > 0 && m.GetTerm() == term {
		p.note(m.GetFrom(), applied, now)
	}
}

// look decides whether the leader waits, of whose entries those up to an index are committed.
func (p *pace) look(now time.Duration, committed uint64) {
	passed := now - p.looked
	waited := p.waits
	if waited {
		p.waited.Add(int64(passed))
	}
	p.credit.pass(passed, waited, passed)
	all := p.credit.lasts(waited)
	p.looked, p.waits = now, false
	for _, s := range p.members {
		if s.waited || !waited {
			s.credit.pass(passed, s.waited, passed/paceShare)
		}
		s.waited = all && s.credit.lasts(s.waited) && s.applied != 0 && now-s.at < behindFor && s.applied+farBehind > committed
		p.waits = p.waits || s.waited
	}
	if p.waits {
		p.timer.Reset(paceLook)
	}
}

// credit is for how long there may be waits.
type credit time.Duration

// pass counts time that has passed with a wait, or what is earned by it.
func (c *credit) pass(passed time.Duration, waited bool, earned time.Duration) {
	if waited {
		*c = max(*c-credit(passed), 0)
	} else {
		*c = min(*c+credit(earned), credit(creditMax))
	}
}

// lasts reports whether there is enough to begin a wait, or to go on with one.
func (c credit) lasts(waited bool) bool {
	return c >= credit(creditLeast) || waited && c > 0
}

// rest is for a member that does not lead, or whose vote is the only one: it waits for nobody.
func (p *pace) rest() {
	p.waits = false
	clear(p.members)
}

// admit adds the events to dst that are not set aside, after what was set aside before if nothing waits any more.
func (p *pace) admit(dst, events []replica.Event) []replica.Event {
	if !p.waits {
		dst = append(dst, p.aside...)
		clear(p.aside)
		p.aside = p.aside[:0]
	}
	for _, ev := range events {
		m, ok := ev.(replica.Message)
		switch {
		case ok && isBehindMessage(m.Message):
		case ok && p.waits && m.GetType() == raftpb.MsgProp:
			p.aside = append(p.aside, ev)
		default:
			dst = append(dst, ev)
		}
	}
	return dst
}
