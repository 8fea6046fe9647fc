// Package sim simulates a cluster of one to seven members and its clients on one goroutine, from one seed.
//
// The members are the real ones, from the replica down to the bytes of their files: replica, raftlog, state.Machine over
// storage and Pebble, leader.Lessor, watch.Hub, and for whole states snapshot and server/datadir. What package node does with goroutines, member does one move at a time, in whatever
// legal order the seed asks for: appends and applies overlap, completions arrive late, several appends share a sync, an
// Apply is cut up. Only the doors are false: the clock, which is the bubble's of testing/synctest, the disks, and the
// network.
//
// # What happens
//
//	world     the calendar of events; the end of the faults
//	host      what lasts from one run of a member to the next: its disk, its clock; starts, ends, pauses
//	member    one run of a member: its moves; reads and chores beside it
//	states    whole states that members give each other: checkpoints, transfers that break, installations
//	fetch     the state that a member with a damaged store asks another one for
//	operator  members that are added, promoted, removed, replaced at their address; leaders that are moved
//	workload  what clients ask for, of any member
//	watchers  clients that watch, on one member after the other
//	network   messages: delayed, lost, repeated, out of order, astray; links cut in one direction or both, slow links
//	disk      files in memory; a crash keeps any part of what was not synced; operations fail when struck
//	model     what the state should be, in the plainest form: pairs, leases, users and roles, the v2 tree
//	registers keys whose operations are recorded as clients see them, for a check that knows nothing of revisions
//	checker   what must be true, after every event and after every start
//	consensus the same for raft's promises; ledger: what each log must hold
//	flaw      places on a disk that do not hold what they should
//	script    a run that is kept: a seed, and which of the things that somebody does there do happen
//	lifetimes the same for leases; roster: for members
//
// A member's process is killed between two events, or in the middle of any operation on the disk, also while it starts,
// flushes or truncates. Then the disk is what a crash leaves of it. Operations on the log fail; the process has to end. It
// stands still for a while, and what it was sent waits for it; or its disk does, for the log, for the store, or just when a vote
// is to be written, and the rest goes on. All crash when one has left. Clocks run fast or slow, and wall clocks jump.
//
// Reads and writes of the log and of the store fail; the process has to end, and starts again. Bits turn in files of either,
// while the process runs and while it does not, and writes to the log go astray. What is read is right, or the process ends,
// or it refuses to start. A member whose store is damaged fetches another one's state, if a quorum of others is sound. What else
// is damaged is given back as it was, for each flaw knows what should be there; or it is thrown away, and then the member is
// removed and another one added.
//
// # What is checked
//
//   - After a crash a log holds exactly what its appends have returned for, and the first some of those under way.
//   - No message promises what its sender's disk never held.
//   - A term has one leader. Entries of equal index and term are equal in all logs, and so is what is before them. A leader
//     has everything that was committed in earlier terms.
//   - What is applied was committed by the rules: a quorum wrote it, or an entry behind it, in its own term.
//   - Every entry has the same results, events and state hash whenever and wherever it is applied, however the log is cut
//     into runs; and results and events are those of the model.
//   - A batch becomes an entry once at most, and never if its proposer was told that it will not.
//   - After every start: all pairs at the newest revisions, leases, keys of leases and counts are those of the model.
//   - A linearizable read, on any member, sees everything that anybody knew when it began, and what it sees is the model's.
//   - Who may do what is what a reference evaluator says, as of the entry; so is what is told of tokens.
//   - Every answer, event and expiry of the v2 tree is the model's, and after every start so are all nodes.
//   - Some order explains what clients have seen of a few keys and of a node of the v2 tree (porcupine finds one).
//   - Views, histories and hashes of pairs stay right while compactions remove what they can.
//   - A lease does not run out early, by the fastest clock there is, nor for a leader of an earlier term; once nobody renews
//     it, it does. What a leader says to a renewal agrees with what was known when it was asked for.
//   - Watchers see what concerns them in order, whole revisions at a time, nothing twice and nothing left out, whichever
//     member they are on and whatever is installed there; no progress is told before the events that it speaks of; and who
//     is cancelled for a compaction had fallen behind it.
//   - Members are those that the changes lead to, and their configuration is the one that decides. Who was removed stays
//     away, and nobody takes what was meant for a former member at its address.
//   - When the faults end for some quorum, it comes back by itself, settles everything that was proposed, and each member of
//     it answers. The rest stays broken.
//
// # Same seed, same trace
//
// After every event the world waits until Pebble's goroutines have come to rest. Flushes happen when the world says so,
// compactions of Pebble's own not at all: with that, what its block cache holds is decided as well, and so is what is read from disks,
// which faults may strike. The tasks of hubs are carried out like everything else. The trace is a hash of all events, state hashes and
// crash images; it is the same for every run of a seed, also under the race detector. A test runs some seeds twice, and compares the
// reads, too.
//
// Calm runs are for what takes long: little is asked for, faults come one by one, leases last for minutes, and a run goes on
// for about an hour.
//
// What somebody does (a request, a fault, a flush, a change of the weather) is drawn from a source of its own, so that a run
// can be had without it: TestMinimise leaves out what a failure does not need, and keeps the rest as a script in testdata,
// which TestGolden runs from then on.
//
// The package is used by its own tests alone. Deliberate bugs (Bugs) show that it sees something.
package sim
