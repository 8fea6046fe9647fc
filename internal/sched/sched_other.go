//go:build !linux

package sched

// Batch is a long stretch of work, from [Begin] until End. The zero Batch has ended.
type Batch struct{}

// Begin says that the goroutine does something long now. The stretch should not wait for anything.
func Begin() Batch { return Batch{} }

// End ends the stretch, if it has not ended. The goroutine is the one that began it.
func (*Batch) End() {}

// RelaxMonitor lets Go's runtime watch over itself less often, where the system can be told so.
func RelaxMonitor() {}
