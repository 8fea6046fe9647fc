package replica

import "go.etcd.io/raft/v3/raftpb"

// Effect is what a Replica wants done: one of the pointer types below, from *Append to *LeaderChanged.
type Effect interface{ isEffect() }

// Append is to be written to the log, in order with other Appends and Installs, and answered with AppendDone. Many may be
// written under one sync.
type Append struct {
	// HardState replaces the one on disk; nil: unchanged.
	HardState *raftpb.HardState
	// Entries follow what the log holds or, if the first index is not above the last one there, replace it from
	// there on. May be empty.
	Entries []*raftpb.Entry
	// Sync asks for the write (and all before it) to be synced before AppendDone. It is unset only if there is
	// nothing to write: the Append then waits for its turn and nothing else.
	Sync bool

	sequence  uint64            // position among Appends and Installs
	responses []*raftpb.Message // to this member and to others: what may be said once this is on disk
}

// Install is to replace the whole state and log by a snapshot, then to write HardState and Entries like an Append: all or
// nothing in a crash. It is answered with InstallDone. Applies handed out earlier are to be finished before.
type Install struct {
	Snapshot *raftpb.Snapshot
	*Append
}

// Send is to be sent to other members, each message to its To. Messages to one member should stay in order.
type Send struct{ Messages []*raftpb.Message }

// Apply is to be applied to the state machine, in order with other Applies, and answered with ApplyDone.
type Apply struct {
	// Entries are committed, on this member's disk, and follow the last Apply without a gap. Never empty.
	Entries []*raftpb.Entry
	// ConfState is set if the last entry is a conf change: the configuration that follows if it is carried out. It is
	// to be stored together with the applied index.
	ConfState *raftpb.ConfState

	sequence uint64
	change   *raftpb.ConfChangeV2
	response *raftpb.Message // for raft
	judged   bool            // of this member's removal: it is known whether it is
	refused  bool            // one that the machine will not carry out
}

// ReadReady answers all ReadIndex tickets up to Through: a read is linearizable once Index is applied here.
type ReadReady struct {
	Through uint64
	Index   uint64
}

// ReadsDropped refuses all ReadIndex tickets up to Through.
type ReadsDropped struct {
	Through uint64
	Err     error
}

// ProposalDropped says that a proposal will not become an entry. Its absence says nothing.
type ProposalDropped struct {
	ID  uint64
	Err error
}

// LeaderChanged says who leads now, in which term; Leader 0: nobody known. Leading reports that it is this member.
type LeaderChanged struct {
	Leader  uint64
	Term    uint64
	Leading bool
}

func (*Append) isEffect()          {}
func (*Install) isEffect()         {}
func (*Send) isEffect()            {}
func (*Apply) isEffect()           {}
func (*ReadReady) isEffect()       {}
func (*ReadsDropped) isEffect()    {}
func (*ProposalDropped) isEffect() {}
func (*LeaderChanged) isEffect()   {}
