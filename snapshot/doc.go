// Package snapshot carries the files of a checkpoint from one member to another over one stream, so that what comes out
// is the same, byte for byte, or nothing.
//
// It owns the protocol (docs/formats/snapshot-stream.md) and the files of an attempt that was cut off. It leaves to others
// how the stream comes about, what the header says, when a checkpoint is made and removed, whether the received state is
// what it should be, and its activation.
//
//	Send                                        Receive
//	 offer: store, header, names, sizes ──────►  names and sizes checked, Accept asked
//	                          ◄───────────────  have: length and hash of what an earlier attempt left
//	 per file: from where, pieces, hash ──────►  written behind what is there, compared, synced
//	 done                     ──────────────►   directories synced
//	                          ◄───────────────  received
//
// # Invariants
//
//   - Receive returns without an error only if every file has the length and the hash that the sender found when it read
//     the file, is on the disk, and is named there durably; and no other file is in the directory.
//   - What an earlier attempt left counts only as far as its hash is that of the sender's file. It is looked for only
//     under the same store's identity, because files of one store that have the same name begin alike.
//   - No name leads out of the directory. Nothing is allocated because the other side says so: memory grows with what has
//     come, up to the limits. Beyond the offer no more than a piece is held on either side.
//   - An attempt that fails leaves its files for the next one, but none whose sync has failed. There is one attempt at a time, of one store: Receive
//     removes whatever else is in its directory.
//
// Send and Receive each run in their caller's goroutine, with one more that closes the stream when the context ends or
// the other side stands still; it has ended when they return. Any number of Sends may run at the same time, and one
// Receive in each directory.
package snapshot
