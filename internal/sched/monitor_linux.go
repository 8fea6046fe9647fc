package sched

import (
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// usualSlack is what the system lets a timer be late by, unless somebody has chosen otherwise.
	usualSlack = 50 * time.Microsecond
	// monitorSlack is how late the monitor of Go's runtime may be. A thread that waits in the system keeps its share of the
	// runtime (one of GOMAXPROCS) for up to twice as long, while others want it; before it was a seventh of a millisecond.
	monitorSlack = time.Millisecond

	// idleThreads run no goroutines: the monitor, and the one that starts threads for goroutines that are held.
	idleThreads = 2
	// passes is how often all threads are looked for: one that comes to rest late is not found, and another one started instead.
	passes = 3
	// settleTime is how long it takes a thread to come to rest.
	settleTime = time.Millisecond
)

// RelaxMonitor lets Go's runtime watch over itself less often, for as long as the process lives. Its monitor is a thread that looks every
// 20 µs, while any other one is at work or waits for a disk, whether somebody is to be preempted. Each look is a timer's
// interrupt and two switches of threads, and a request to a member that has nothing else to do came with five of them.
//
// It is to be called once, before any [Begin] and anything else that holds goroutines on their threads. Where the slack of timers was
// chosen, as by systemd's TimerSlackNSec, or where the program is linked with C, nothing changes.
//
// Timers of other threads are as exact as before, but for the few threads that the monitor itself starts while all others wait in
// the system: a thread is like its maker.
func RelaxMonitor() { relaxMonitor() }

// relaxMonitor returns the threads that were to stay as they were.
func relaxMonitor() (kept map[int]bool) {
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(before) != usualSlack {
		return nil
	}
	// One goroutine at a time, so that all threads but one rest where the runtime finds them before it starts new ones.
	defer restoreProcs(runtime.GOMAXPROCS(1))
	// Only a thread itself may choose its slack, and the monitor runs nothing of ours. So all choose, and those that do run something of
	// ours choose again.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(monitorSlack), 0); errno != 0 {
		return nil
	}
	// The first goroutine that is held makes the runtime start a thread that starts others.
	setSlack(usualSlack)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kept = map[int]bool{unix.Gettid(): true}
	n := int(threads()) - idleThreads - 1
	for range passes {
		time.Sleep(settleTime)                          // who waits for the network hears of this
		pause := unix.NsecToTimespec(int64(settleTime)) // unknown to the scheduler: nobody else runs until all others rest
		_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		for _, id := range eachThread(n, func() { setSlack(usualSlack) }) {
			kept[id] = true
		}
	}
	return kept
}

// restoreProcs lets as many goroutines run at a time as before. Where the runtime chooses how many, it goes on to.
func restoreProcs(before int) {
	if os.Getenv("GOMAXPROCS") != "" {
		runtime.GOMAXPROCS(before)
	} else {
		runtime.SetDefaultGOMAXPROCS()
	}
}

// setSlack is for the thread that calls it. The scheduler is not told of the call to the system, or it could move the goroutine.
func setSlack(d time.Duration) {
	// It was chosen a moment ago, so this can't fail.
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(d), 0)
}

// eachThread calls f on so many threads that run goroutines, the caller's excepted, and returns their numbers. It is called on all at once,
// so that no thread is there twice, and threads that have nothing to do come before new ones.
func eachThread(n int, f func()) (ids []int) {
	var mu sync.Mutex
	var called, ended sync.WaitGroup
	leave := make(chan struct{})
	for range n {
		called.Add(1)
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f()
			mu.Lock()
			ids = append(ids, unix.Gettid())
			mu.Unlock()
			called.Done()
			<-leave
		})
	}
	called.Wait()
	close(leave)
	ended.Wait()
	return ids
}

// threads is how many the process has.
func threads() uint64 {
	sample := []metrics.Sample{{Name: "/sched/threads/total:threads"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
