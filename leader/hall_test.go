package leader

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keelson/command"
	"keelson/state"
	"keelson/state/alarm"
)

// hall is a cluster reduced to what Integrity sees of it: a log that is committed as it is written, members who apply it
// at their own pace, and proposals that take their time or get lost.
type hall struct {
	t    *testing.T
	name string
	r    *rand.Rand
	now  time.Duration

	log     []note // of index 1, 2, ...
	seats   map[uint64]*seat
	term    uint64
	leads   uint64 // 0: nobody
	elected uint64 // index of the first entry of the term
	flights []flight
	lossPct int
	delay   time.Duration // the longest

	raised   []uint64 // by each alarm that was proposed
	verdicts []Verdict
	stated   map[statedAt]saying // in proposals, by members of the present
	ever     map[uint64]bool     // who has been corrupt at some time
}

type statedAt struct{ from, index uint64 }

// saying is when a member stated something, and in which run.
type saying struct {
	at  time.Duration
	run *Integrity
}

// note is an entry: one of them, or nothing.
type note struct {
	write bool
	op    command.Op
}

type flight struct {
	op command.Op
	at time.Duration
}

// seat is one member.
type seat struct {
	id      uint64
	g       *Integrity
	down    bool
	applied uint64
	changed uint64
	ring    uint64 // its own hashes are known from here on
	hall    config // as of applied

	corruptFrom, mark uint64 // from this entry on its hash is another; 0: it is healthy
}

// config is what the log says about the membership and alarms.
type config struct{ voters, learners, alarmed []uint64 }

func newHall(t *testing.T, name string, r *rand.Rand, members int) *hall {
	h := &hall{t: t, name: name, r: r, seats: map[uint64]*seat{}, stated: map[statedAt]saying{}, ever: map[uint64]bool{}}
	for i := range members {
		h.append(&command.MemberAdd{ID: uint64(i + 1)})
	}
	for i := range members {
		h.join(uint64(i + 1))
	}
	h.elect(1)
	return h
}

func (h *hall) failf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s, at %v: %s", h.name, h.now, fmt.Sprintf(format, args...))
}

func (h *hall) last() uint64 { return uint64(len(h.log)) }

func (h *hall) append(op command.Op) {
	_, isCheck := op.(*command.HashCheck)
	h.log = append(h.log, note{write: op != nil && !isCheck, op: op})
}

func (h *hall) write() { h.append(&command.Noop{}) }

// join gives a seat to a member that knows everything there is.
func (h *hall) join(id uint64) {
	at := h.last()
	h.seats[id] = &seat{
		id: id, g: NewIntegrity(id, at, IntegrityOptions{}),
		applied: at, changed: at, ring: at, hall: h.configAt(at),
	}
}

func (h *hall) configAt(index uint64) (c config) {
	for _, n := range h.log[:index] {
		c.apply(n.op)
	}
	return c
}

func without(ids []uint64, id uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(ids), func(other uint64) bool { return other == id })
}

func with(ids []uint64, id uint64) []uint64 { return append(without(ids, id), id) }

func (c *config) apply(op command.Op) {
	switch o := op.(type) {
	case *command.MemberAdd:
		if o.IsLearner {
			c.learners = with(c.learners, o.ID)
		} else {
			c.voters = with(c.voters, o.ID)
		}
	case *command.MemberRemove:
		c.voters, c.learners = without(c.voters, o.ID), without(c.learners, o.ID)
	case *command.MemberPromote:
		c.voters, c.learners = with(c.voters, o.ID), without(c.learners, o.ID)
	case *command.Alarm:
		if c.alarmed = without(c.alarmed, o.Member); o.Raise {
			c.alarmed = with(c.alarmed, o.Member)
		}
	}
}

// elect begins a new term. 0: one without a leader.
func (h *hall) elect(id uint64) {
	h.term++
	h.leads = id
	if id != 0 {
		h.append(nil)
		h.elected = h.last()
	}
}

func truth(index uint64) uint64 { return index * 0x9E3779B97F4A7C15 }

func (s *seat) hash(index uint64) uint64 {
	if s.corruptFrom != 0 && index >= s.corruptFrom {
		return truth(index) ^ s.mark
	}
	return truth(index)
}

// spoil makes a member's state differ, from its next entry on. Two with the same mark have the same state.
func (h *hall) spoil(id, mark uint64) {
	s := h.seats[id]
	if s.corruptFrom == 0 {
		s.corruptFrom, s.mark = s.applied+1, mark
	}
	h.ever[id] = true
}

// ringSize is short, so that it matters.
const ringSize = 60

// apply lets a member apply up to so many entries as one run.
func (h *hall) apply(s *seat, entries uint64) {
	to := min(s.applied+entries, h.last())
	if s.down || to == s.applied {
		return
	}
	var found []state.HashCheck
	for s.applied < to {
		s.applied++
		n := h.log[s.applied-1]
		s.hall.apply(n.op)
		if n.write {
			s.changed = to
		}
		if c, ok := n.op.(*command.HashCheck); ok {
			f := state.HashCheck{Index: c.Index, From: c.From, Theirs: c.Hash}
			if c.Index >= s.ring && c.Index+ringSize > s.applied {
				f.Ours, f.Known = s.hash(c.Index), true
			}
			found = append(found, f)
		}
	}
	s.g.Observe(found, s.applied)
}

