package v3

import (
	"context"

	"keelson/command"
	"keelson/node"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
)

// Member is what the services ask of the running member: a *node.Node.
//
// Its errors are those of package node and of contexts; anything else reaches the client as Unknown with its text.
type Member interface {
	// Propose puts a change into the log and waits until it was applied here. A refusal of the state machine stands
	// in the result; err says that the outcome is unknown or that the change was never taken. It is done on behalf of the
	// caller in ctx: see auth.WithCaller.
	Propose(ctx context.Context, op command.Op) (state.Result, error)
	// ProposeLater is Propose for a caller that does not wait: done is called with the outcome, once, perhaps before
	// ProposeLater returns, and must not wait for anything; unless it is alone, others wait for it. r runs what the caller does not wait for. If there is an
	// error, done is not called.
	ProposeLater(ctx context.Context, op command.Op, r node.Runner, done node.LateOutcome) error
	// Abandon is called for each proposal whose caller has gone before its outcome was there, and returns the error that goes
	// with the cause.
	Abandon(cause error) error
	// Read opens a view that contains every write acknowledged, by any member, before Read was called. Close it.
	Read(ctx context.Context) (*state.View, error)
	// ReadLater is Read for a caller that does not wait: now says that ReadLocal is as good as Read; if not, and without an
	// error, late is told when it is.
	ReadLater(late node.LateReader) (now bool, err error)
	// ReadLocal opens a view of what this member has. Close it.
	ReadLocal() *state.View
	// Users is users and roles as this member has applied them. It must cost next to nothing.
	Users() *auth.Set
	// Status is read for the header of every reply: it must cost next to nothing.
	Status() node.Status
	// WaitSwept returns once everything that compactions up to now made unreadable is gone from the store.
	WaitSwept(ctx context.Context) error
}

// Identity finds out who is asking: an *identity.Identifier.
type Identity interface {
	// Caller is who makes the call that ctx belongs to. Without a token or a certificate he has no name.
	//
	// Errors: identity.ErrInvalidToken, those of Member.Read.
	Caller(ctx context.Context) (auth.Caller, error)
	// CallerAtOnce is Caller without waiting; ok is false if that can't be.
	CallerAtOnce(ctx context.Context) (who auth.Caller, ok bool)
	// Login checks a password and returns a token.
	//
	// Errors: identity.ErrWrongPassword, ErrNoPassword, ErrVerifyOnly, ErrBusy; auth.ErrOldRevision if users have changed
	// meanwhile; those of Member.Propose.
	Login(ctx context.Context, users *auth.Set, name, password string) (token string, err error)
	// Hash hashes a password. It may take long.
	//
	// Errors: identity.ErrBusy, bcrypt's.
	Hash(ctx context.Context, password string) ([]byte, error)
}

// Cluster changes who belongs to the cluster and who leads it: a *node.Node.
type Cluster interface {
	// ChangeMembers carries out MemberAdd, MemberRemove, MemberUpdate or MemberPromote, after the strict checks, and
	// returns when it is applied here and raft has advanced past it. A refusal of the state machine stands in the result.
	//
	// Errors: node.ErrNotEnoughStarted, node.ErrUnhealthy, for a promotion node.ErrLearnerNotReady and, on a member that
	// does not lead, node.ErrNotLeader, and those of Propose.
	ChangeMembers(ctx context.Context, op command.Op) (state.Result, error)
	// MoveLeader hands leadership to another voter and returns when this member has seen it lead. To hand it to the one
	// who has it is done at once.
	//
	// Errors: node.ErrNotLeader, node.ErrBadTransferee, node.ErrTransferTimeout.
	MoveLeader(ctx context.Context, to uint64) error
}

// Promoter has a learner promoted by the leader, who alone knows how far the learner is: a *peer.Promoter.
type Promoter interface {
	// Promote makes a learner a voter and returns the members, by id, as they are then. What the leader refuses is an
	// error here, the same on every member.
	//
	// Errors: members.ErrNotFound, members.ErrNotLearner, and those of Cluster.ChangeMembers except node.ErrNotLeader.
	Promote(ctx context.Context, id uint64) ([]members.Member, error)
}

// Lessor knows how long leases still live, whoever leads: a *peer.Lessor.
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
	// Admit reports whether a request of this estimated cost in bytes may be proposed. If not, the alarm is raised when
	// Admit returns, unless that could not be done before ctx ended or the request timeout was over.
	Admit(ctx context.Context, costBytes int64) bool
	// Exceeded reports whether the store has grown beyond what it may hold. It costs next to nothing unless that seems so.
	Exceeded() bool
	// Raise raises the alarm, as a refusal of Admit does.
	Raise(ctx context.Context)
	// Ample reports whether there is so much room that Admit will let the next small requests in without waiting.
	Ample() bool
}

// Requests counts requests by the API version that clients say they speak.
type Requests interface {
	// Count is told the kind ("unary" or "stream") and the version ("unknown": none given).
	Count(kind, clientAPIVersion string)
}
