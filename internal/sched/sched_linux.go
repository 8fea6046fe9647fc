package sched

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// batchTurn is the length of a turn in a long stretch: the most that Linux takes, so that all others have shorter ones.
const batchTurn = 100 * time.Millisecond

// batchesMax bounds the threads that are held by stretches at a time.
const batchesMax = 64

// batches is how many stretches there are.
var batches atomic.Int32

// Batch is a long stretch of work, from [Begin] until End. The zero Batch has ended.
type Batch struct {
	before *unix.SchedAttr // how the thread is scheduled otherwise; nil: nothing has changed
}

// Begin says that the goroutine does something long now, and holds it on its thread until End. Both together cost two microseconds.
// The stretch should not wait for anything. A process that is scheduled in another way than is usual stays so, and so
// does a stretch beside very many others.
func Begin() Batch {
	if batches.Add(1) > batchesMax {
		batches.Add(-1)
		return Batch{}
	}
	runtime.LockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err == nil && before.Policy == unix.SCHED_NORMAL && before.Flags == 0 {
		batch := unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: before.Nice, Runtime: uint64(batchTurn)}
		if unix.SchedSetAttr(0, &batch, 0) == nil {
			return Batch{before: before}
		}
	}
	runtime.UnlockOSThread()
	batches.Add(-1)
	return Batch{}
}

// End ends the stretch, if it has not ended. The goroutine is the one that began it.
func (b *Batch) End() {
	if b.before == nil {
		return
	}
	err := unix.SchedSetAttr(0, b.before, 0)
	b.before = nil
	batches.Add(-1)
	if err == nil {
		runtime.UnlockOSThread()
	}
	// Otherwise the thread stays the goroutine's, and ends with it.
}
