package node

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/env"
	"keelson/leader"
	"keelson/raftlog"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/members"
	"keelson/watch"
)

// Options are the parts that a Node runs, opened by the caller, who closes them after Stop.
type Options struct {
	ClusterID, MemberID uint64

	Machine *state.Machine
	Log     *raftlog.Log
	Hub     *watch.Hub
	Clock   env.Clock
	Chance  env.Chance

	// Network reaches the other members, Snapshots gives them whole states. Nil: there are no others.
	Network   Network
	Snapshots Snapshots
	// StrictReconfiguration refuses changes of the membership that would put the quorum at risk.
	StrictReconfiguration bool
	// CatchUpEntries of the log are kept for members that lag a little.
	CatchUpEntries uint64

	// Heartbeat is the length of a tick. Election is a multiple of it.
	Heartbeat, Election time.Duration
	// NoPreVote: see replica.Options.
	NoPreVote bool
	// TickAdvance shortens the time to the first election to a tick or more, once another member can be reached.
	TickAdvance bool
	// RequestTimeout bounds the wait for a proposal's result and for a read's confirmation.
	RequestTimeout time.Duration
	// MaxRequestBytes bounds an encoded command.
	MaxRequestBytes int

	Lessor    leader.LessorOptions
	Compactor leader.CompactorOptions
	Integrity leader.IntegrityOptions
	Sweep     SweepOptions
	Scrub     ScrubOptions

	// Fatal is told the error of the log or the state that this member can't survive. It ends the process; a Fatal that
	// returns (in tests) leaves a member that refuses everything.
	Fatal func(error)
	// Logger gets raft's messages; nil: nobody.
	Logger raft.Logger
	// Observe is told what happens, for logs and metrics. Its fields may be nil.
	Observe Observer
}

// SweepOptions pace the removal of compacted versions.
type SweepOptions struct {
	Records int           // removed in one go; 0: 1000
	Pause   time.Duration // between two of them; 0: 10 ms, or while there are many writes, as much as leaves them most of the time
}

const (
	sweepPauseMin = 10 * time.Millisecond
	sweepPauseMax = time.Second
	sweepRest     = 19                     // times as long as a removal takes is the pause after it, while there are many writes:
	sweepBusy     = 200                    // entries a second,
	sweepLook     = 100 * time.Millisecond // counted in so much time
)

// pause is how long to wait after a removal that took so long. While there are many writes, what is removed makes the store
// rewrite tables beside them; and on a machine that is busy a removal takes longer, and so does the pause. Who is behind, because
// the next compaction is there already, does not give way any more: otherwise what is to be removed could grow without end.
func (o SweepOptions) pause(took time.Duration, busy, behind bool) time.Duration {
	switch {
	case o.Pause > 0:
		return o.Pause
	case behind || !busy:
		return sweepPauseMin
	}
	return min(max(sweepRest*took, sweepPauseMin), sweepPauseMax)
}

// ScrubOptions pace the reading of old log segments for damage.
type ScrubOptions struct {
	Bytes int64         // read in one go; 0: 64 KiB
	Pause time.Duration // between two of them; 0: 100 ms
	Rest  time.Duration // before the first one, and when all have been read; 0: 1 min
}

// Observer is told what happens. The functions are called by the node's own goroutines and must not wait.
type Observer struct {
	// Applied is told of each run of applied entries, and how long it took.
	Applied func(out *state.Outcome, entries int, took time.Duration)
	// Leader is told who leads, in which term; 0: nobody known.
	Leader func(leader, term uint64, leading bool)
	// Compacted is told that everything below the floor has been removed from the store, and how long that took.
	Compacted func(floor int64, removed int, took time.Duration)
	// Removing is told of each step of a removal, and how long it held the store.
	Removing func(removed int, took time.Duration)
	// Promoted is told how each promotion of a learner ended that this member decided on as the leader.
	Promoted func(err error)
	// Truncated is told the index below which the log is gone.
	Truncated func(index uint64)
	// NoSpare is told that the disk has no space for the log's next segment. The log goes on until it needs it.
	NoSpare func(err error)
	// Members is told the membership after each change, and Removed, once, that this member is not part of it any more.
	Members func(set *members.Set)
	Removed func()
	// Parting is told, once, that this member has been removed, but stays until another one is known to know.
	Parting func()
	// SnapshotSent is told how giving a state to a member ended, Installed that this member was given one.
	SnapshotSent func(to uint64, err error)
	Installed    func(s *raftpb.Snapshot)
	// Stalled is told how long this leader's disk has not answered, and to whom it gives leadership.
	Stalled func(stalled time.Duration, to uint64)
	// Late is told by how much this leader's heartbeats, due every Heartbeat, came too late.
	Late func(by time.Duration)
	// Compacting is told the revision of each compaction that falls due by schedule, as often as it is proposed.
	Compacting func(revision int64)
	// Corrupt is told, once, how this member's state differs from that of a quorum: see Node.Corrupt.
	Corrupt func(leader.Corruption)
	// Disputed is told what has come of a dispute between members about their state.
	Disputed func(leader.Verdict)
	// Tokens is told what has happened to tokens, before the users and roles that come with it can be seen and before anybody hears of the
	// result of a command that did it, and TokensLost that more may have happened than this member knows of: it is about to be given a state.
	Tokens     func([]auth.TokenChange)
	TokensLost func()
	// Expired is told how many revokes were proposed for leases that ran out.
	Expired func(leases int)
}

func (o Options) withDefaults() Options {
	if o.Sweep.Records <= 0 {
		o.Sweep.Records = 1000
	}
	if o.Scrub.Bytes <= 0 {
		o.Scrub.Bytes = 64 << 10
	}
	if o.Scrub.Pause <= 0 {
		o.Scrub.Pause = 100 * time.Millisecond
	}
	if o.Scrub.Rest <= 0 {
		o.Scrub.Rest = time.Minute
	}
	return o
}
