package leader

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keelson/command"
	"keelson/state"
	"keelson/state/alarm"
)

func fixed() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

// Whoever is corrupt, the leader included: a quorum decides, each culprit is named once and knows of it, nobody else is,
// and without a quorum it is member 0.
func TestIntegrityEverySubset(t *testing.T) {
	for _, members := range []int{2, 3, 5} {
		for subset := range 1 << members {
			for leads := range members {
				h := newHall(t, fmt.Sprintf("%d members, corrupt %b, %d leads", members, subset, leads+1), fixed(), members)
				h.elect(uint64(leads + 1))
				var want, confessed []uint64
				for i := range members {
					if subset>>i&1 == 1 {
						h.spoil(uint64(i+1), uint64(i+1))
						want = append(want, uint64(i+1))
					}
				}
				switch healthy := members - len(want); {
				case healthy >= members/2+1:
					confessed = want
				case len(want) > 0:
					want = []uint64{0}
				}
				h.write()
				h.pass(5 * time.Second)
				slices.Sort(h.raised)
				if !slices.Equal(h.raised, want) || !slices.Equal(h.confessed(), confessed) {
					h.failf("alarms for %d, want %d; %d know of it", h.raised, want, h.confessed())
				}
				h.allSpoke(want)
				h.pass(integrityPatienceDefault)
				h.write()
				h.pass(2 * time.Second)
				if len(h.raised) != len(want) {
					h.failf("alarms for %d, though all were raised", h.raised)
				}
			}
		}
	}
}

// allSpoke checks that in a dispute every member comes to the same verdict, by statements of all members.
func (h *hall) allSpoke(corrupt []uint64) {
	if len(corrupt) == 0 && len(h.verdicts) > 0 || len(corrupt) > 0 && len(h.verdicts)%len(h.seats) != 0 {
		h.failf("verdicts %+v", h.verdicts)
	}
	for _, v := range h.verdicts {
		if !slices.Equal(v.Corrupt, corrupt) || len(v.Unchecked) > 0 || v.Decided != (corrupt[0] != 0) || v.Decided && v.Right != truth(v.Index) {
			h.failf("verdict %+v", v)
		}
	}
}

// Members that are corrupt in the same way are found like any other, as long as they are the fewer.
func TestIntegritySameCorruption(t *testing.T) {
	h := newHall(t, "two of five", fixed(), 5)
	h.spoil(1, 7)
	h.spoil(4, 7)
	h.write()
	h.pass(5 * time.Second)
	slices.Sort(h.raised)
	if !slices.Equal(h.raised, []uint64{1, 4}) {
		h.failf("alarms for %d", h.raised)
	}
}

// An idle cluster writes nothing but once in a term; a member that is alone compares with nobody.
func TestIntegrityQuiet(t *testing.T) {
	for members, want := range map[int]int{1: 0, 2: 1, 3: 1} {
		h := newHall(t, fmt.Sprint(members), fixed(), members)
		h.write()
		h.pass(time.Minute)
		if h.statements() != want {
			h.failf("%d statements, want %d", h.statements(), want)
		}
		for range 5 {
			h.write()
			h.pass(time.Minute)
		}
		if h.statements() != want*6 {
			h.failf("%d statements after 5 writes", h.statements())
		}
		h.elect(1)
		h.pass(time.Minute)
		if h.statements() != want*7 {
			h.failf("%d statements after a second term", h.statements())
		}
	}
}

// What is lost is said again; a second saying is none if the first one only took its time.
func TestIntegrityLostStatements(t *testing.T) {
	h := newHall(t, "lost", fixed(), 3)
	h.spoil(2, 2)
	h.write()
	h.lossPct = 100
	h.pass(integrityPatienceDefault / 2)
	if h.lossPct = 0; h.statements() > 0 {
		h.failf("%d statements", h.statements())
	}
	h.pass(integrityPatienceDefault)
	if !slices.Equal(h.raised, []uint64{2}) {
		h.failf("alarms for %d", h.raised)
	}
}

// Two of three can tell that they differ, and not who is right. Who is down is unchecked; when it is back it decides.
func TestIntegrityUnchecked(t *testing.T) {
	h := newHall(t, "unchecked", fixed(), 3)
	h.spoil(1, 1)
	h.seats[3].down = true
	h.write()
	h.pass(25 * time.Second)
	if len(h.raised) > 0 || len(h.verdicts) != 4 {
		h.failf("alarms for %d, verdicts %+v", h.raised, h.verdicts)
	}
	for _, v := range h.verdicts {
		if v.Decided || len(v.Corrupt) > 0 || !slices.Equal(v.Unchecked, []uint64{3}) {
			h.failf("verdict %+v", v)
		}
	}
	h.seats[3].down = false
	h.pass(25 * time.Second)
	if !slices.Equal(h.raised, []uint64{1}) {
		h.failf("alarms for %d", h.raised)
	}
}

