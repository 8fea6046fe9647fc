package sched

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// relaxing is set for a process that is to relax its monitor, and to say what came of it.
const relaxing = "SCHED_TEST_RELAXING"

// outcome is what came of it.
type outcome struct {
	Possible bool                  // the program is not linked with C
	Procs    [2]int                // GOMAXPROCS before and after
	Before   []int                 // the threads there were before
	Kept     map[int]bool          // those that were to stay as they were
	Own      map[int]time.Duration // the slack of threads that run goroutines, new ones included, as they see it
	InBatch  map[int]time.Duration // the same in a long stretch
	Seen     map[int]time.Duration // the slack of each thread, as far as the system tells
}

// left are the threads that were not kept as they were.
func (o outcome) left() []int {
	return slices.DeleteFunc(slices.Clone(o.Before), func(id int) bool { return o.Kept[id] })
}

// relax is the process itself.
func relax() {
	var o outcome
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETUID, 0, 0, 0)
	o.Possible = errno != syscall.ENOTSUP
	o.Procs[0] = runtime.GOMAXPROCS(0)
	o.Before = tasks()
	o.Kept = relaxMonitor()
	o.Procs[1] = runtime.GOMAXPROCS(0)
	o.Own, o.InBatch = map[int]time.Duration{}, map[int]time.Duration{}
	var mu sync.Mutex
	eachThread(threads()+20, func() {
		own := slack()
		b := Begin()
		defer b.End()
		mu.Lock()
		defer mu.Unlock()
		o.Own[unix.Gettid()], o.InBatch[unix.Gettid()] = own, slack()
	})
	o.Seen = map[int]time.Duration{}
	for _, id := range tasks() {
		if text, err := os.ReadFile("/proc/" + strconv.Itoa(id) + "/timerslack_ns"); err == nil {
			ns, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			o.Seen[id] = time.Duration(ns)
		} else if !errors.Is(err, fs.ErrPermission) {
			panic(err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		panic(err)
	}
}

// tasks are the threads of the process.
func tasks() (ids []int) {
	names, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		id, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			panic(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// inProcess relaxes the monitor of another process, which inherits the slack of timers from this thread.
func inProcess(t *testing.T, env ...string) (o outcome, ok bool) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GOMAXPROCS=") })
	c.Env = append(append(c.Env, relaxing+"=yes"), env...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err == nil {
		err = json.Unmarshal(out, &o)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
		return o, false
	}
	if len(o.Own) < 20 {
		t.Errorf("%d threads were seen", len(o.Own))
	}
	if o.Procs[0] != o.Procs[1] {
		t.Errorf("%d goroutines may run at a time, %d before", o.Procs[1], o.Procs[0])
	}
	return o, true
}

// withSlack runs a test on a thread that lets timers be so late.
func withSlack(t *testing.T, d time.Duration, test func()) {
	t.Helper()
	onThread(t, func() {
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(d), 0, 0, 0); err != nil {
			t.Error(err)
			return
		}
		test()
	})
}

// The monitor looks less often, and nobody else waits longer than before.
func TestRelaxMonitor(t *testing.T) {
	for _, env := range []string{"GOMAXPROCS=", "GOMAXPROCS=7", "GOMAXPROCS=none"} {
		withSlack(t, usualSlack, func() {
			o, ok := inProcess(t, env)
			for try := 0; ok && o.Possible && len(o.left()) != 1 && try < 5; try++ {
				o, ok = inProcess(t, env) // on a busy machine a thread may be missed, once in some hundreds of times
			}
			if !ok {
				return
			}
			if env == "GOMAXPROCS=7" && o.Procs[1] != 7 {
				t.Errorf("%s: %d", env, o.Procs[1])
			}
			if !o.Possible {
				if len(o.Kept) > 0 {
					t.Errorf("in a program linked with C %v were kept from something", o.Kept)
				}
				return
			}
			for id := range o.Kept {
				if own, ok := o.Own[id]; ok && own != usualSlack {
					t.Errorf("thread %d runs goroutines with %v", id, own)
				}
				if seen, ok := o.Seen[id]; ok && seen != usualSlack {
					t.Errorf("thread %d is seen with %v", id, seen)
				}
			}
			others := o.left()
			if len(others) != 1 {
				t.Errorf("of the threads %v were not kept as they were: one should be the monitor", others)
				return
			}
			if seen, ok := o.Seen[others[0]]; ok && seen != monitorSlack { // the system tells an ordinary user nothing
				t.Errorf("the monitor is seen with %v", seen)
			}
			checkLater(t, o)
		})
		if t.Failed() {
			return
		}
	}
}

// checkLater holds the threads that were started later against those that were there. Only the few that the monitor itself has started may be
// like it, until their first long stretch.
func checkLater(t *testing.T, o outcome) {
	t.Helper()
	like := 0
	for id, own := range o.Own {
		if own != usualSlack {
			like++
		}
		if o.InBatch[id] != usualSlack {
			t.Errorf("thread %d is in a long stretch with %v", id, o.InBatch[id])
		}
	}
	if like > len(o.Own)/2 {
		t.Errorf("%d threads of %d are like the monitor", like, len(o.Own))
	}
}

// Somebody who has chosen how late timers may be knows better.
func TestChosenSlackStays(t *testing.T) {
	const chosen = 70 * time.Microsecond
	withSlack(t, chosen, func() {
		o, _ := inProcess(t)
		for _, view := range []map[int]time.Duration{o.Seen, o.Own, o.InBatch} {
			for id, slack := range view {
				if slack != chosen {
					t.Errorf("thread %d has %v", id, slack)
				}
			}
		}
	})
}

// A thread that is like the monitor is so until its first long stretch, where the monitor was relaxed.
func TestStretchRepairs(t *testing.T) {
	defer relaxed.Store(relaxed.Load())
	for _, repairs := range []bool{false, true} {
		withSlack(t, monitorSlack, func() {
			relaxed.Store(repairs)
			b := Begin()
			b.End()
			if got := slack(); (got == usualSlack) != repairs {
				t.Errorf("%v after a stretch (repairs: %t)", got, repairs)
			}
		})
	}
}
