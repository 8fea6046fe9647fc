package v3

import (
	"context"

	"keelson/command"
	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// Member is what the services ask of the running member: a *node.Node.
//
// Its errors are those of package node and of contexts; anything else reaches the client as Unknown with its text.
type Member interface {
	// Propose puts a change into the log and waits until it was applied here. A refusal of the state machine stands
	// in the result; err says that the outcome is unknown or that the change was never taken.
	Propose(ctx context.Context, op command.Op) (state.Result, error)
	// Read opens a view that contains every write acknowledged, by any member, before Read was called. Close it.
	Read(ctx context.Context) (*state.View, error)
	// ReadLocal opens a view of what this member has. Close it.
	ReadLocal() *state.View
	// Status is read for the header of every reply: it must cost next to nothing.
	Status() node.Status
	// WaitSwept returns once everything that compactions up to now made unreadable is gone from the store.
	WaitSwept(ctx context.Context) error
}

// Lessor knows how long leases still live: a *node.Node.
type Lessor interface {
	// RenewLease lets a lease live for its full TTL from now and returns that TTL. A lease that is unknown, expired or
	// being revoked gives state.ErrLeaseNotFound, once the outcome is certain.
	RenewLease(ctx context.Context, id lease.ID) (ttlSeconds int64, err error)
	// LeaseTimes tells how a lease stands; ok is false if there is none.
	LeaseTimes(ctx context.Context, id lease.ID) (t node.LeaseTimes, ok bool, err error)
	// Leases lists all leases, the one that expires first in front. It is empty on a member that does not lead.
	Leases() []node.LeaseTimes
}

// Store computes hashes of what the member holds: a *state.Machine.
type Store interface {
	// Hash hashes everything replicated, and says at which revision.
	Hash() (hash uint32, revision mvcc.Revision, err error)
	// HashKV hashes the pairs as of a revision (0: the newest).
	//
	// Errors: mvcc.ErrCompacted, mvcc.ErrFuture.
	HashKV(revision mvcc.Revision) (mvcc.Hash, error)
}

// Quota decides whether the member has room for a request.
type Quota interface {
	// Admit reports whether a request of this estimated cost in bytes may be proposed. If not, Admit sees to it that
	// the alarm is raised.
	Admit(costBytes int64) bool
}

// Requests counts requests by the API version that clients say they speak.
type Requests interface {
	// Count is told the kind ("unary" or "stream") and the version ("unknown": none given).
	Count(kind, clientAPIVersion string)
}
