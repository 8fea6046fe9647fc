// Package node is one running member: it gives replica's moves a goroutine each, lets callers wait for what comes of
// their requests, and does a leader's chores.
//
// # Goroutines
//
//	mover     owns the replica: ticks, proposals, reads and what the others report; hands out the effects
//	appender  writes the log: everything that queued up while the last sync ran, under one sync
//	applier   applies committed entries, then settles the results, then publishes events to watchers
//	keeper    what a leader does with the time: expires leases, compacts by schedule; on every member, has states compared
//	sweeper   removes compacted versions from the store, and truncates the log below what the store has on disk
//	tender    keeps a spare segment for the log, and reads old segments again to find damage
//
// The first three make replica's three moves, each of which one goroutine makes at a time: see turn. A request that finds
// nobody at a move makes it itself, so that a write that comes alone waits for the disk and for no other goroutine. So does the goroutine
// that brings a few entries of another member.
//
// The mover never waits for a disk. Every queue between them is bounded: by what raft lets be in flight, by the bytes
// of proposals, by one wake-up at most.
//
// # Order
//
// A batch of commands is first visible to reads, then told to the lease keeper, then its results reach those who wait,
// then its events reach watchers. So whoever has a result can read what it wrote, and renew what it was granted.
//
// An error of the log or of the state ends the member: see Options.Fatal.
package node
