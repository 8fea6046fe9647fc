package replica

import "go.etcd.io/raft/v3/raftpb"

// Event is what a Replica is told: one of the types below, from Tick to Unreachable.
type Event interface{ isEvent() }

// Tick says that one tick of time has passed.
type Tick struct{}

// Message is a message from another member. The receiver owns it. Messages that are not for this member, or that
// pretend to come from itself, are ignored.
type Message struct{ *raftpb.Message }

// Propose asks for Data to become a log entry, through whichever member leads. It becomes one at most once, and the
// replica goes on asking until it is told that it did, in ApplyDone, or to Forget it. Ids are counted up by the caller, in
// one count with those of ProposeConfChange. Data must not be empty, and not change afterwards.
type Propose struct {
	ID   uint64
	Data []byte
}

// ProposeConfChange asks for a change of who votes and who learns.
type ProposeConfChange struct {
	ID     uint64
	Change *raftpb.ConfChangeV2
}

// Forget says that nobody waits for a proposal any more. It may still become an entry.
type Forget struct{ ID uint64 }

// ReadIndex asks up to where this member must have applied before a read that has begun now is linearizable. Tickets
// are counted up by the caller: one answer covers all tickets up to the one it names.
type ReadIndex struct{ Ticket uint64 }

// AppendDone says that an Append is on disk: synced, if it asked for that. Appends are reported in the order they were
// handed out.
type AppendDone struct{ *Append }

// InstallDone says that a snapshot and what came with it is installed and on disk. It stands in the same order as
// AppendDone.
type InstallDone struct{ *Install }

// ApplyDone says that the entries of an Apply are applied, in the order Applies were handed out.
type ApplyDone struct {
	*Apply
	// Refused reports that the machine did not carry out the conf change at the end of the Apply.
	Refused bool
	// Settled are the ids of this run's own proposals among the entries.
	Settled []uint64
}

// Campaign starts an election now instead of at the election timeout.
type Campaign struct{}

// TransferLeader hands leadership over to another member, once that one has caught up.
type TransferLeader struct{ To uint64 }

// Unreachable says that a message to a member was not delivered.
type Unreachable struct{ ID uint64 }

// SnapshotSent says how sending a snapshot to a member ended.
type SnapshotSent struct {
	ID     uint64
	Failed bool
}

func (Tick) isEvent()              {}
func (Message) isEvent()           {}
func (Propose) isEvent()           {}
func (ProposeConfChange) isEvent() {}
func (Forget) isEvent()            {}
func (ReadIndex) isEvent()         {}
func (AppendDone) isEvent()        {}
func (InstallDone) isEvent()       {}
func (ApplyDone) isEvent()         {}
func (Campaign) isEvent()          {}
func (TransferLeader) isEvent()    {}
func (Unreachable) isEvent()       {}
func (SnapshotSent) isEvent()      {}
