package peer

import (
	"context"

	"keelson/command"
	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// Member is the running member: a *node.Node.
type Member interface {
	Status() node.Status
	// Read opens a view that holds every write acknowledged, by any member, before Read was called. Close it.
	Read(ctx context.Context) (*state.View, error)
	// ReadLocal opens a view of what this member has. Close it.
	ReadLocal() *state.View
}

// Cluster changes the membership: a *node.Node.
type Cluster interface {
	// ChangeMembers returns when the change is applied here. A refusal of the state machine stands in the result. A
	// MemberPromote on a member that does not lead gives node.ErrNotLeader.
	ChangeMembers(ctx context.Context, op command.Op) (state.Result, error)
}

// Leases is this member's own clock of leases, which runs while it leads: a *node.Node.
type Leases interface {
	// RenewLease lets a lease live for its full TTL from now and returns that.
	//
	// Errors: state.ErrLeaseNotFound if it is not there, as far as this member has applied the log; node.ErrNotLeader if
	// another is known to lead; otherwise leadership could not be confirmed.
	RenewLease(ctx context.Context, id lease.ID) (ttlSeconds int64, err error)
	// LeaseTimes tells how a lease stands; ok is false if it is not there, as far as this member has applied the log.
	//
	// Errors: as of RenewLease.
	LeaseTimes(ctx context.Context, id lease.ID) (t node.LeaseTimes, ok bool, err error)
	// Leases lists the leases, the one that runs out first in front; none on a member that does not lead.
	Leases() []node.LeaseTimes
}

// Store computes hashes: a *state.Machine.
type Store interface {
	// HashKV hashes the pairs as of a revision (0: the newest).
	//
	// Errors: mvcc.ErrCompacted, mvcc.ErrFuture.
	HashKV(revision mvcc.Revision) (mvcc.Hash, error)
	// Compacted is the compaction floor, -1 before the first compaction.
	Compacted() mvcc.Revision
}
