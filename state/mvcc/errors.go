package mvcc

import "errors"

// Refusals. They travel in results and are the same on every member.
var (
	// ErrCompacted refuses a revision below the compaction floor, or a compaction that is not above it.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFuture refuses a revision above the newest one.
	ErrFuture = errors.New("required revision is a future revision")
	// ErrKeyNotFound refuses a put that wants to keep the value or the lease of a key that does not exist.
	ErrKeyNotFound = errors.New("key not found")
)
