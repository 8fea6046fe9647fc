// Package join brings a new machine into a running cluster with one command: it asks a member who belongs, has itself
// added as a learner that is promoted when it has caught up, and then serves.
//
//	keelson join --peer URL
//	     │
//	     ├─ data already ───────────────────────────────────────────────► serve, as it is
//	     └─ none ──► can we listen? ──► GET URL/members ─┬─ not there ──► MemberAdd ─┬─► serve, as one that joins
//	                                                     ├─ added, never ran ────────┘
//	                                                     └─ has run before ─────────► refused: its data is lost
//
// It owns the choice of name and addresses where none were given, and the conversation with the cluster. It leaves to
// others: what settings mean (config), how members are asked for the list (server/bootstrap), and everything once the
// member serves, which is a function that main gives.
//
// # Invariants
//
//   - A command line can be repeated, at whatever point the run before was cut short.
//   - Nothing is added before it is known that this machine can listen where it says, and nothing is added to a cluster
//     other than the one that the peer URL belongs to.
//   - What a learner needs of the cluster is little: being added changes no quorum.
//
// Main is called once, by main. The package keeps no state and starts no goroutine of its own.
package join
