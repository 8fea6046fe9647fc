package replica_test

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

func removal(id uint64) *raftpb.ConfChangeV2 {
	return &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(id)}}}
}

// M6: the leader of two is removed, knows it, and ends: the last message that would have told the other one is lost. The
// other one must not wait for the vote of a member that is no more. It asks for the removal itself, or the leader does.
func TestM6TheOtherOneOfTwoGoesOn(t *testing.T) {
	for _, asks := range []uint64{1, 2} {
		t.Run(fmt.Sprint(asks), func(t *testing.T) {
			c := newCluster(t, 2, 0, nil)
			c.startAll()
			l, other := c.elect(1), c.member(2)
			c.member(asks).step(replica.ProposeConfChange{ID: 1, Change: removal(1)})
			for steps := 0; ; steps++ {
				if steps > 1000 {
					t.Fatal("the leader is never removed")
				}
				if l.settleLocally(); len(l.state.conf.GetVoters()) == 1 {
					break
				}
				other.settleLocally()
				switch {
				case len(c.network) > 0:
					c.deliver(0)
				case steps%10 == 0:
					other.step(replica.Tick{})
					l.step(replica.Tick{})
				}
			}
			l.crash(0)
			c.network = nil
			for range 100 {
				other.step(replica.Tick{})
				c.settle()
			}
			if st := other.r.Status(); !st.Lone || st.Leader != other.id {
				t.Errorf("the other one does not lead alone: %+v", st)
			}
		})
	}
}

// M6, the other way round: of two, the one that follows is removed, knows it, and ends. The leader crashes, and what it knew
// of the commitment was only in memory. It must not wait for the vote of a member that is no more.
func TestM6TheLeaderOfTwoComesBackAlone(t *testing.T) {
	for _, ticking := range []bool{false, true} {
		c := newCluster(t, 2, 0, nil)
		c.startAll()
		l, other := c.elect(1), c.member(2)
		l.step(replica.ProposeConfChange{ID: 1, Change: removal(2)})
		for steps := 0; ; steps++ {
			if steps > 1000 {
				t.Fatal("the other one is never removed")
			}
			if other.settleLocally(); len(other.state.conf.GetVoters()) == 1 {
				break
			}
			switch {
			case len(c.network) > 0:
				c.deliver(0)
			case len(l.appends) > 0:
				l.appendNext()
			case ticking || steps%10 == 0:
				l.step(replica.Tick{})
			case len(l.applies) > 0:
				l.applyNext()
			}
		}
		other.crash(0)
		l.crash(0)
		c.network = nil
		l.start()
		for range 100 {
			l.step(replica.Tick{})
			c.settle()
		}
		if st := l.r.Status(); !st.Lone || st.Leader != l.id {
			t.Errorf("the former leader does not lead alone: %+v", st)
		}
	}
}

// M6, a third way: of two, the one that leads puts the other one's removal into the log, and then the other one comes to lead,
// commits it, and ends as soon as it is applied, or crashes first and ends when it is back. The one that remains must not wait
// for the vote of a member that is no more.
func TestM6ARemovalIsCommittedByWhomItRemoves(t *testing.T) {
	for _, crashes := range []bool{false, true} {
		t.Run(fmt.Sprint("crashes ", crashes), func(t *testing.T) {
			c := newCluster(t, 2, 0, nil)
			c.startAll()
			remains := c.elect(2)
			goes := c.member(1)
			remains.step(replica.ProposeConfChange{ID: 1, Change: removal(1)})
			for goes.r.Status().LastIndex < remains.r.Status().LastIndex {
				remains.settleLocally()
				goes.settleLocally()
				c.deliver(0)
			}
			goes.settleLocally()
			for remains.r.Status().Role == raft.StateLeader { // it does not hear that there is a quorum, and gives up
				remains.step(replica.Tick{})
				c.network = nil
			}
			goes.step(replica.Campaign{})
			led, parting := false, false
			for steps := 0; ; steps++ {
				if steps > 1000 {
					t.Fatal("the one that was removed never hears of it")
				}
				parting = parting || goes.r.Status().Parting > 0
				for len(goes.appends) > 0 {
					goes.appendNext()
				}
				if st := goes.r.Status(); st.Role == raft.StateLeader && st.Committed == st.LastIndex && !led {
					led = true
					if crashes {
						goes.crash(0)
						c.network = nil
						goes.start()
					}
				}
				if goes.settleLocally(); len(goes.state.conf.GetVoters()) == 1 {
					break
				}
				remains.settleLocally()
				switch {
				case len(c.network) > 0:
					c.deliver(0)
				case steps%10 == 0:
					remains.step(replica.Tick{})
					goes.step(replica.Tick{})
				}
			}
			if !led || !parting || goes.r.Status().Parting > 0 {
				t.Errorf("the one that was removed has committed it: %v, known of it before it was told: %v", led, parting)
			}
			goes.crash(0)
			c.network = nil
			for range 100 {
				remains.step(replica.Tick{})
				c.settle()
			}
			if st := remains.r.Status(); !st.Lone || st.Leader != remains.id {
				t.Errorf("the one that remains does not lead alone: %+v", st)
			}
		})
	}
}

