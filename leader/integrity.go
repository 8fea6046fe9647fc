package leader

import (
	"cmp"
	"slices"
	"time"

	"keelson/command"
	"keelson/state"
	"keelson/state/alarm"
)

// IntegrityOptions pace the comparison of state hashes.
type IntegrityOptions struct {
	// Interval is the time between two checks that a leader begins. 0: 1 s.
	Interval time.Duration
	// Patience is how long statements may be on their way: what this member has said is said again if it has not come
	// out of the log after that, and who has not spoken in a dispute until then counts as unchecked. It should be longer
	// than a proposal can be pending. 0: 10 s.
	Patience time.Duration
}

const (
	integrityIntervalDefault = time.Second
	integrityPatienceDefault = 10 * time.Second

	checksMax     = 64 // remembered; older ones are not talked about any more
	statementsMax = 64 // of one check
)

// Integrity finds members whose state differs from that of the others. Every member keeps one and tells it of every
// comparison that comes out of the log; all that it goes by has come through the log, so that every member who has seen
// the same statements comes to the same verdict.
//
//	the leader states its hash at an index ──► everybody compares ──► equal: silence
//	                                                              └─► not equal: every member that has not yet states
//	                                                                  its own, the one who differs and those who do not
//
// Whoever differs from what a quorum of the voters has stated is corrupt, the leader like any other. If no hash can come to
// a quorum any more, somebody is, and nobody knows who: that is member 0. The leader raises the alarms. Who says nothing
// in a dispute is unchecked. Without a dispute, silence means that nobody has found a difference, not that all have looked.
//
// A member makes at most one statement about an index. It repeats one only if it got lost, as far as it can tell, and
// not after a restart; the first in the log counts.
type Integrity struct {
	o    IntegrityOptions
	self uint64

	since  uint64   // this member states nothing about indexes up to this one: an earlier run may have
	floor  uint64   // checks up to this index are forgotten. Invariant: floor < checks[0].index
	checks []*check // by index

	term   uint64        // in which this member leads; 0: it does not
	first  uint64        // index of the first check it has begun in term, 0: none. Alarms are raised by what follows on it.
	next   time.Duration // when the next check may begin
	asked  uint64        // index of the newest check that this member has begun
	raised []charge      // proposed within the last Patience

	corrupt *Corruption // that this member has found out about itself
}

// check is one index at which hashes are compared. It is in dispute if two members have stated different ones.
type check struct {
	index      uint64
	known      bool // this member's own hash, ours, is
	ours       uint64
	statements []statement // in the order of the log, at most one of a member

	said             bool // this member has stated ours, at saidAt
	opened           bool // it is, or once was, in dispute: since openedAt
	saidAt, openedAt time.Duration

	charged []uint64 // members that an alarm was called for because of this check
	verdict *Verdict // that was returned last
}

// statement is the hash of a member, by its own account.
type statement struct{ from, hash uint64 }

type charge struct {
	member uint64
	at     time.Duration
}

// Corruption says how a member's state differs.
type Corruption struct {
	Index       uint64 // at which it was found; it may have begun earlier
	Ours, Right uint64 // the member's hash, and that of a quorum
}

// Verdict is what has come of a dispute about the hash at an index.
type Verdict struct {
	Index uint64
	// Decided says that a quorum of voters has stated one hash, Right.
	Decided bool
	Right   uint64
	// Corrupt are the members that have stated another one, by id. 0 alone: hashes differ, and none can come to a quorum.
	Corrupt []uint64
	// Unchecked are the members that have stated nothing, by id. They may be healthy or not.
	Unchecked []uint64
}

// Standing is how the member stands when it is told the time.
type Standing struct {
	// Term is the term in which this member leads and has applied an entry; 0: it does not.
	Term uint64
	// Index is the newest applied, and Hash the state's hash at it.
	Index, Hash uint64
	// Changed is the newest index at which something other than comparisons may have been applied.
	Changed uint64
	// Voters and Learners are the present members, Alarmed those for which a CORRUPT alarm is raised; in any order.
	Voters, Learners, Alarmed []uint64
}

func (s *Standing) isMember(id uint64) bool {
	return slices.Contains(s.Voters, id) || slices.Contains(s.Learners, id)
}

