// Package etcddir reads what an etcd leaves on disk when it stops or is killed: which database holds its pairs, what its raft
// log holds beyond that, and the newest snapshot of its v2 store. With package etcdfile it is the door in from a data directory.
//
// It owns the layout of the directory, the records of the log and the envelope of a snapshot (docs/formats/etcd-directory.md).
// What the entries mean is left to the caller (state.Import): here they come out as raft has them.
// A Store can be filled by hand, too, with what comes from elsewhere (NewStore, Put).
//
// It is the door out as well: Found makes the directory of a member that is founded with a store, on which an etcd starts.
//
//	Open ─► Snapshot, Database ─► Log ─► entries, in order, without those that were replaced
//
// Nothing in a directory that is read is changed. Everything is treated as bytes from outside: whatever is in it leads to an error at worst,
// but for an unfinished write at the very end of the log, which a crash leaves and which nobody was promised.
//
// A Dir belongs to one goroutine. Anybody may use the package; it knows nothing else of this project.
package etcddir
