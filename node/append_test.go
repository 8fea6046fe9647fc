package node

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/env"
	"keelson/raftlog"
	"keelson/replica"
)

// A commit index that the replica wants on the disk by itself, because a change of members hangs on it, survives a power cut:
// it is synced though no entry is written with it.
func TestACommitIndexAloneIsSynced(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := raftlog.Options{FS: disk, Dir: "wal", ClusterID: 1, MemberID: 2}
	log, err := raftlog.Create(o, raftlog.Position{Index: 1, Term: 1})
	if err != nil {
		t.Fatal(err)
	}
	a := newAppender(&Node{o: Options{Log: log, Clock: env.SystemClock()}, events: newInbox[replica.Event]()})
	defer a.idle.timer.Stop()
	state := func(commit uint64) *raftpb.HardState {
		return &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(2)), Commit: new(commit)}
	}
	for _, e := range []*replica.Append{
		{HardState: state(1), Entries: []*raftpb.Entry{{Index: new(uint64(2)), Term: new(uint64(2))}}, Sync: true},
		{HardState: state(2), Sync: true},
	} {
		if rest, err := a.write([]replica.Effect{e}); err != nil || len(rest) > 0 {
			t.Fatal(rest, err)
		}
	}
	o.FS = disk.CrashClone(vfs.CrashCloneCfg{})
	again, _, err := raftlog.Open(o, raftlog.Position{Index: 1, Term: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := again.HardState().GetCommit(); got != 2 {
		t.Errorf("after a power cut entry %d is known to be committed, want 2", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
