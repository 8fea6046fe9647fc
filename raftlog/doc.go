// Package raftlog keeps what raft must not forget, the entries and the hard state, on disk.
//
// It owns one directory of segment files, the format of their records, the proof that decides what may be cut off
// after a crash, and a small index in memory. It leaves to others: what is inside an entry, when to append or
// truncate, the lock on the data directory, the configuration and snapshots (the other half of raft.Storage), and
// stopping the process when it reports a failure.
//
// In flow batches of entries and hard states from raft, out flow the same entries, terms and the last hard state.
// The format, and the argument for every crash case, is in docs/formats/raftlog.md.
//
// # Invariants
//
//   - What Append returned nil for survives any crash, unless it was replaced by a later Append or truncated away.
//   - Entries, Term, LastIndex and HardState show a batch only after its Append has returned from the sync (a batch
//     that needs no sync: from the write).
//   - After Open, FirstIndex-1 <= HardState().Commit <= LastIndex.
//   - Bytes behind the last record of the newest segment are zero, on disk too.
//   - No byte is ever given up without proof that nobody was told of it. Everything doubtful refuses to open.
//   - After the first failure of the disk the log is poisoned: it returns that failure for ever, and the caller
//     stops the process. It never tries again.
//
// # Who may call what from where
//
// One goroutine, the append move, calls Append, MarkIdle and Reset. Any goroutine calls Entries, Term, FirstIndex,
// LastIndex, HardState and Size at any time. Truncate, Prepare and Scrub may run on goroutines of their own, beside
// all of these. Close comes last, when nobody else calls any more. The package starts no goroutines and reads no
// clock.
package raftlog
