// Package sched tells the operating system which stretches of the process's work are long, so that whoever else wakes goes first.
//
// The answer to a small request is a few short stretches of work, each of which begins when a thread is woken; a list of everything is
// one long stretch. An operating system that knows no more lets the thread that runs go on for some milliseconds before another one that
// wakes has the processor, and that several times for each answer.
//
// Linux knows turns of threads since 6.12 (the slice of its scheduler EEVDF): a thread that wakes goes before one whose turns
// are longer. Elsewhere nothing changes.
//
// And it has Go's own monitor of threads look less often ([RelaxMonitor]).
package sched
