package differential

import "time"

// Options says what to compare and for how long.
type Options struct {
	Seed uint64
	Ops  int // operations to generate

	Prologue []Op // executed before the generated ones

	// Without leaves out operations of these kinds.
	Without map[Kind]bool

	// OpenDuplicates also generates transactions that put and delete the same key in a way on which the specification lets
	// servers differ: under a delete with an open end, or in different nested transactions. A server that refuses what etcd
	// takes has another state from then on, so this cannot be an accepted difference; and etcd, having taken it, may
	// panic on what it has written, at once or on a read after compaction.
	OpenDuplicates bool

	// Restarts also stops and starts the candidate.
	Restarts bool

	// Gentle ends no watch stream before everything it has to say was compared.
	Gentle bool
}

const (
	callTimeout = 30 * time.Second      // for one call
	waitTimeout = 20 * time.Second      // for watch replies and events that must come
	resendAfter = 25 * time.Millisecond // a progress request may go unanswered while a watcher catches up: ask again

	// ttlLong is the shortest TTL given to a lease that has to outlive the run, in seconds, and ttlSlack how much of it
	// may have passed when the remaining time is asked for.
	ttlLong  = 20_000
	ttlSlack = 10_000

	// slotBase is where names of leases with server-chosen ids begin. They look like lease ids nobody else would pick.
	slotBase int64 = 0x4b45_454c_0000_0000
	slotEnd  int64 = slotBase + 1<<20
)
