package raftlog

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	defaultSegmentBytes = 64 << 20
	defaultTailBytes    = 16 << 20
	minSegmentBytes     = 2 << 10 // the header and a few records
)

// Options are the settings of a log.
type Options struct {
	// FS holds the files. Required.
	FS vfs.FS
	// Dir is the log's directory. It is created if absent; its parent must exist.
	Dir string
	// ClusterID and MemberID are written into every segment. Open refuses a log written under others.
	ClusterID, MemberID uint64
	// SegmentBytes is the size at which a segment is sealed and the next one begun, and the space reserved for each.
	// A single record that is larger gets a segment of its own. 0: 64 MiB.
	SegmentBytes int64
	// TailBytes bounds the memory of the newest entries, which are kept; older ones are read back from the files.
	// The newest entry is kept whatever its size. 0: 16 MiB.
	TailBytes int64
	// OnSync, if not nil, is told after each sync of an Append how many bytes it made durable and how long the sync
	// itself took (0 without Now). It runs on the append goroutine and only observes.
	OnSync func(bytes int, d time.Duration)
	// Now is a monotonic clock for OnSync. May be nil.
	Now func() time.Duration
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = max(o.SegmentBytes, minSegmentBytes)
	if o.TailBytes == 0 {
		o.TailBytes = defaultTailBytes
	}
	return o
}

// Position is a place in the log: the entry at Index has term Term. The zero Position is the place before the first
// entry there ever was.
type Position struct {
	Index, Term uint64
}

// Batch is one append of raft.
type Batch struct {
	// HardState replaces the one before. nil or all zero: unchanged.
	// Term and commit never decrease; commit is at most the last index after this batch.
	HardState *raftpb.HardState
	// Entries are consecutive. If they begin at or below LastIndex, they replace everything from there on; they
	// never reach down to the commit index. The log keeps the entries, nobody may change them from now on.
	Entries []*raftpb.Entry
	// MustSync asks for a sync even if the batch holds nothing that needs one, so that everything written before is
	// durable when Append returns.
	MustSync bool
}

// hardState is raftpb.HardState as plain values.
type hardState struct {
	term, vote, commit uint64
}

func hardStateOf(p *raftpb.HardState) hardState {
	return hardState{term: p.GetTerm(), vote: p.GetVote(), commit: p.GetCommit()}
}

func (h hardState) proto() *raftpb.HardState {
	return &raftpb.HardState{Term: new(h.term), Vote: new(h.vote), Commit: new(h.commit)}
}
