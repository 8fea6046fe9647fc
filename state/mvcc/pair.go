package mvcc

import (
	"keelson/command"
)

// Revision numbers the states of the store. Every command that changes a pair makes the next one; an empty store is at 1.
type Revision = int64

// KeyValue is one version of a key.
type KeyValue struct {
	Key, Value     []byte
	CreateRevision Revision // of the put that (re)created the key
	ModRevision    Revision // of this version
	Version        int64    // 1 for the put that created the key, one more for each put since
	Lease          int64    // 0: none
}

// EventKind tells puts from deletes.
type EventKind uint8

// The kinds of events.
const (
	Put EventKind = iota + 1
	Delete
)

// Event is one change of one key. Its revision is KV.ModRevision. An event that a Tx made is immutable and may be kept;
// one that Changes made is valid only during the call it is given to.
type Event struct {
	Kind EventKind
	// Sub is the position of the change within its revision: 0, 1, 2, ...
	Sub uint32
	// KV is the pair that was put; for a delete only Key and ModRevision are set.
	KV KeyValue
	// Prev is the pair as of the revision before. Nil: the event created the key, or that revision is compacted.
	Prev *KeyValue
}

// Query says what to read; see View.Range for how its fields work together.
type Query = command.Range

// Summary is what a read says about the range apart from its pairs.
type Summary struct {
	// Count is the number of keys in the range at the revision, whatever limit and filters left out.
	Count int64
	// More reports that the limit cut off pairs.
	More bool
}