// Each voter's removal is committed and refused, and all crash before a store has flushed any of it. Nobody waits then to be told
// of a removal of its own by others who do the same: one of them leads.
func TestRefusedRemovalsHoldUpNobody(t *testing.T) {
	for _, voters := range []int{2, 3} {
		t.Run(fmt.Sprint(voters), func(t *testing.T) {
			c := newCluster(t, voters, 0, nil)
			for _, m := range c.members {
				m.refuse = func(*raftpb.ConfState) bool { return true }
			}
			c.startAll()
			c.elect(1)
			for i := range c.members {
				asks := c.members[(i+1)%voters]
				asks.step(replica.ProposeConfChange{ID: 1, Change: removal(c.members[i].id)})
				for n := 0; asks.r.Status().Pending > 0; n++ {
					if n > 100 {
						t.Fatalf("member %d has no answer: %+v", asks.id, asks.r.Status())
					}
					for _, m := range c.members {
						m.step(replica.Tick{})
					}
					c.settle()
				}
			}
			for _, m := range c.members {
				if len(m.state.conf.GetVoters()) != voters {
					t.Fatalf("removed after all: %v", m.state.conf)
				}
				m.step(replica.Tick{})
				c.settle()
			}
			for _, m := range c.members {
				m.crash(0)
			}
			c.network = nil
			c.startAll()
			for range 100 {
				for _, m := range c.members {
					m.step(replica.Tick{})
				}
				c.settle()
			}
			for _, m := range c.members {
				if st := m.r.Status(); st.Leader == 0 || st.Applied != st.LastIndex {
					t.Errorf("nobody leads: %+v", st)
				}
			}
		})
	}
}

// Who is the only voter can't give leadership to anybody: what removes it is for the machine to refuse.
func TestTheLastVotersRemovalIsNotHeldBack(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	c.startAll()
	l := c.member(1)
	c.settle()
	before := l.state.applied
	l.step(replica.ProposeConfChange{ID: 1, Change: removal(1)})
	c.settle()
	if l.state.applied == before || len(l.state.conf.GetVoters()) != 1 || l.r.Status().Pending != 0 {
		t.Errorf("applied %d, then %d, with %v", before, l.state.applied, l.state.conf)
	}
}

// As long as nobody can take over, the removal waits. Then it is done, and what was proposed behind it.
func TestRemovalOfALeaderWaitsForASuccessor(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l := c.elect(1)
	deaf := func(ticks int) { // nobody hears anything
		for range ticks {
			l.step(replica.Tick{})
			l.settleLocally()
			c.network = nil
		}
	}
	deaf(11) // the others count as away from now on; soon it would not lead any more
	l.step(replica.ProposeConfChange{ID: 1, Change: removal(1)}, replica.Propose{ID: 2, Data: []byte("x")})
	deaf(1)
	if last := l.r.Status().LastIndex; l.r.Status().Role != raft.StateLeader || last != 3 {
		t.Errorf("the leader's log ends at %d: %+v", last, l.r.Status())
	}
	for range 100 {
		for _, m := range c.members {
			m.step(replica.Tick{})
		}
		c.settle()
	}
	for _, m := range c.members[1:] {
		if len(m.data()) != 1 || len(m.state.conf.GetVoters()) != 2 {
			t.Errorf("member %d has %q with %v", m.id, m.data(), m.state.conf)
		}
	}
}

// What raft hands out at once is applied in pieces. The log may be cut off up to each of them: raft must not look there again,
// as it does before it campaigns.
func TestTheLogIsCutBetweenPiecesOfAnApply(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l, late := c.elect(1), c.member(3)
	l.step(
		replica.Propose{ID: 1, Data: []byte("x")},
		replica.ProposeConfChange{ID: 2, Change: &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{
			{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(4))},
		}}},
		replica.Propose{ID: 3, Data: []byte("y")},
	)
	for steps := 0; len(late.applies) == 0; steps++ {
		if steps > 1000 {
			t.Fatal("nothing is committed")
		}
		l.settleLocally()
		c.member(2).settleLocally()
		for i := 0; i < len(c.network); { // the third member hears of it when all is committed
			if m := c.network[i]; m.GetTo() == 3 && l.r.Status().Committed < l.r.Status().LastIndex {
				c.network = append(c.network[:i:i], c.network[i+1:]...)
				continue
			}
			i++
		}
		for len(late.appends) > 0 && len(late.applies) == 0 {
			late.appendNext()
		}
		if len(c.network) > 0 {
			c.deliver(0)
		} else {
			l.step(replica.Tick{})
		}
	}
	late.applyNext()
	if st := late.r.Status(); st.Applied >= st.Committed {
		t.Fatalf("it was applied in one piece: %+v", st)
	}
	late.flush(0)
	late.step(replica.Campaign{})
	c.settle()
	if got := late.data(); len(got) != 2 {
		t.Errorf("%q", got)
	}
}
