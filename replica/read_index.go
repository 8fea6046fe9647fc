package replica

import (
	"encoding/binary"

	"keelson/internal/fault"
)

// reads batches linearizable reads. Tickets are counted up by the caller; those up to answered are done with, those from
// there to wanted wait, and a round under way will answer those up to covered:
//
//	answered <= covered <= wanted, all of them 0 at the start
//
// Reads that arrive during a round wait for the next one, which they share.
//
//	idle ── ask, if a leader is known ──► under way ── answer ──► idle
//	                                      │ ▲   │
//	                                      └─┘   └─ another leader ──► idle
//	                              retry, with a new context
type reads struct {
	origin   uint64 // of this run
	attempts uint64 // contexts used so far in this run

	wanted   uint64
	answered uint64

	underWay   bool
	covered    uint64
	first      uint64 // attempts first..attempts belong to the round
	sinceTicks int    // ticks since the last attempt
}

// want records a ticket.
func (q *reads) want(ticket uint64) { q.wanted = max(q.wanted, ticket) }

// waiting reports whether there are tickets that no round covers, and no round is under way.
func (q *reads) waiting() bool { return !q.underWay && q.wanted > q.answered }

// begin starts a round for everything that waits and returns the context of its first attempt.
func (q *reads) begin() []byte {
	q.underWay, q.covered, q.first = true, q.wanted, q.attempts+1
	return q.again()
}

// again starts another attempt of the round and returns its context.
func (q *reads) again() []byte {
	q.sinceTicks = 0
	q.attempts++
	if fault.Mutant("reuse-read-context") {
		q.attempts, q.first = 1, 1
	}
	b := make([]byte, 0, 16)
	b = binary.LittleEndian.AppendUint64(b, q.origin)
	return binary.LittleEndian.AppendUint64(b, q.attempts)
}

// matches reports whether a context is one of the round's.
func (q *reads) matches(context []byte) bool {
	if !q.underWay || len(context) != 16 || binary.LittleEndian.Uint64(context) != q.origin {
		return false
	}
	n := binary.LittleEndian.Uint64(context[8:])
	return q.first <= n && n <= q.attempts
}

// end ends the round and returns the last ticket it covered.
func (q *reads) end() uint64 {
	q.underWay, q.answered = false, q.covered
	return q.covered
}

// finish is for answers that need no round, or no longer need one: it returns the last ticket there is.
func (q *reads) finish() uint64 {
	q.underWay, q.answered = false, q.wanted
	return q.wanted
}
