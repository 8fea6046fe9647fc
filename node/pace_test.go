package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/command"
	"keelson/env"
	"keelson/replica"
)

// said renders a word to a leader: to whom, in which term, from where on it is behind.
func said(m *raftpb.Message) string {
	if m == nil {
		return ""
	}
	p := newPace(env.SystemClock())
	p.hear(m, m.GetTerm(), 1)
	applied := uint64(0)
	for _, s := range p.members {
		applied = s.applied
	}
	return fmt.Sprintf("%x to %x in %d: %d", m.GetFrom(), m.GetTo(), m.GetTerm(), applied)
}

func TestFollowerSaysThatItIsBehind(t *testing.T) {
	const ms = time.Millisecond
	follower := replica.Status{ID: 2, Role: raft.StateFollower, Leader: 1, Term: 5, Applied: 70}
	with := func(change func(*replica.Status)) replica.Status {
		s := follower
		change(&s)
		return s
	}
	var b backlog
	check := func(now time.Duration, s replica.Status, want string) {
		t.Helper()
		m := b.word(now, s)
		if got := said(m); got != want {
			t.Errorf("at %v: said %q, want %q", now, got, want)
		}
		if m != nil && (!isBehindMessage(m) || len(m.Entries) > 0) {
			t.Errorf("at %v: said %v", now, m)
		}
	}
	check(0, follower, "")
	b.begun(9 * ms)
	check(9*ms+behindAfter, follower, "") // it does not wait: it is carried out
	b.begun(10 * ms)
	b.begun(12 * ms)
	check(10*ms+behindAfter-1, follower, "")
	b.done() // the one that waits has waited since 12 ms
	check(12*ms+behindAfter-1, follower, "")
	check(12*ms+behindAfter, follower, "2 to 1 in 5: 70")
	check(12*ms+behindAfter+behindAgain-1, follower, "")
	check(12*ms+behindAfter+behindAgain, with(func(s *replica.Status) { s.Applied = 75 }), "2 to 1 in 5: 75")
	b.done()
	check(40*ms, follower, "2 to 1 in 5: 0")
	check(80*ms, follower, "") // once
	b.done()

	b.begun(90 * ms)
	b.begun(100 * ms)
	at := 100*ms + behindAfter
	check(at, follower, "2 to 1 in 5: 70")
	check(at+1, with(func(s *replica.Status) { s.Leader, s.Term = 3, 6 }), "2 to 3 in 6: 70")
	check(at+2, with(func(s *replica.Status) { s.Leader, s.Term = 0, 7 }), "")
	check(at+3, with(func(s *replica.Status) { s.Leader, s.Term = 3, 7 }), "2 to 3 in 7: 70")
	check(at+4, with(func(s *replica.Status) { s.Leader, s.Term = 2, 8 }), "") // it leads
	check(at+5, with(func(s *replica.Status) { s.Term, s.Learner = 9, true }), "")
	b.done()
	check(at+6, with(func(s *replica.Status) { s.Term = 9 }), "") // who leads now was told nothing
}

// stopwatch is a clock that stands still, with timers that never fire.
type stopwatch struct{ env.Clock }

func (stopwatch) Monotonic() time.Duration           { return 0 }
func (stopwatch) NewTimer(d time.Duration) env.Timer { return newBeatClock().NewTimer(d) }

// waitsAfter is how a pace that has committed up to an index decides at a moment.
func (p *pace) waitsAfter(now time.Duration, committed uint64) bool {
	p.look(now, committed)
	return p.waits
}