// A member that speaks late is judged all the same, and the verdict is told again.
func TestIntegrityLateStatement(t *testing.T) {
	h := newHall(t, "late", fixed(), 5)
	h.spoil(1, 1)
	h.spoil(5, 5)
	h.seats[5].down = true
	h.write()
	h.pass(integrityPatienceDefault + 3*time.Second)
	first := h.verdicts[0]
	if !slices.Equal(first.Corrupt, []uint64{1}) || !slices.Equal(first.Unchecked, []uint64{5}) {
		h.failf("verdict %+v", first)
	}
	h.seats[5].down = false
	h.pass(3 * time.Second)
	told := 0
	for _, v := range h.verdicts {
		if v.Index == first.Index && slices.Equal(v.Corrupt, []uint64{1, 5}) && len(v.Unchecked) == 0 {
			told++
		}
	}
	if told != len(h.seats) {
		h.failf("told %d times, verdicts %+v", told, h.verdicts)
	}
}

// A member has one vote, however often it speaks.
func TestIntegrityRepeatedStatements(t *testing.T) {
	g := NewIntegrity(1, 0, IntegrityOptions{})
	for _, f := range []state.HashCheck{{From: 2, Theirs: 1}, {From: 2, Theirs: 1}, {From: 2, Theirs: 3}, {From: 3, Theirs: 3}, {From: 2, Theirs: 1}} {
		f.Index = 10
		g.Observe([]state.HashCheck{f}, 20)
	}
	s := Standing{Index: 20, Voters: []uint64{1, 2, 3, 4, 5}}
	g.Tick(0, s)
	_, verdicts := g.Tick(integrityPatienceDefault, s)
	if len(verdicts) != 1 || verdicts[0].Decided || len(verdicts[0].Corrupt) > 0 || !slices.Equal(verdicts[0].Unchecked, []uint64{1, 4, 5}) {
		t.Errorf("verdicts %+v", verdicts)
	}
}

// When those who are down could not give any side a quorum, waiting for them is of no use.
func TestIntegrityHopeless(t *testing.T) {
	h := newHall(t, "hopeless", fixed(), 5)
	h.append(&command.MemberAdd{ID: 9, IsLearner: true})
	h.join(9)
	h.seats[9].down = true
	for id := range uint64(4) {
		h.spoil(id+1, id+1)
	}
	h.seats[5].down = true
	h.write()
	h.pass(5 * time.Second)
	if !slices.Equal(h.raised, []uint64{0}) {
		h.failf("alarms for %d", h.raised)
	}
}

// A leader that is gone before the verdict is replaced by one that begins anew.
func TestIntegrityLeaderChanges(t *testing.T) {
	h := newHall(t, "leaders", fixed(), 3)
	h.spoil(3, 3)
	h.write()
	h.delay = time.Second
	for h.statements() < 2 { // in dispute
		h.pass(100 * time.Millisecond)
	}
	h.elect(2)
	h.pass(10 * time.Second)
	if !slices.Equal(h.raised, []uint64{3}) || !slices.Equal(h.confessed(), []uint64{3}) {
		h.failf("alarms for %d, %d know of it", h.raised, h.confessed())
	}
}

// A learner is judged, and judges nobody.
func TestIntegrityLearner(t *testing.T) {
	h := newHall(t, "learner", fixed(), 3)
	h.append(&command.MemberAdd{ID: 9, IsLearner: true})
	h.join(9)
	h.spoil(9, 9)
	h.spoil(1, 1)
	h.seats[3].down = true
	h.write()
	h.pass(5 * time.Second)
	if len(h.raised) > 0 {
		h.failf("alarms for %d by two voters of three", h.raised)
	}
	h.seats[3].down = false
	h.pass(15 * time.Second)
	slices.Sort(h.raised)
	if !slices.Equal(h.raised, []uint64{1, 9}) {
		h.failf("alarms for %d", h.raised)
	}
}

// What a member has stated counts only as long as it is one, and nobody is accused who is not.
func TestIntegrityRemovedMember(t *testing.T) {
	h := newHall(t, "removed", fixed(), 3)
	h.spoil(3, 3)
	h.seats[2].down = true
	h.write()
	h.pass(3 * time.Second)
	if h.statements() != 2 {
		h.failf("%d statements", h.statements())
	}
	h.append(&command.MemberRemove{ID: 3})
	delete(h.seats, 3)
	h.seats[2].down = false
	h.pass(time.Minute)
	if len(h.raised) > 0 || len(h.verdicts) > 0 {
		h.failf("alarms for %d, verdicts %+v", h.raised, h.verdicts)
	}
}

// A member that was given a good state is in the clear, whatever the log says about its former one; and an alarm that
// was cleared is not raised because of what was said before, by a leader who reads it again.
func TestIntegrityHealed(t *testing.T) {
	for _, leads := range []uint64{1, 2} {
		h := newHall(t, fmt.Sprintf("healed, %d leads", leads), fixed(), 3)
		h.spoil(3, 3)
		h.write()
		h.pass(5 * time.Second)
		if !slices.Equal(h.raised, []uint64{3}) {
			h.failf("alarms for %d", h.raised)
		}
		h.install(h.seats[3], h.seats[1])
		h.append(&command.Alarm{Member: 3, Type: int32(alarm.Corrupt)})
		if leads != h.leads {
			h.restart(h.seats[leads], 4)
			h.elect(leads)
		}
		h.write()
		h.pass(time.Minute)
		if !slices.Equal(h.raised, []uint64{3}) || len(h.confessed()) > 0 {
			h.failf("alarms for %d, %d think they are corrupt", h.raised, h.confessed())
		}
	}
}

