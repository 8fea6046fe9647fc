package sched

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// usualSlack is what the system lets a timer be late by, unless somebody has chosen otherwise.
	usualSlack = 50 * time.Microsecond
	// monitorSlack is how late the monitor of Go's runtime may be.
	monitorSlack = time.Millisecond

	// passesMax bounds how often threads are looked for that still have the monitor's slack. One that comes to rest late is not found, and
	// another one is started instead.
	passesMax = 10
	// settleTime is how long it takes a thread to come to rest, on a machine that is not busy.
	settleTime = time.Millisecond
)

// relaxed says that some threads may have the monitor's slack.
var relaxed atomic.Bool

// RelaxMonitor lets Go's runtime watch over itself less often, for as long as the process lives. Its monitor is a thread that looks every
// 20 µs, while any other one is at work or waits for a disk, whether somebody is to be preempted. Each look is a timer's
// interrupt and two switches of threads, and a request to a member that has nothing else to do came with five of them.
//
// A thread that waits in the system keeps its share of the runtime (one of GOMAXPROCS) for up to 2 ms then, while others want it, where it
// was a seventh of a millisecond: there should be more shares than threads that wait.
//
// It is to be called once, before any [Begin] and anything else that holds goroutines on their threads. Where the slack of timers was
// chosen, as by systemd's TimerSlackNSec, or where the program is linked with C, nothing changes. Timers of other threads are as
// exact as before. A thread that waits in the system meanwhile may be missed, or on a busy machine one that comes to rest late; and the
// monitor, which starts one when none is at rest, starts it in its own likeness. Those have timers like the monitor's until their
// first long stretch.
func RelaxMonitor() { relaxMonitor() }

// relaxMonitor returns the threads that were to stay as they were.
func relaxMonitor() (kept map[int]bool) {
	if slack() != usualSlack {
		return nil
	}
	// One goroutine at a time, so that all threads but one rest where the runtime finds them before it starts new ones.
	defer restoreProcs(runtime.GOMAXPROCS(1))
	// Only a thread itself may choose its slack, and the monitor runs nothing of ours. So all choose, and those that do run something of
	// ours choose again.
	if !setSlackOfAll(monitorSlack) {
		return nil
	}
	relaxed.Store(true)
	total := threads()
	// The first goroutine that is held makes the runtime start a thread, which then starts others in its likeness.
	setSlack(usualSlack)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if slack() != usualSlack { // the goroutine was moved in between, and the new thread is like the wrong one
		setSlackOfAll(usualSlack)
		return nil
	}
	kept = map[int]bool{unix.Gettid(): true}
	for range passesMax {
		if len(kept) >= total-1 { // all but the monitor
			break
		}
		time.Sleep(settleTime) // wakes a thread that waits for the network
		restUndisturbed()
		for _, id := range repair(total - 2) {
			kept[id] = true
		}
	}
	return kept
}

// restUndisturbed waits without a word to the scheduler, which has nobody run meanwhile: those that are on their way to rest arrive.
func restUndisturbed() {
	pause := unix.NsecToTimespec(int64(settleTime))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
}

// restoreProcs lets as many goroutines run at a time as before. Where the runtime chooses how many, it goes on to.
func restoreProcs(before int) {
	if n, err := strconv.Atoi(os.Getenv("GOMAXPROCS")); err == nil && n > 0 {
		runtime.GOMAXPROCS(before)
	} else {
		runtime.SetDefaultGOMAXPROCS()
	}
}

// setSlackOfAll is for all threads. It reports whether that was possible.
func setSlackOfAll(d time.Duration) bool {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(d), 0)
	return errno == 0
}

// setSlack is for the thread that calls it. The scheduler is not told of the call to the system, or it could move the goroutine.
func setSlack(d time.Duration) {
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(d), 0)
}

// slack is that of the thread that calls it; 0 if there is none.
func slack() time.Duration {
	ns, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0)
	if errno != 0 {
		return 0
	}
	return time.Duration(ns)
}

// repair gives n threads, other than the caller's, the usual slack, and returns those that had the monitor's.
func repair(n int) (ids []int) {
	var mu sync.Mutex
	eachThread(n, func() {
		if slack() != monitorSlack {
			return
		}
		setSlack(usualSlack)
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, unix.Gettid())
	})
	return ids
}

// eachThread calls f on n threads that run goroutines, the caller's excepted: on all at once, so that no thread is there twice, and
// those that have nothing to do come before new ones.
func eachThread(n int, f func()) {
	var called, ended sync.WaitGroup
	leave := make(chan struct{})
	for range n {
		called.Add(1)
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f()
			called.Done()
			<-leave
		})
	}
	called.Wait()
	close(leave)
	ended.Wait()
}

// threads is how many the process has.
func threads() int {
	sample := []metrics.Sample{{Name: "/sched/threads/total:threads"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}
