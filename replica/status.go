package replica

import "go.etcd.io/raft/v3"

// Status is where a Replica stands.
type Status struct {
	ID        uint64
	Role      raft.StateType // follower, candidate, leader, pre-candidate
	Leader    uint64         // 0: not known
	Term      uint64
	Vote      uint64 // in Term; 0: none
	Committed uint64 // not below Applied
	Applied   uint64 // as reported by ApplyDone
	LastIndex uint64 // of the log, entries on their way to the disk included
	Transfer  uint64 // who leadership is being handed to; 0: nobody
	Pending   int    // own proposals that are not settled
	Parting   uint64 // the entry by which this member is removed, while nobody has told it yet that this is committed; 0: none
	Learner   bool   // this member does not vote
	Lone      bool   // this member is the only voter
	Alone     bool   // this member is the only one: nobody learns either
}

// Progress is what a leader knows about a member.
type Progress struct {
	ID      uint64
	Match   uint64 // up to here its log is known to equal the leader's
	Learner bool
	// Active: it was heard of since the last quorum check, at most an election timeout ago.
	Active bool
	// Snapshot: it is too far behind for the log and waits for a snapshot.
	Snapshot bool
}

// Successor is the voter that could lead best in the place of self, by what the leader knows of everybody; 0: none.
func Successor(all []Progress, self uint64) (id uint64) {
	var match uint64
	for _, p := range all {
		if p.ID != self && !p.Learner && p.Active && !p.Snapshot && (id == 0 || p.Match > match) {
			id, match = p.ID, p.Match
		}
	}
	return id
}
