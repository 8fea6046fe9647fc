// Package alarm stores which alarms are raised, by member and type.
//
// It owns the table Alarms, whose keys say everything and whose values are empty. The alarms are kept in memory as well,
// as an immutable Set; a Tx writes to the batch of Apply and leaves a new Set behind, which package state publishes once
// the batch is committed. What an alarm forbids is for package state to know; whether to raise one, for the proposer.
package alarm
