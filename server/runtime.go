package server

import (
	"os"
	"runtime"
	"runtime/debug"

	"keelson/internal/hugepage"
	"keelson/internal/sched"
)

// gcPercent is how much the heap may grow between two collections, in percent of what is alive: twice the default, which halves
// the collector's work. Most of what is alive are the store's memtables and its cache, which the collector counts but does not look
// into.
const gcPercent = 200

// fewCores is up to how many cores the store's background work can take all of them.
const fewCores = 8

// relaxedThreads is how many threads may be at work at a time, at least, where one of them is not missed that waits in the system for a
// millisecond too long. Two cores have as many.
const relaxedThreads = 4

// tuneRuntime adapts the Go runtime to what the program does, unless the environment says how it is to be.
//
// Flushes and compactions of the store are long stretches of computing. Go's scheduler lets each have a core for 10 ms at a
// time, and a request that wakes meanwhile waits; the operating system's lets who wakes go first. So on few cores there are
// two threads more than cores. Measured on 2 cores, puts at 100 in flight during a compaction: p99 33.6 ms without, 13.6 ms
// with.
//
// Where there are enough threads for a few to wait in the system, Go's monitor looks after them less often (docs/decisions/relaxed-monitor.md).
// The heap is in huge pages (docs/decisions/huge-pages.md).
func tuneRuntime() {
	hugepage.Back()
	threads := runtime.GOMAXPROCS(0)
	tuned := os.Getenv("GOMAXPROCS") == "" && threads <= fewCores
	if tuned {
		threads = min(2*threads, threads+2)
	}
	if threads >= relaxedThreads {
		sched.RelaxMonitor()
	}
	if tuned {
		runtime.GOMAXPROCS(threads)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
