package sched

import "testing"

// What was never begun can be ended, wherever it runs.
func TestNothingBegun(t *testing.T) {
	var b Batch
	b.End()
	b = Begin()
	b.End()
	b.End()
}