// NewIntegrity makes the Integrity of the member self. since is the newest entry of its log as it starts.
func NewIntegrity(self, since uint64, o IntegrityOptions) *Integrity {
	if o.Interval <= 0 {
		o.Interval = integrityIntervalDefault
	}
	if o.Patience <= 0 {
		o.Patience = integrityPatienceDefault
	}
	return &Integrity{o: o, self: self, since: since}
}

// Installed tells that this member was given another state, as of an index: what it knew about the old one is void.
func (g *Integrity) Installed(index uint64) {
	*g = Integrity{o: g.o, self: g.self, since: max(g.since, index), floor: index}
}

// Corrupt is what this member has found out about its own state; ok is false if that is nothing.
func (g *Integrity) Corrupt() (c Corruption, ok bool) {
	if g.corrupt == nil {
		return Corruption{}, false
	}
	return *g.corrupt, true
}

// Observe tells of the comparisons in a run of applied entries, in order. applied is the index of the last entry.
func (g *Integrity) Observe(found []state.HashCheck, applied uint64) {
	for _, f := range found {
		if f.Index >= applied {
			continue // nobody can have a hash there
		}
		if c := g.check(f.Index); c != nil {
			c.add(f)
		}
	}
}

// check finds or makes the check at an index. Nil: there is no room for one as old as that.
func (g *Integrity) check(index uint64) *check {
	if index <= g.floor {
		return nil
	}
	i, ok := slices.BinarySearchFunc(g.checks, index, func(c *check, index uint64) int { return cmp.Compare(c.index, index) })
	if ok {
		return g.checks[i]
	}
	c := &check{index: index}
	g.checks = slices.Insert(g.checks, i, c)
	if len(g.checks) > checksMax {
		g.floor = g.checks[0].index
		g.checks = slices.Delete(g.checks, 0, 1)
	}
	if index <= g.floor {
		return nil
	}
	return c
}

// add adds what a member has stated. What it states a second time does not count.
func (c *check) add(f state.HashCheck) {
	if f.Known {
		c.known, c.ours = true, f.Ours
	}
	if _, ok := c.of(f.From); !ok && len(c.statements) < statementsMax {
		c.statements = append(c.statements, statement{f.From, f.Theirs})
	}
}

// of is the hash that a member has stated.
func (c *check) of(member uint64) (hash uint64, ok bool) {
	for _, s := range c.statements {
		if s.from == member {
			return s.hash, true
		}
	}
	return 0, false
}

// Tick tells the time as often as the caller likes, and soon after every Observe. It returns the HashChecks and Alarms to
// propose, and what has come of disputes, each as soon as everybody has spoken or Patience is over, and again whenever
// later statements change it.
func (g *Integrity) Tick(now time.Duration, s Standing) (propose []command.Op, verdicts []Verdict) {
	if s.Term != g.term {
		g.term, g.first = s.Term, 0
	}
	g.raised = slices.DeleteFunc(g.raised, func(r charge) bool { return now-r.at >= g.o.Patience })
	unsettled := false // of the newest check
	for _, c := range g.checks {
		if g.owes(c, now, &s) {
			propose = append(propose, g.say(c, now))
		}
		if unsettled = false; !c.isDisputed(&s) {
			continue
		}
		if !c.opened {
			c.opened, c.openedAt = true, now
		}
		v, overdue := c.judge(&s), now-c.openedAt >= g.o.Patience
		unsettled = overdue && !settled(&v, &s)
		g.learn(c, &v)
		propose = append(propose, g.raise(c, &v, now, &s)...)
		if c.isNews(&v, overdue) {
			verdicts = append(verdicts, v)
		}
	}
	if g.isDue(now, &s, unsettled) {
		propose = append(propose, g.begin(now, &s)...)
	}
	return propose, verdicts
}

// isDue reports whether this member, as the leader, begins a check: the first in its term, one after every change, and one
// more as long as the last one has led to nothing.
func (g *Integrity) isDue(now time.Duration, s *Standing, unsettled bool) bool {
	if s.Term == 0 || now < g.next || !s.isMember(g.self) || len(s.Voters)+len(s.Learners) < 2 {
		return false
	}
	return g.first == 0 || s.Changed > g.asked || unsettled
}

// begin begins a check of the newest index.
func (g *Integrity) begin(now time.Duration, s *Standing) []command.Op {
	g.next = after(now, g.o.Interval)
	c := g.check(s.Index)
	if c == nil || c.said {
		return nil
	}
	g.asked = s.Index
	if g.first == 0 {
		g.first = s.Index
	}
	c.known, c.ours = true, s.Hash
	return []command.Op{g.say(c, now)}
}