// tick tells a member the time and sends off what it proposes.
func (h *hall) tick(s *seat) {
	if s.down {
		return
	}
	standing := Standing{
		Index: s.applied, Hash: s.hash(s.applied), Changed: s.changed,
		Voters: s.hall.voters, Learners: s.hall.learners, Alarmed: s.hall.alarmed,
	}
	if h.leads == s.id && s.applied >= h.elected {
		standing.Term = h.term
	}
	ops, verdicts := s.g.Tick(h.now, standing)
	for _, op := range ops {
		h.check(s, op, standing.Term)
		if h.r.IntN(100) >= h.lossPct {
			h.flights = append(h.flights, flight{op, h.now + time.Duration(h.r.Int64N(int64(h.delay+1)))})
		}
	}
	h.verdicts = append(h.verdicts, verdicts...)
	for _, v := range verdicts {
		for _, id := range v.Corrupt {
			if id != 0 && !h.ever[id] {
				h.failf("%d finds that %d, which is healthy, is corrupt: %+v", s.id, id, v)
			}
		}
	}
	if c, ok := s.g.Corrupt(); ok && (!h.ever[s.id] || c.Ours == c.Right || c.Right != truth(c.Index)) {
		h.failf("%d thinks that it is corrupt: %+v", s.id, c)
	}
	if len(s.g.checks) > checksMax || len(s.g.raised) > len(h.seats)+1 {
		h.failf("%d remembers %d checks, %d alarms", s.id, len(s.g.checks), len(s.g.raised))
	}
}

// check is what must hold for everything that is proposed.
func (h *hall) check(s *seat, op command.Op, term uint64) {
	switch o := op.(type) {
	case *command.HashCheck:
		if o.From != s.id || o.Hash != s.hash(o.Index) || o.Index < s.ring {
			h.failf("%d states %+v", s.id, o)
		}
		at := statedAt{o.From, o.Index}
		if before, ok := h.stated[at]; ok && (before.run != s.g || h.now-before.at < integrityPatienceDefault || h.heard(s, at)) {
			h.failf("%d has stated its hash at %d twice", s.id, o.Index)
		}
		h.stated[at] = saying{h.now, s.g}
	case *command.Alarm:
		h.raised = append(h.raised, o.Member)
		if term == 0 || !o.Raise || o.Type != int32(alarm.Corrupt) {
			h.failf("%d proposes %+v in term %d", s.id, o, term)
		}
		if o.Member == 0 && len(h.ever) == 0 || o.Member != 0 && !h.ever[o.Member] {
			h.failf("false alarm of %d for %d", s.id, o.Member)
		}
	default:
		h.failf("%d proposes %T", s.id, op)
	}
}

// heard reports whether a member has seen that a statement is in the log.
func (h *hall) heard(s *seat, at statedAt) bool {
	return slices.ContainsFunc(h.log[:s.applied], func(n note) bool {
		c, ok := n.op.(*command.HashCheck)
		return ok && c.From == at.from && c.Index == at.index
	})
}

// land puts what has arrived into the log.
func (h *hall) land() {
	if h.leads == 0 {
		return
	}
	h.flights = slices.DeleteFunc(h.flights, func(f flight) bool {
		if f.at <= h.now {
			h.append(f.op)
			return true
		}
		return false
	})
}

// each calls f for all members, in an order that the seed draws.
func (h *hall) each(f func(*seat)) {
	ids := slices.Sorted(maps.Keys(h.seats))
	h.r.Shuffle(len(ids), func(i, k int) { ids[i], ids[k] = ids[k], ids[i] })
	for _, id := range ids {
		f(h.seats[id])
	}
}

// pass lets time go by without faults: everybody applies everything at once.
func (h *hall) pass(d time.Duration) {
	for end := h.now + d; h.now < end; h.now += 100 * time.Millisecond {
		h.land()
		h.each(func(s *seat) { h.apply(s, h.last()) })
		h.each(h.tick)
	}
}

// restart ends a member's run and begins another, from an earlier state on disk.
func (h *hall) restart(s *seat, durable uint64) {
	s.g = NewIntegrity(s.id, h.last(), IntegrityOptions{})
	s.applied, s.changed, s.ring, s.hall = durable, durable, durable, h.configAt(durable)
}

// install gives a member the state of another.
func (h *hall) install(s, from *seat) {
	s.applied, s.changed, s.ring, s.hall = from.applied, from.applied, from.applied, h.configAt(from.applied)
	s.corruptFrom, s.mark = from.corruptFrom, from.mark
	s.g.Installed(s.applied)
}

// statements counts those in the log.
func (h *hall) statements() (n int) {
	for _, e := range h.log {
		if _, ok := e.op.(*command.HashCheck); ok {
			n++
		}
	}
	return n
}

func (h *hall) corruptNow() (ids []uint64) {
	for _, id := range slices.Sorted(maps.Keys(h.seats)) {
		if h.seats[id].corruptFrom != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// confessed are the members who know that they are corrupt.
func (h *hall) confessed() (ids []uint64) {
	for _, id := range slices.Sorted(maps.Keys(h.seats)) {
		if _, ok := h.seats[id].g.Corrupt(); ok {
			ids = append(ids, id)
		}
	}
	return ids
}
