// Package replica is one member's part in consensus: raft driven by hand, as an event machine.
//
// An event goes in (a tick, a message, a proposal, "that append is on disk", "these entries are applied") and effects
// come out (append and sync, send, apply, install, answers to reads). Replica owns the raft.RawNode, the order in which
// its work is handed out, and the batching of linearizable reads. It starts no goroutine, does no I/O, reads no clock
// and draws nothing by chance but raft's election timeouts. The package node runs the effects on goroutines of their
// own; the simulator runs the same effects on one goroutine in an order that a seed chooses.
//
// # What flows
//
//	            Tick, Message, Propose, ReadIndex ──► ┌─────────┐ ──► Send, ProposalDropped
//	                                                  │ Replica │ ──► ReadReady, ReadsDropped, LeaderChanged
//	┌─ append move: raftlog, one sync for many ◄───── │         │
//	└──────────── AppendDone, in order ─────────────► │         │ ──► Apply ──► apply move: state.Machine ─┐
//	                                                  └─────────┘ ◄───────── ApplyDone, in order ──────────┘
//
// Three queues leave the machine and each is served in order: Append and Install effects by one party, Apply effects by
// another, Send by a third, which alone may lose, repeat or reorder. The first two may overlap as they please. A failed
// write has no event: the member stops.
//
// # Invariants
//
//   - A message that promises something to be on disk (a vote, an acknowledged append, also this member's own towards
//     its own quorum) is held inside its Append and goes out only through AppendDone. There is no other way out for it.
//   - Only entries that are on this member's disk are handed to Apply.
//   - At most one conf change is inside an Apply, as its last entry, and nothing is applied beyond it before its
//     ApplyDone said whether it took effect.
//   - A read is answered with an index that was committed after the read arrived, by a leader that had committed an entry
//     of its own term; each attempt has a context that no other attempt, not even of an earlier run, had or will have.
//
// A Replica belongs to one goroutine. What it hands out may be read by other goroutines while Step runs again: the
// entries and messages in effects are never changed afterwards, by either side.
package replica
