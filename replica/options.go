package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Log is the reading half of the log on disk: package raftlog. Appended entries are visible to it before their
// AppendDone is reported.
type Log interface {
	// Entries returns entries lo <= index < hi, at most maxSize bytes of them but at least one, or raft.ErrCompacted or
	// raft.ErrUnavailable.
	Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error)
	// Term is the term of an entry, the one before the first included.
	Term(index uint64) (uint64, error)
	FirstIndex() (uint64, error)
	LastIndex() (uint64, error)
}

// Options makes a Replica.
type Options struct {
	// ID is this member's. It is not 0.
	ID uint64
	// Origin is drawn by chance at each start, so that an answer to a read of an earlier run is never taken for ours.
	Origin uint64

	// NoPreVote raises the term before anybody is asked for a vote: a member that was cut off then disturbs those that
	// were not, when it comes back.
	NoPreVote bool
	// ElectionTicks without a word from the leader make a follower campaign (randomized between once and twice).
	// 0: 10.
	ElectionTicks int
	// HeartbeatTicks lie between two heartbeats of the leader. 0: 1.
	HeartbeatTicks int
	// ReadRetryTicks without an answer make a follower ask the leader again about its reads, and send its proposals again.
	// 0: 5.
	ReadRetryTicks int

	// Log is what the disk holds.
	Log Log
	// HardState is what the disk holds; nil: never written.
	HardState *raftpb.HardState
	// ConfState is the configuration as of Applied.
	ConfState *raftpb.ConfState
	// Applied is the index up to which the state machine has applied.
	Applied uint64
	// Told is the index up to which another member is taken to have told this one that entries are committed, for who replays a
	// log that nobody is asked about. 0: nobody has told anything since the start.
	Told uint64
	// Refuses tells whether the state machine will refuse a conf change, the entry that it is to apply next, which would lead to
	// a configuration. It is asked while nothing is being applied. Nil: it refuses none.
	Refuses func(change *raftpb.Entry, conf *raftpb.ConfState) (bool, error)
	// Snapshot describes (without data) the state that a follower gets who is behind the first entry of the log.
	// raft.ErrSnapshotTemporarilyUnavailable: ask again later. Nil: always that.
	Snapshot func() (*raftpb.Snapshot, error)

	// MessageBytesMax bounds the entries in one message to another member. 0: 1 MiB.
	MessageBytesMax uint64
	// InflightMessagesMax and InflightBytesMax bound what is sent to a member and not yet acknowledged. 0: 512, 64 MiB.
	InflightMessagesMax int
	InflightBytesMax    uint64
	// ApplyBytesMax bounds the entries handed to Apply and not yet applied. 0: 16 MiB.
	ApplyBytesMax uint64
	// UncommittedBytesMax bounds what a leader holds proposed and not yet applied. 0: 128 MiB.
	UncommittedBytesMax uint64

	// Logger gets raft's messages. Its Fatal and Panic methods must not return. Nil: they are dropped, and those panic.
	Logger raft.Logger
}

func (o Options) withDefaults() Options {
	o.ElectionTicks = orElse(o.ElectionTicks, 10)
	o.HeartbeatTicks = orElse(o.HeartbeatTicks, 1)
	o.ReadRetryTicks = orElse(o.ReadRetryTicks, 5)
	o.MessageBytesMax = orElse(o.MessageBytesMax, 1<<20)
	o.InflightMessagesMax = orElse(o.InflightMessagesMax, 512)
	o.InflightBytesMax = max(orElse(o.InflightBytesMax, 64<<20), o.MessageBytesMax)
	o.ApplyBytesMax = orElse(o.ApplyBytesMax, 16<<20)
	o.UncommittedBytesMax = orElse(o.UncommittedBytesMax, 128<<20)
	if o.Refuses == nil {
		o.Refuses = func(*raftpb.Entry, *raftpb.ConfState) (bool, error) { return false, nil }
	}
	if o.Logger == nil {
		o.Logger = silent{}
	}
	return o
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (o Options) check() error {
	switch {
	case o.ID == 0 || raft.IsLocalMsgTarget(o.ID):
		return fmt.Errorf("replica: %d is no member id", o.ID)
	case o.HeartbeatTicks < 0 || o.ElectionTicks <= o.HeartbeatTicks:
		return fmt.Errorf("replica: election after %d ticks, heartbeat after %d", o.ElectionTicks, o.HeartbeatTicks)
	case o.ReadRetryTicks < 0:
		return fmt.Errorf("replica: read retry after %d ticks", o.ReadRetryTicks)
	case o.Log == nil || o.ConfState == nil:
		return fmt.Errorf("replica: no log or no configuration")
	}
	return nil
}

func (o Options) raft(s raft.Storage) *raft.Config {
	return &raft.Config{
		ID:                        o.ID,
		ElectionTick:              o.ElectionTicks,
		HeartbeatTick:             o.HeartbeatTicks,
		Storage:                   s,
		Applied:                   o.Applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             o.MessageBytesMax,
		MaxCommittedSizePerReady:  o.ApplyBytesMax,
		MaxUncommittedEntriesSize: o.UncommittedBytesMax,
		MaxInflightMsgs:           o.InflightMessagesMax,
		MaxInflightBytes:          o.InflightBytesMax,
		CheckQuorum:               true,
		PreVote:                   !o.NoPreVote,
		ReadOnlyOption:            raft.ReadOnlySafe,
		StepDownOnRemoval:         true,
		DisableProposalForwarding: true, // the outbox does that
		Logger:                    o.Logger,
	}
}