// An alarm that is cleared while its reason lasts comes back, without a write.
func TestIntegrityClearedTooEarly(t *testing.T) {
	h := newHall(t, "cleared", fixed(), 3)
	h.spoil(1, 1)
	h.write()
	h.pass(5 * time.Second)
	h.append(&command.Alarm{Member: 1, Type: int32(alarm.Corrupt)})
	h.pass(15 * time.Second)
	if !slices.Equal(h.raised, []uint64{1, 1}) {
		h.failf("alarms for %d", h.raised)
	}
}

// An alarm that gets lost is raised again.
func TestIntegrityLostAlarm(t *testing.T) {
	h := newHall(t, "lost alarm", fixed(), 3)
	h.spoil(2, 2)
	h.write()
	for len(h.raised) == 0 {
		h.pass(100 * time.Millisecond)
	}
	h.flights = nil
	h.pass(15 * time.Second)
	if !slices.Equal(h.raised, []uint64{2, 2}) || !slices.Equal(h.seats[1].hall.alarmed, []uint64{2}) {
		h.failf("alarms for %d, raised are %d", h.raised, h.seats[1].hall.alarmed)
	}
}

// A member that does not know its hash, or may have stated it in an earlier run, says nothing.
func TestIntegritySilent(t *testing.T) {
	standing := Standing{Index: 20, Hash: 5, Voters: []uint64{1, 2, 3}}
	for name, c := range map[string]struct {
		since, applied uint64
		f              state.HashCheck
		voters         []uint64
		says           bool
	}{
		"differs":       {0, 20, state.HashCheck{Index: 10, From: 2, Theirs: 1, Ours: 3, Known: true}, nil, true},
		"equal":         {0, 20, state.HashCheck{Index: 10, From: 2, Theirs: 3, Ours: 3, Known: true}, nil, false},
		"unknown":       {0, 20, state.HashCheck{Index: 10, From: 2, Theirs: 1}, nil, false},
		"earlier run":   {10, 20, state.HashCheck{Index: 10, From: 2, Theirs: 1, Ours: 3, Known: true}, nil, false},
		"no index yet":  {0, 10, state.HashCheck{Index: 10, From: 2, Theirs: 1, Ours: 3, Known: true}, nil, false},
		"by nobody":     {0, 20, state.HashCheck{Index: 10, From: 7, Theirs: 1, Ours: 3, Known: true}, nil, false},
		"its own":       {0, 20, state.HashCheck{Index: 10, From: 1, Theirs: 1, Ours: 3, Known: true}, nil, false},
		"not of us any": {0, 20, state.HashCheck{Index: 10, From: 2, Theirs: 1, Ours: 3, Known: true}, []uint64{2, 3}, false},
	} {
		g := NewIntegrity(1, c.since, IntegrityOptions{})
		g.Observe([]state.HashCheck{c.f}, c.applied)
		s := standing
		if c.voters != nil {
			s.Voters = c.voters
		}
		ops, _ := g.Tick(0, s)
		if again, _ := g.Tick(1, s); len(again) > 0 {
			t.Errorf("%s: said again at once", name)
		}
		if c.says != (len(ops) == 1) {
			t.Errorf("%s: %v", name, ops)
		} else if c.says && *ops[0].(*command.HashCheck) != (command.HashCheck{Index: 10, Hash: 3, From: 1}) {
			t.Errorf("%s: %+v", name, ops[0])
		}
	}
}

// However many checks come, few are remembered, and one that was forgotten does not come back.
func TestIntegrityForgets(t *testing.T) {
	g := NewIntegrity(1, 0, IntegrityOptions{})
	for i := range uint64(1000) {
		for from := range uint64(200) {
			g.Observe([]state.HashCheck{{Index: 1000 - i, From: from, Theirs: from, Ours: 500, Known: true}}, 2000)
		}
		g.Observe([]state.HashCheck{{Index: 1000 + i, From: 2, Theirs: 1, Ours: 500, Known: true}}, 3000)
	}
	if len(g.checks) != checksMax || g.floor != 1999-checksMax || len(g.checks[0].statements) > statementsMax {
		t.Fatalf("%d checks above %d", len(g.checks), g.floor)
	}
	s := Standing{Index: 3000, Voters: []uint64{1, 2, 3}}
	ops, _ := g.Tick(0, s)
	if len(ops) != checksMax {
		t.Errorf("%d statements", len(ops))
	}
	g.Observe([]state.HashCheck{{Index: g.floor, From: 2, Theirs: 1, Ours: 500, Known: true}}, 3000)
	if ops, _ := g.Tick(1, s); len(ops) > 0 {
		t.Errorf("%v about what was forgotten", ops)
	}
}
