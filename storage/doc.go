// Package storage is the door to Pebble: batches, iterators, checkpoints, and the one map of key spaces.
//
// One Pebble database holds everything a member's state machine knows. Its write-ahead log is off: the raft log is the
// write-ahead log, and what Pebble loses in a crash is applied again from there. What a crash leaves is therefore always
// a prefix of the committed batches, in order; DB.Durable reads from that prefix alone.
//
// A batch is written by the state machine's Apply, and by nobody else, with one exception: the removal of versions
// that a compaction has put below the floor, which no reader can see any more.
//
// # Physical keys
//
// Every key is a space byte, the logical key, a zero byte and, in the Versions space only, a version suffix:
//
//	space(1) | key(n) | 0x00 [ | main revision(8, big endian) [ | sub revision(4, big endian, left out if 0) ] | suffix length(1) ]
//
// The comparer is Pebble's own cockroachkvs: byte order over the keys (which need no escaping), then newest version
// first, under Pebble's Split, so that bloom filters and NextPrefix work by key.
//
// A checkpoint is a copy of the database by hard links; IsCheckpointFile knows the names that it is made of.
//
// The package decides nothing about meaning: what the values hold is the business of the packages under state. It is
// safe for concurrent use; a Batch and an Iter belong to one goroutine.
package storage
