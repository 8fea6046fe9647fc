package sched

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// attr is how the calling thread is scheduled.
func attr(t *testing.T) unix.SchedAttr {
	t.Helper()
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return *a
}

// onThread runs a test on a thread of its own, which ends with it.
func onThread(t *testing.T, test func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		test()
	}()
	<-ended
}

// TestMain tests nothing where the system lets nobody choose how threads are scheduled.
func TestMain(m *testing.M) {
	if os.Getenv(relaxing) != "" {
		relax()
		return
	}
	if before, err := unix.SchedGetAttr(0, 0); err != nil || unix.SchedSetAttr(0, before, 0) != nil {
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A stretch gives way as long as it lasts, and leaves the thread as it was.
func TestStretch(t *testing.T) {
	onThread(t, func() {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 3); err != nil {
			t.Error(err)
			return
		}
		before := attr(t)
		if before.Nice != 3 || before.Policy != unix.SCHED_NORMAL {
			t.Errorf("before: %+v", before)
		}
		for range 2 {
			b := Begin()
			during := attr(t)
			if during.Policy != unix.SCHED_BATCH || during.Nice != 3 || during.Runtime < before.Runtime {
				t.Errorf("during: %+v, before: %+v", during, before)
			}
			if before.Runtime > 0 && during.Runtime <= before.Runtime { // a system that knows turns
				t.Errorf("turns of %d ns, before of %d", during.Runtime, before.Runtime)
			}
			b.End()
			b.End() // nothing is left to end
			if after := attr(t); after != before {
				t.Errorf("after: %+v, before: %+v", after, before)
			}
		}
	})
}

// Stretches of several goroutines know nothing of each other.
func TestStretchIsItsThreadsOwn(t *testing.T) {
	onThread(t, func() {
		b := Begin()
		defer b.End()
		onThread(t, func() {
			if other := attr(t); other.Policy != unix.SCHED_NORMAL {
				t.Errorf("another thread: %+v", other)
			}
		})
	})
}

// Somebody who has chosen how the process is scheduled knows better.
func TestChosenPolicyStays(t *testing.T) {
	for _, policy := range []uint32{unix.SCHED_BATCH, unix.SCHED_IDLE} {
		onThread(t, func() {
			if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: policy}, 0); err != nil {
				t.Error(err)
				return
			}
			chosen := attr(t)
			b := Begin()
			if during := attr(t); during != chosen {
				t.Errorf("during: %+v, chosen: %+v", during, chosen)
			}
			b.End()
			if after := attr(t); after != chosen {
				t.Errorf("after: %+v, chosen: %+v", after, chosen)
			}
		})
	}
}

func BenchmarkStretch(b *testing.B) {
	for b.Loop() {
		s := Begin()
		s.End()
	}
}

// So many stretches at a time hold no thread each.
func TestStretchesAreBounded(t *testing.T) {
	defer func() {
		if n := batches.Load(); n != 0 {
			t.Errorf("%d stretches are left", n)
		}
	}()
	release := make(chan struct{})
	var running, ended sync.WaitGroup
	for range batchesMax {
		running.Add(1)
		ended.Go(func() {
			b := Begin()
			running.Done()
			<-release
			b.End()
		})
	}
	running.Wait()
	b := Begin()
	if a := attr(t); a.Policy != unix.SCHED_NORMAL {
		t.Errorf("one more: %+v", a)
	}
	b.End()
	close(release)
	ended.Wait()
	onThread(t, func() {
		b := Begin()
		if a := attr(t); a.Policy != unix.SCHED_BATCH {
			t.Errorf("when they have ended: %+v", a)
		}
		b.End()
	})
}
