// Package dev runs a whole cluster on one machine, for development: every member is a child process of its own, with its
// own data directory, log file and ports, and can be killed, paused and started again from a prompt.
//
//	typed lines, signals ─┐
//	ends of processes ────┼──► fleet (one goroutine decides) ──► members: start, signal, forget
//	answers of members ───┘          │
//	                                 └──► screen: a block redrawn in place, or plain lines
//
// It owns the plan (which member listens where), the child processes and what is shown. It leaves to others: being a
// member, which the same binary does under another word, and everything that members decide among themselves. What it
// shows it asks the members for, over their own API; it knows nothing of this project's packages and speaks the wire.
//
// # Invariants
//
//   - No member outlives the process that started it. An orderly end stops them all. If this process is killed, each
//     child reads the end of its standard input and stops (Member); where the system can, it is killed at once instead
//     (child_deathsig.go). A member that was stopped with SIGSTOP is continued by the system in that case.
//   - A data directory belongs to one plan, which its first start writes down (docs/formats/dev.md). A later start
//     with other settings is refused: the addresses of the members are part of the cluster's state.
//   - A member that ended by itself stays down and says why, unless restarts were asked for.
//
// Main and Member are called once, by main, from the main goroutine. Every goroutine that Main starts has ended when it
// returns, but for the one that reads standard input, which nothing can interrupt.
package dev
