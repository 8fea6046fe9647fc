package server

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/snapshot"
)

// States that raft does not want, because their senders do not lead any more, say, are not kept: they would be in the way
// of the one that it does want, for ever.
func TestUnwantedStatesAreNotKept(t *testing.T) {
	s, err := Start(context.Background(), load(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	stores := func() (names []string) {
		all, err := s.engine.fs.List(s.engine.dir.Member())
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, "state") })
	}
	before := stores()
	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	if _, _, err := s.engine.machine.Checkpoint(checkpoint); err != nil {
		t.Fatal(err)
	}
	const former = 99
	for i := range 2 * waitingMax {
		header, err := proto.Marshal(&raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(former), To: proto.Uint64(s.engine.dir.Identity.MemberID), Term: proto.Uint64(1),
			Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
				ConfState: &raftpb.ConfState{Voters: []uint64{former}}, Index: proto.Uint64(uint64(1000 + i)), Term: proto.Uint64(1),
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		received := make(chan struct{})
		go func() {
			defer close(received)
			s.snapshots.receive(context.Background(), former, ours)
		}()
		err = snapshot.Send(context.Background(), theirs, snapshot.SendOptions{
			FS: s.engine.fs, Clock: s.clock, Dir: checkpoint, Store: snapshot.Store{byte(i)}, Header: header,
		})
		<-received
		theirs.Close()
		if err != nil {
			t.Fatalf("state %d: %v", i, err)
		}
	}
	if after := stores(); !slices.Equal(before, after) {
		t.Errorf("stores %v, before that %v", after, before)
	}
}
