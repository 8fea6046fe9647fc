package node

import "errors"

// What a request may meet besides the machine's own refusals. The texts are for logs; each API has its own table.
var (
	// ErrTimeout: no outcome within the request timeout. A write may still take effect.
	ErrTimeout = errors.New("request timed out")
	// ErrTimeoutLeaderFail: the same, of a request that came when the leader before this one was failing.
	ErrTimeoutLeaderFail = errors.New("request timed out, possibly due to previous leader failure")
	// ErrTimeoutConnectionLost: the same, of a request that came when this member had no connection to the leader, or as
	// the leader not to a quorum.
	ErrTimeoutConnectionLost = errors.New("request timed out, possibly due to connection lost")
	// ErrTimeoutApplied: what is committed was not applied in time.
	ErrTimeoutApplied = errors.New("request timed out, waiting for the applied index took too long")
	// ErrStopped: the member is shutting down, or its disk failed.
	ErrStopped = errors.New("member stopped")
	// ErrNoLeader: nobody leads.
	ErrNoLeader = errors.New("no leader")
	// ErrLeaderChanged: the leader changed while the request waited. It may be repeated if it was a read.
	ErrLeaderChanged = errors.New("leader changed")
	// ErrTooManyRequests: the queue of proposals is full. Nothing was done.
	ErrTooManyRequests = errors.New("too many requests")
	// ErrTooLarge: the command is larger than Options.MaxRequestBytes. Nothing was done.
	ErrTooLarge = errors.New("request is too large")
	// ErrCanceled: the caller gave up while its write was pending. It may still take effect.
	ErrCanceled = errors.New("request canceled")
	// ErrDropped: raft refused the proposal. Nothing was done.
	ErrDropped = errors.New("proposal dropped")
	// ErrNotLeader: this member does not lead, and the request can only be served by the one who does.
	ErrNotLeader = errors.New("not the leader")
	// ErrBadTransferee: leadership can't go to the one named, who is unknown or does not vote.
	ErrBadTransferee = errors.New("bad leader transferee")
	// ErrTransferTimeout: leadership has not been handed over in the time that the caller gave.
	ErrTransferTimeout = errors.New("request timed out, leader transfer took too long")
	// ErrRemoved: this member was removed from the cluster.
	ErrRemoved = errors.New("member removed from the cluster")
)
