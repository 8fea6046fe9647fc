package sched

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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

// relaxed is what came of it.
type relaxed struct {
	Possible bool                  // the program is not linked with C
	Before   []int                 // the threads there were before
	Kept     map[int]bool          // those that were to stay as they were
	Slack    map[int]time.Duration // of each thread, as far as the system tells
	Own      map[int]time.Duration // of those that run goroutines, as they see it
}

// relax is the process itself.
func relax() {
	var r relaxed
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETUID, 0, 0, 0)
	r.Possible = errno != syscall.ENOTSUP
	r.Before = tasks()
	r.Kept = relaxMonitor()
	r.Own = map[int]time.Duration{}
	var mu sync.Mutex
	for range 3 {
		eachThread(int(threads()), func() {
			b := Begin()
			defer b.End()
			slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
			if err != nil {
				panic(err)
			}
			mu.Lock()
			defer mu.Unlock()
			r.Own[unix.Gettid()] = time.Duration(slack)
		})
	}
	r.Slack = map[int]time.Duration{}
	for _, id := range tasks() {
		if text, err := os.ReadFile("/proc/" + strconv.Itoa(id) + "/timerslack_ns"); err == nil {
			ns, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			r.Slack[id] = time.Duration(ns)
		} else if !errors.Is(err, fs.ErrPermission) {
			panic(err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
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
func inProcess(t *testing.T) (r relaxed) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), relaxing+"=yes")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(r.Own) < 4 {
		t.Errorf("%d threads were seen", len(r.Own))
	}
	return r
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
	for range 3 { // threads come and go as they please
		withSlack(t, usualSlack, func() {
			r := inProcess(t)
			if !r.Possible {
				if len(r.Kept) > 0 {
					t.Errorf("in a program linked with C %v were kept from something", r.Kept)
				}
				return
			}
			for id := range r.Kept {
				if own, ok := r.Own[id]; ok && own != usualSlack {
					t.Errorf("thread %d runs goroutines with %v", id, own)
				}
				if seen, ok := r.Slack[id]; ok && seen != usualSlack {
					t.Errorf("thread %d is seen with %v", id, seen)
				}
			}
			others := slices.DeleteFunc(r.Before, func(id int) bool { return r.Kept[id] })
			if len(others) != 1 {
				t.Errorf("of the threads %v were not kept as they were: one should be the monitor", others)
				return
			}
			if seen, ok := r.Slack[others[0]]; ok && seen != monitorSlack { // the system tells an ordinary user nothing
				t.Errorf("the monitor is seen with %v", seen)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// Somebody who has chosen how late timers may be knows better.
func TestChosenSlackStays(t *testing.T) {
	const chosen = 70 * time.Microsecond
	withSlack(t, chosen, func() {
		r := inProcess(t)
		for _, seen := range []map[int]time.Duration{r.Slack, r.Own} {
			for id, slack := range seen {
				if slack != chosen {
					t.Errorf("thread %d has %v", id, slack)
				}
			}
		}
	})
}
