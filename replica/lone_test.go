package replica_test

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

// A leader's round of reads is under way when the only other voter goes: nobody is left to answer it, and nobody has to.
func TestReadsUnderWayWhenTheOtherVotersGo(t *testing.T) {
	c := newCluster(t, 2, 0, nil)
	c.startAll()
	l := c.elect(1)
	l.step(replica.ProposeConfChange{ID: 1, Change: &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{
		{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(2))},
	}}})
	for len(l.applies) == 0 { // committed, and not applied by the leader
		for len(l.appends) > 0 {
			l.appendNext()
		}
		c.member(2).settleLocally()
		for len(c.network) > 0 {
			c.deliver(0)
		}
	}
	first := l.read()
	second := l.read() // waits for the round after
	if _, ok := l.answered(first); ok {
		t.Fatal("answered without a round")
	}
	c.network = nil
	c.settle()
	if st := l.r.Status(); !st.Lone || !st.Alone {
		t.Fatalf("the other voter is not gone: %+v", st)
	}
	for _, ticket := range []uint64{first, second, l.read()} {
		index, ok := l.answered(ticket)
		if !ok || index != l.r.Status().Committed {
			t.Errorf("ticket %d: answered %t, with %d of %d", ticket, ok, index, l.r.Status().Committed)
		}
	}
}

// A lone voter who teaches somebody is not alone.
func TestLoneVoterWithALearnerIsNotAlone(t *testing.T) {
	for learners, want := range []bool{true, false} {
		c := newCluster(t, 1, learners, nil)
		c.startAll()
		c.settle()
		if st := c.member(1).r.Status(); !st.Lone || st.Alone != want {
			t.Errorf("%d learners: %+v", learners, st)
		}
	}
}