func TestLeaderWaitsForWhoIsBehind(t *testing.T) {
	p := newPace(stopwatch{})
	now := time.Second
	check := func(committed uint64, want bool) {
		t.Helper()
		if got := p.waitsAfter(now, committed); got != want {
			t.Errorf("at %v: waits %t, want %t", now, got, want)
		}
		if p.waits && !p.timer.(*beatClock).runs.Load() {
			t.Errorf("at %v: waits, and nothing will wake it", now)
		}
	}
	hear := func(from, applied, term uint64) {
		p.hear(behindMessage(replica.Status{ID: from, Leader: 1, Term: term}, applied), 5, now)
	}
	check(100, false)
	hear(2, 90, 5)
	check(100, true)
	hear(2, 0, 5)
	check(100, false)

	hear(2, 90, 4) // of an earlier term
	check(100, false)
	p.hear(&raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(2)), Term: new(uint64(5)), Context: []byte{0x80}}, 5, now)
	check(100, false) // no number

	hear(2, 90, 5)
	hear(3, 95, 5)
	check(100, true)
	hear(2, 0, 5)
	check(100, true) // for the other one
	hear(3, 0, 5)
	check(100, false)

	hear(2, 90, 5)
	now += behindFor - 1
	check(100, true)
	now++
	check(100, false) // nothing was heard since

	now += time.Second
	hear(2, 90, 5)
	check(90+farBehind-1, true)
	check(90+farBehind, false)

	p.note(1, 90, now) // the leader itself
	check(100, true)
	p.rest()
	if p.waits {
		t.Error("a leader of nobody waits")
	}
	check(100, false)
}

// TestWaitsAreBounded has members be behind all the time from different moments on.
func TestWaitsAreBounded(t *testing.T) {
	const step, all = time.Millisecond / 2, 20 * time.Second
	for _, c := range []struct {
		members int
		apart   time.Duration
		longest time.Duration // wait, at least
		least   float64       // share of the time
		most    float64
	}{
		{members: 1, longest: creditMax, least: 0.15, most: 0.21},
		{members: 3, longest: creditMax, least: 0.15, most: 0.21},
		{members: 3, apart: 5500 * time.Microsecond, least: 0.15, most: 0.51},
		{members: 5, apart: 5500 * time.Microsecond, least: 0.15, most: 0.51},
		{members: 5, apart: 105 * time.Millisecond, least: 0.15, most: 0.51},
		{members: 7, apart: 105 * time.Millisecond, least: 0.15, most: 0.51},
	} {
		t.Run(fmt.Sprintf("%d members, %v apart", c.members, c.apart), func(t *testing.T) {
			p := newPace(stopwatch{})
			p.look(0, 0)
			var total, longest, current time.Duration
			for now := time.Duration(0); now < all; now += step {
				for id := range c.members {
					if now >= time.Duration(id)*c.apart {
						p.note(uint64(id+1), 50, now)
					}
				}
				if p.waitsAfter(now, 100) {
					total += step
					current += step
				} else {
					current = 0
				}
				longest = max(longest, current)
			}
			if longest > creditMax+step || longest < c.longest {
				t.Errorf("waited for %v at once, from %v to %v is wanted", longest, c.longest, creditMax)
			}
			if share := total.Seconds() / all.Seconds(); share < c.least || share > c.most {
				t.Errorf("waited for %.3f of the time", share)
			}
			if got := time.Duration(p.waited.Load()); got < total-2*step || got > total+2*step {
				t.Errorf("counted %v of %v", got, total)
			}
		})
	}
}

// TestEachMemberHasItsOwnCredit has one member use up its own, after which the leader waits for another one.
func TestEachMemberHasItsOwnCredit(t *testing.T) {
	const step = time.Millisecond
	p := newPace(stopwatch{})
	now := time.Second
	p.look(now, 0)
	for range 2 * creditMax / step {
		now += step
		p.note(2, 50, now)
		p.look(now, 100)
	}
	p.note(2, 0, now)
	if p.waitsAfter(now, 100) {
		t.Fatal("waits for nobody")
	}
	now += creditLeast // into the leader's own
	p.note(2, 50, now)
	if p.waitsAfter(now, 100) {
		t.Fatal("waits for a member whose credit is used up")
	}
	p.note(3, 50, now)
	if !p.waitsAfter(now, 100) {
		t.Error("does not wait for the second member")
	}
}

