// Package command holds the words of the log: an envelope, and one message for each thing that can change.
//
// A command is everything the state machine is told. Whatever depends on time, chance, local settings or the member
// that took the request was decided before and stands in a field: ids, stamps, clamped TTLs. So two members that
// apply the same commands in the same order hold the same state.
//
// Commands travel in batches: one raft entry carries one batch. The package knows how both look as bytes (see
// docs/formats/command.md) and nothing about what they mean. It is pure: no clock, no I/O, no shared state. Decoded
// commands alias the bytes they were decoded from, which must not change afterwards.
package command
