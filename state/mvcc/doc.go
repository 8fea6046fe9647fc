// Package mvcc holds the pairs: keys, revisions, ranges and compaction.
//
// It owns two tables and two records of storage.Meta (drawn in record.go and docs/formats/state.md):
//
//	versions   key, newest version first -> create revision, version, lease, value; or a tombstone
//	changes    revision, sub-revision    -> key, put or delete, the live version it replaced; several of an entry in one record
//
// There is no index of keys in memory: a list is a scan of versions, history and compaction are scans of changes. What
// is in memory is a bounded cache of newest versions, for the read before every put and for hot gets, and a bounded
// number of fences between which keys are counted.
//
// It knows nothing of leases but their ids, of users, of the log, of watchers. Package state joins it with those.
//
// # Flow
//
// Writing belongs to state.Machine.Apply, one goroutine:
//
//	Begin(batch) ─► Put, DeleteRange, Get, Range, EndCommand, Compact, EndEntry ... ─► Finish ─► batch.Commit ─► Publish ─► events
//
// Everything goes into the batch that also holds the applied index. A command that changes anything makes exactly one
// revision; its changes are numbered from 0 within it. Publish makes the new revision visible, cache first; events are
// handed on only after it, so whoever hears of a revision can read it.
//
// Reading is for any goroutine and never waits for the writer: View pins a published revision and floor, Range, Get
// and Cursor read through it, Changes reads history for watchers that catch up.
//
// Compact only moves the floor, the oldest revision that can be read. CompactStep, called by one goroutine at its own
// pace, removes later what the floor has made unreadable, in small batches of its own that carry how far they came;
// see removal for its states. It never removes what an open view can still read.
//
// # Invariants
//
//   - The state is a function of the commands. Time, chance, the cache, how far removal has come, how commands are
//     grouped into runs: nothing of that can be seen in an answer, an event or a hash.
//   - Revisions count up by one, never go back, and start at 1 for the empty store.
//   - Each version at or above the floor is in versions, and so is each that is the newest below it and live. Each change
//     at or above the floor is in changes. So a watcher that starts at the floor misses nothing, deletes included.
//   - A change names the live version it replaced, so that compaction costs what changed, not what is stored.
//   - Pairs and events that a Tx or View.Get gives are immutable. Those that a Range, a Cursor or Changes gives are
//     valid only during the call.
package mvcc
