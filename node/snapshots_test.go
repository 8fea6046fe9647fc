package node

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/raftlog"
)

// heldStates installs a state when the test lets it: that is, it makes the log begin behind it.
type heldStates struct {
	r     *rig
	begun chan struct{}
	free  chan struct{}
}

func (*heldStates) Send(context.Context, *raftpb.Message) error { return nil }

func (h *heldStates) Install(s *raftpb.Snapshot, hs *raftpb.HardState) error {
	close(h.begun)
	<-h.free
	return h.r.log.Reset(raftlog.Position{Index: s.GetMetadata().GetIndex(), Term: s.GetMetadata().GetTerm()}, hs)
}

// Of a received state it is known at once whether it is going to be installed.
func TestReceivedStatesAreAwaitedOrNot(t *testing.T) {
	h := &heldStates{begun: make(chan struct{}), free: make(chan struct{})}
	voters := []uint64{1, 2, 3}
	var tokensLost atomic.Bool
	r := newMemberRig(t, 2, voters, vfs.NewMem(), "/", 1<<20, func(o *Options) {
		o.Snapshots = h
		o.Observe.TokensLost = func() { tokensLost.Store(true) }
	})
	h.r = r
	message := func(typ raftpb.MessageType, term uint64) *raftpb.Message {
		return &raftpb.Message{Type: typ.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(term)}
	}
	state := func(term, index uint64) *raftpb.Message {
		m := message(raftpb.MsgSnap, term)
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			ConfState: &raftpb.ConfState{Voters: voters}, Index: proto.Uint64(index), Term: proto.Uint64(3),
		}}
		return m
	}
	const term = 1000 // this member campaigns when it hears nothing
	r.node.Receive(message(raftpb.MsgHeartbeat, term))
	for _, step := range []struct {
		name        string
		term, index uint64
		want        bool
		after       func()
	}{
		{"of a leader that is none any more", term - 1, 50, false, nil},
		{"of the leader", term, 60, true, func() {
			<-h.begun
			if !tokensLost.Load() {
				t.Error("the state may be seen while tokens are known that may have ended in it")
			}
		}},
		{"the same once more", term, 60, true, nil},
		{"an older one", term, 55, false, func() { close(h.free); until(func() bool { return r.node.Status().Applied == 60 }) }},
		{"the same when it is installed", term, 60, false, nil},
	} {
		if got := r.node.ReceiveSnapshot(state(step.term, step.index)); got != step.want {
			t.Errorf("a state %s: awaited is %t", step.name, got)
		}
		if step.after != nil {
			step.after()
		}
	}
}
