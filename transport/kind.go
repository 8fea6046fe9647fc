package transport

import "go.etcd.io/raft/v3/raftpb"

// kind is what a stream is for.
type kind uint8

const (
	kindMessages kind = iota
	kindControl
	kindBulk
	kindFetch

	kinds      = 4
	queueKinds = 2 // those with a queue: messages and control
)

var kindNames = [kinds]string{"messages", "control", "bulk", "fetch"}

func (k kind) String() string { return kindNames[k] }

func kindNamed(name string) (kind, bool) {
	for k, n := range kindNames {
		if n == name {
			return kind(k), true
		}
	}
	return 0, false
}

// tailBytesMax bounds the entries of one frame. Raft limits what it puts together to much less; one entry may be larger.
func (k kind) tailBytesMax() int {
	if k == kindControl {
		return 1 << 20
	}
	return 256 << 20
}

// bufferBytes is how much of a stream is read at once.
func (k kind) bufferBytes() int {
	if k == kindControl {
		return 32 << 10
	}
	return 128 << 10
}

// route tells which stream a message takes. ok is false for messages that raft sends to itself: those never travel.
func route(t raftpb.MessageType) (k kind, ok bool) {
	switch t {
	case raftpb.MsgApp, raftpb.MsgProp, raftpb.MsgSnap:
		return kindMessages, true
	case raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
		raftpb.MsgTransferLeader, raftpb.MsgTimeoutNow:
		return kindControl, true
	}
	return 0, false
}

// passedOn reports whether raft passes messages of a type on to the leader for somebody else, whose id they keep.
func passedOn(t raftpb.MessageType) bool {
	return t == raftpb.MsgProp || t == raftpb.MsgReadIndex || t == raftpb.MsgTransferLeader
}
