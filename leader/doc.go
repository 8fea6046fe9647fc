// Package leader holds what only a leader does: it is told the time and what has been applied, and says which commands
// to propose.
//
// Lessor counts the time of leases. It owns their expiries, which exist nowhere else: the log knows only what was
// granted. Compactor decides when to compact, and to which revision. Integrity has the members' state hashes compared, finds
// out who is corrupt, and raises the alarms; on members that do not lead it answers what others state.
//
// All are pure. They read no clock, start nothing and propose nothing: every method is told the time, as monotonic time
// since some fixed moment in this process, and the caller proposes what they return. They are told again what has become
// of it through what is applied, and offer it again if nothing has: a proposal that is lost costs time, nothing else.
//
// None is safe for concurrent use; package node keeps each behind one lock. The same calls give the same answers, in
// the simulator too: nothing depends on the order of a map.
//
// # A lease on the leader
//
//	Granted, Promote ──► running ── its time is up ──► expired ── Expired returns a revoke ──► revoking
//	                      │   ▲                           ▲                                       │
//	                      └───┘ Renew                     └────── nothing for RetryInterval ──────┘
//
//	each of them ── Revoked ──► gone
//
// Expired and revoking leases can't be renewed: the revoke may be in the log already, and a renewal must not promise
// what the log denies. Whoever asks is told Pending and has to wait for the outcome.
package leader
