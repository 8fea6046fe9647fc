// Package sim simulates a member and its clients on one goroutine, from one seed.
//
// The member is the real one, from the replica down to the bytes of its files: replica, raftlog, state.Machine over
// storage and Pebble, leader.Lessor. What package node does with goroutines, member does one move at a time, in whatever
// legal order the seed asks for: appends and applies overlap, completions arrive late, several appends share a sync, an
// Apply is cut up. Only two doors are false: the clock, which is the bubble's of testing/synctest, and the disk.
//
// # What happens
//
//	world     the calendar of events, the faults, starts and ends of the member's process
//	member    one run of the member: moves, reads, chores
//	workload  what clients ask for
//	disk      files in memory; a crash keeps any part of what was not synced; operations fail when struck
//	model     what the state should be, in the plainest form
//	checker   what must be true, after every event and after every start
//
// The process is killed between two events, or in the middle of any operation on the disk, also while it starts, flushes
// or truncates. Then the disk is what a crash leaves of it. Operations on the log fail; the process has to end. Bits of the log
// flip while it is down; it has to refuse, or it did no harm. Failures of the store's files are not told apart from a
// crash: the store must end the process at once, and here it does.
//
// # What is checked
//
//   - The log never ends before an entry that was applied or acknowledged, and holds the same bytes.
//   - Every entry has the same results, events and state hash whenever it is applied, however the log is cut into runs;
//     and results and events are those of the model.
//   - After every start: all pairs at the newest revisions, leases, keys of leases and counts are those of the model.
//   - A linearizable read sees everything that anybody knew when it began, and what it sees is the model's.
//   - Views, histories and hashes of pairs stay right while compactions remove what they can.
//   - A lease does not run out early; once nobody renews it, it does.
//   - When the faults end, the member comes back by itself and answers.
//
// # Same seed, same trace
//
// After every event the world waits until Pebble's goroutines have come to rest. Flushes happen when the world says so,
// compactions of Pebble's own not at all. The trace is a hash of all events, state hashes and crash images; it is the
// same for every run of a seed, also under the race detector. A test runs some seeds twice.
//
// The package is used by its own tests alone. Deliberate bugs (Bugs) show that it sees something.
package sim
