package replica_test

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

// A leader that has missed that a state was installed offers it again. It is told then how far the member is: of two, it could
// commit nothing else before.
func TestAnOldSnapshotIsAnswered(t *testing.T) {
	c := newCluster(t, 2, 0, nil)
	c.startAll()
	l, m := c.elect(1), c.member(2)
	applied := m.r.Status().Applied
	m.step(replica.Message{Message: &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: new(l.id), To: new(m.id), Term: new(l.r.Status().Term),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: m.state.conf, Index: new(applied), Term: new(uint64(baseTerm))}},
	}})
	m.settleLocally()
	if !slices.ContainsFunc(c.network, func(a *raftpb.Message) bool {
		return a.GetTo() == l.id && a.GetType() == raftpb.MsgAppResp && a.GetIndex() >= applied && !a.GetReject()
	}) {
		t.Errorf("answered with %v", c.network)
	}
}