func TestProposalsAreSetAside(t *testing.T) {
	message := func(kind raftpb.MessageType, from uint64) replica.Event {
		return replica.Message{Message: &raftpb.Message{Type: kind.Enum(), From: new(from)}}
	}
	p := newPace(stopwatch{})
	kinds := func(events []replica.Event) (all []string) {
		for _, ev := range events {
			if m, ok := ev.(replica.Message); ok {
				all = append(all, fmt.Sprintf("%v%d", m.GetType(), m.GetFrom()))
			} else {
				all = append(all, fmt.Sprintf("%T", ev))
			}
		}
		return all
	}
	check := func(events []replica.Event, want ...string) {
		t.Helper()
		if got := kinds(p.admit([]replica.Event{replica.Tick{}}, events)); !slices.Equal(got, append([]string{"replica.Tick"}, want...)) {
			t.Errorf("admitted %v, want %v", got, want)
		}
	}
	prop, resp := raftpb.MsgProp, raftpb.MsgAppResp
	word := replica.Message{Message: behindMessage(replica.Status{ID: 2, Leader: 1, Term: 5}, 7)}
	check([]replica.Event{message(prop, 2), word, message(resp, 2)}, "MsgProp2", "MsgAppResp2")
	p.waits = true
	check([]replica.Event{message(resp, 3), message(prop, 2), message(prop, 3), word, replica.AppendDone{}}, "MsgAppResp3", "replica.AppendDone")
	check([]replica.Event{message(prop, 4)})
	p.waits = false
	check([]replica.Event{message(prop, 5), message(resp, 4)}, "MsgProp2", "MsgProp3", "MsgProp4", "MsgProp5", "MsgAppResp4")
	check(nil)
}

// holdApplier has the member apply nothing until release is called.
func (r *rig) holdApplier() (release func()) {
	released, taken := make(chan struct{}), make(chan struct{})
	var holder sync.WaitGroup
	holder.Go(func() {
		r.node.applier.turn.take(func() {
			close(taken)
			<-released
		})
	})
	<-taken
	return func() {
		close(released)
		holder.Wait()
	}
}

// TestClusterWaitsForAMember has a member not apply for a time while clients of all members write: the leader waits for it, but not for
// long, and nothing is lost.
func TestClusterWaitsForAMember(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprintf("leader=%t", leads), func(t *testing.T) {
			c := newCalmTrio(t)
			leader := c.leader()
			held := leader
			if !leads {
				held = (leader + 1) % len(c.rigs)
			}
			through := []int{0, 1, 2}
			others := slices.DeleteFunc(slices.Clone(through), func(i int) bool { return i == held || i == leader && leads })
			c.write(through, func() {
				release := c.rigs[held].holdApplier()
				until(func() bool { return c.rigs[leader].node.Waited() > 0 })
				for _, i := range others { // all others go on while it does not
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					if _, err := c.rigs[i].node.Propose(ctx, &command.Put{Key: []byte("k"), Value: []byte("v")}); err != nil {
						t.Errorf("through %d: %v", i, err)
					}
					cancel()
				}
				release()
			})
		})
	}
}

// TestFollowerSaysSoAgain has a follower be behind to whom nothing else happens, not even a heartbeat: its leader hears of it all the time.
func TestFollowerSaysSoAgain(t *testing.T) {
	c := newTrioWith(t, func(o *Options) { o.Heartbeat, o.Election = time.Hour, 10*time.Hour })
	c.rigs[0].node.tell(replica.Campaign{})
	leader := c.leader()
	held := (leader + 1) % len(c.rigs)
	release := c.rigs[held].holdApplier()
	for i := range 3 { // more than one has to wait
		c.rigs[leader].propose(&command.Put{Key: []byte("k"), Value: fmt.Append(nil, i)})
	}
	heard := map[time.Duration]bool{}
	until(func() bool {
		m := c.rigs[leader].node.mover
		m.turn.take(func() {
			if s := m.pace.members[c.rigs[held].id]; s != nil && s.applied != 0 {
				heard[s.at] = true
			}
		})
		return len(heard) == 10
	})
	release()
}
