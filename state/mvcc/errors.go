package mvcc

import (
	"errors"
	"math"
)

// Refusals. They travel in results and are the same on every member.
var (
	// ErrCompacted refuses a revision below the compaction floor, or a compaction that is not above it.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFuture refuses a revision above the newest one.
	ErrFuture = errors.New("required revision is a future revision")
	// ErrKeyNotFound refuses a put that wants to keep the value or the lease of a key that does not exist.
	ErrKeyNotFound = errors.New("key not found")
)

// AnswerBytesMax is the most that one answer can hold: gRPC sends no message of more bytes.
const AnswerBytesMax = math.MaxInt32

// ErrTooLarge is the answer to what would take more than AnswerBytesMax. It is no refusal: the command goes on without the answer.
var ErrTooLarge = errors.New("answer is too large")
