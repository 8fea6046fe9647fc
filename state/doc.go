// Package state is the deterministic machine: committed entries in, results and events out, and views to read from.
//
// It joins the packages below it, which do not know of each other: pairs (mvcc), leases, members, alarms. What joins
// them is a few lines here: a put that hangs its key on a lease, a revoke that deletes keys, an alarm that forbids. It
// owns one record of its own, how far the log has been applied, with the hash of everything that was.
//
//	entries ──► Apply ──► one storage batch: pairs, leases, members, alarms, applied position and hash
//	              │            │ commit
//	              │            ▼
//	              │       published: View, Applied, StateHash see it
//	              ▼
//	           Outcome: results for those who wait, events for watchers, lease changes for the leader
//
// # Invariants
//
//   - The state changes in Apply and nowhere else. What Apply does depends on the state and the entries alone: not on
//     time, chance, settings, or which member this is, nor on how the entries are cut into calls.
//   - All effects of an entry, and that it has been applied, are in one batch. After a crash the database holds a prefix
//     of the batches; applying the rest of the log again leads to the same state and the same hash.
//   - A refused command changes nothing but the applied position and the hash.
//   - Nothing that decodes makes Apply panic or fail. It fails when the disk does, or when an entry does not decode;
//     then the member has to stop.
//   - Install brings a state of the same cluster that is not older, and all of it: pairs, leases, members, alarms, hash.
//     Whoever holds a View, and whatever is under way, keeps the old database until it ends; nothing mixes the two.
//   - The hash folds, entry by entry, what was asked, what was answered, every changed pair, and the membership whenever
//     it changes. Members with equal applied index have equal hashes.
//   - A member is added, removed or promoted in the same entry, and so in the same batch, as raft's configuration changes.
//     What raft can't follow is refused here, and what is refused here (Outcome.ConfRefused) raft does not follow.
//
// # Who may call
//
// One goroutine applies (Apply), and replaces the whole state by another (Install). View, the readers of a View, and the other readers of Machine may be called from
// anywhere, and never wait for Apply or make it wait. CompactStep, which removes what nobody can read any more, belongs
// to one goroutine of its own.
package state