func (g *Integrity) say(c *check, now time.Duration) command.Op {
	c.said, c.saidAt = true, now
	return &command.HashCheck{Index: c.index, Hash: c.ours, From: g.self}
}

// owes reports whether this member has to speak: somebody's hash is not its own, or what it said before has got lost.
func (g *Integrity) owes(c *check, now time.Duration, s *Standing) bool {
	if !c.known || c.index <= g.since || !s.isMember(g.self) {
		return false
	}
	if _, heard := c.of(g.self); heard {
		return false
	}
	if c.said {
		return now-c.saidAt >= g.o.Patience
	}
	return slices.ContainsFunc(c.statements, func(st statement) bool { return st.hash != c.ours && s.isMember(st.from) })
}

// isDisputed reports whether two present members have stated different hashes.
func (c *check) isDisputed(s *Standing) bool {
	first := -1
	for i, st := range c.statements {
		switch {
		case first >= 0 && st.hash == c.statements[first].hash || !s.isMember(st.from):
		case first < 0:
			first = i
		default:
			return true
		}
	}
	return false
}

// judge says what a dispute has come to.
func (c *check) judge(s *Standing) Verdict {
	v := Verdict{Index: c.index}
	quorum, most, silent := len(s.Voters)/2+1, 0, 0
	for _, id := range s.Voters {
		hash, ok := c.of(id)
		if !ok {
			silent++
			continue
		}
		votes := c.votes(hash, s)
		if most = max(most, votes); votes >= quorum {
			v.Decided, v.Right = true, hash
		}
	}
	for _, ids := range [][]uint64{s.Voters, s.Learners} {
		for _, id := range ids {
			switch hash, ok := c.of(id); {
			case !ok:
				v.Unchecked = append(v.Unchecked, id)
			case v.Decided && hash != v.Right:
				v.Corrupt = append(v.Corrupt, id)
			}
		}
	}
	if !v.Decided && most+silent < quorum {
		v.Corrupt = []uint64{0}
	}
	slices.Sort(v.Corrupt)
	slices.Sort(v.Unchecked)
	return v
}

// votes is how many voters have stated a hash.
func (c *check) votes(hash uint64, s *Standing) (n int) {
	for _, st := range c.statements {
		if st.hash == hash && slices.Contains(s.Voters, st.from) {
			n++
		}
	}
	return n
}

// settled reports whether a dispute has led to all that it can lead to.
func settled(v *Verdict, s *Standing) bool {
	return len(v.Corrupt) > 0 && !slices.ContainsFunc(v.Corrupt, func(id uint64) bool { return !slices.Contains(s.Alarmed, id) })
}

// learn notices that the verdict is about this member.
func (g *Integrity) learn(c *check, v *Verdict) {
	if g.corrupt == nil && slices.Contains(v.Corrupt, g.self) {
		ours, _ := c.of(g.self)
		g.corrupt = &Corruption{Index: c.index, Ours: ours, Right: v.Right}
	}
}

// raise calls for alarms, as the leader: once because of each check, and not while there is one. What was stated before
// this member began to lead is for its own first check to find again: a member may have been healed since, and the alarm
// been cleared.
func (g *Integrity) raise(c *check, v *Verdict, now time.Duration, s *Standing) (propose []command.Op) {
	if g.first == 0 || c.index < g.first {
		return nil
	}
	for _, id := range v.Corrupt {
		if slices.Contains(c.charged, id) {
			continue
		}
		c.charged = append(c.charged, id)
		if slices.Contains(s.Alarmed, id) || slices.ContainsFunc(g.raised, func(r charge) bool { return r.member == id }) {
			continue
		}
		g.raised = append(g.raised, charge{id, now})
		propose = append(propose, &command.Alarm{Member: id, Type: int32(alarm.Corrupt), Raise: true})
	}
	return propose
}

// isNews reports whether a verdict is to be returned: it is complete, or never will be, and says something new.
func (c *check) isNews(v *Verdict, overdue bool) bool {
	if c.verdict == nil {
		if len(v.Unchecked) > 0 && !overdue {
			return false
		}
	} else if c.verdict.Decided == v.Decided && slices.Equal(c.verdict.Corrupt, v.Corrupt) {
		return false
	}
	c.verdict = v
	return true
}
