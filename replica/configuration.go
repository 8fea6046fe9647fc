package replica

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// confChange returns the change in an entry, or nil if the entry is none. A change that can't be read is an empty one,
// which no configuration but a joint one accepts.
func confChange(e *raftpb.Entry) *raftpb.ConfChangeV2 {
	switch e.GetType() {
	case raftpb.EntryConfChange:
		var c raftpb.ConfChange
		if proto.Unmarshal(e.GetData(), &c) != nil {
			return &raftpb.ConfChangeV2{}
		}
		return c.AsV2()
	case raftpb.EntryConfChangeV2:
		c := &raftpb.ConfChangeV2{}
		if proto.Unmarshal(e.GetData(), c) != nil {
			return &raftpb.ConfChangeV2{}
		}
		return c
	}
	return nil
}

// confChangeEntry is the entry that a change travels in.
func confChangeEntry(c *raftpb.ConfChangeV2) *raftpb.Entry {
	data, err := proto.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("replica: encode %v: %v", c, err))
	}
	return &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}
}

// changed returns the configuration that a change makes of another, by raft's own rules, without telling raft yet.
func changed(cs *raftpb.ConfState, lastIndex uint64, cc *raftpb.ConfChangeV2) (*raftpb.ConfState, error) {
	c := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: lastIndex}
	cfg, progress, err := confchange.Restore(c, cs)
	if err != nil {
		return nil, fmt.Errorf("configuration %v: %w", cs, err)
	}
	c.Tracker.Config, c.Tracker.Progress = cfg, progress
	switch autoLeave, joint := cc.EnterJoint(); {
	case cc.LeaveJoint():
		cfg, progress, err = c.LeaveJoint()
	case joint:
		cfg, progress, err = c.EnterJoint(autoLeave, cc.GetChanges()...)
	default:
		cfg, progress, err = c.Simple(cc.GetChanges()...)
	}
	if err != nil {
		return nil, err
	}
	c.Tracker.Config, c.Tracker.Progress = cfg, progress
	return c.Tracker.ConfState(), nil
}

// isLone reports whether id is the only voter, so that its word alone is a quorum.
func isLone(cs *raftpb.ConfState, id uint64) bool {
	return len(cs.GetVoters()) == 1 && cs.GetVoters()[0] == id && len(cs.GetVotersOutgoing()) == 0
}

func isLearner(cs *raftpb.ConfState, id uint64) bool { return slices.Contains(cs.GetLearners(), id) }
