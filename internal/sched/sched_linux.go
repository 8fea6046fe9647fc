package sched

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// batchTurn is the length of a turn in a long stretch. It is longer than the usual ones, which are up to 3 ms, and no longer than
// needed: beside programs that take all there is, a thread waits in one piece for what it has had in one.
const batchTurn = 10 * time.Millisecond

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
	if relaxed.Load() {
		setSlack(usualSlack) // it may be one that the monitor has started
	}
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
	before := b.before
	b.before = nil
	batches.Add(-1)
	err := unix.SchedSetAttr(0, before, 0)
	if err != nil {
		// Somebody has made the process nicer meanwhile, and may not be undone.
		if now, e := unix.SchedGetAttr(0, 0); e == nil {
			before.Nice = now.Nice
			err = unix.SchedSetAttr(0, before, 0)
		}
	}
	if err == nil {
		runtime.UnlockOSThread()
	}
	// Otherwise the thread stays the goroutine's, and ends with it.
}
