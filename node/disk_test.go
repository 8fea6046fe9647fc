package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"keelson/command"
	"keelson/env"
	"keelson/raftlog"
)

// untilMax is how long something is waited for that has to happen; it passes only in a test that fails.
const untilMax = 2 * time.Minute

// until waits for something that happens on another goroutine.
func until(done func() bool) {
	for end := time.Now().Add(untilMax); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			_, file, line, _ := runtime.Caller(1)
			panic(fmt.Sprintf("%s:%d: waited in vain", file, line))
		}
	}
}

// fill writes so many values of 64 KiB.
func (r *rig) fill(values int) {
	r.t.Helper()
	for range values {
		r.propose(&command.Put{Key: []byte("a"), Value: bytes.Repeat([]byte("v"), 64<<10)})
	}
}

// faulty is a file system whose faults begin when it is armed.
func faulty(armed *atomic.Bool, fault func(errorfs.Op) error) vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !armed.Load() {
			return nil
		}
		return fault(op)
	}))
}

// F1: after a failed sync nothing is acknowledged any more, nothing of what hung on it is seen, and the member ends.
func TestFailedSyncEndsTheMember(t *testing.T) {
	var armed atomic.Bool
	fs := faulty(&armed, func(op errorfs.Op) error {
		if strings.Contains(op.Path, "wal") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return syscall.EIO
		}
		return nil
	})
	r := newRigOn(t, fs, "/", 1<<20, nil)
	r.propose(&command.Put{Key: []byte("a"), Value: []byte("1")})
	armed.Store(true)
	if _, err := r.node.Propose(context.Background(), &command.Put{Key: []byte("a"), Value: []byte("2")}); !errors.Is(err, ErrStopped) {
		t.Errorf("propose: %v", err)
	}
	if err := <-r.fatal; !errors.Is(err, syscall.EIO) {
		t.Errorf("the member ends with %v", err)
	}
	r.node.done.Wait()
	view := r.node.ReadLocal()
	if kv, err := view.Get([]byte("a")); err != nil || string(kv.Value) != "1" {
		t.Errorf("a is %v, %v", kv, err)
	}
	view.Close()
	if view, err := r.node.Read(context.Background()); !errors.Is(err, ErrStopped) {
		if err == nil {
			view.Close()
		}
		t.Errorf("read: %v", err)
	}
}

// What replica panics with when the log can't be read is a failure of the disk; other panics are not caught.
func TestFailedReadEndsTheMember(t *testing.T) {
	r := newRig(t, nil)
	want := errors.New("replica: read entries 5..9: unreadable")
	func() {
		defer r.node.diskFailure()
		panic(want)
	}()
	if err := <-r.fatal; err != want {
		t.Errorf("the member ends with %v", err)
	}
	defer func() {
		if recover() != "broken invariant" {
			t.Error("a broken invariant was caught")
		}
	}()
	func() {
		defer r.node.diskFailure()
		panic("broken invariant")
	}()
}

// A log without work is marked: one more sync, which no append asked for.
func TestIdleLogIsMarked(t *testing.T) {
	r := newRig(t, nil)
	for range 3 {
		before := r.syncs.Load()
		r.propose(&command.Put{Key: []byte("a"), Value: []byte("1")})
		until(func() bool { return r.syncs.Load() >= before+2 }) // that of the write, and that of the mark
	}
}

func TestIdleTimer(t *testing.T) {
	timer := newIdleTimer(env.SystemClock())
	defer timer.timer.Stop()
	if !timer.elapsed() || timer.runs {
		t.Error("it does not elapse without work")
	}
	timer.worked()
	if !timer.runs || timer.elapsed() {
		t.Error("it elapses right after work")
	}
	if !timer.elapsed() {
		t.Error("it does not elapse after a while without work")
	}
}

// The next segment is ready before it is needed.
func TestSpareSegment(t *testing.T) {
	r := newRig(t, nil)
	r.fill(70)
	until(func() bool {
		names, err := r.fs.List("/wal")
		r.must(err)
		for _, name := range names {
			if strings.Contains(name, "tmp") {
				return true
			}
		}
		return false
	})
}

// A full disk is no failure of the log as long as nothing depends on the space.
func TestNoSpaceForTheSpare(t *testing.T) {
	told := make(chan error, 10)
	var armed atomic.Bool
	fs := faulty(&armed, func(op errorfs.Op) error {
		if strings.Contains(op.Path, "tmp") {
			return syscall.ENOSPC
		}
		return nil
	})
	r := newRigOn(t, fs, "/", 8<<20, func(o *Options) { o.Observe.NoSpare = func(err error) { told <- err } })
	armed.Store(true)
	r.fill(70)
	if err := <-told; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("told of %v", err)
	}
	r.fill(1)
}

// F7: damage in an old part of the log is found without anybody reading it, and ends the member.
func TestScrubFindsDamage(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Scrub = ScrubOptions{Bytes: 16 << 10, Pause: time.Millisecond, Rest: time.Millisecond}
	})
	r.fill(40)
	names, err := r.fs.List("/wal")
	r.must(err)
	oldest := names[0]
	for _, name := range names {
		oldest = min(oldest, name)
	}
	f, err := r.fs.OpenReadWrite(r.fs.PathJoin("/wal", oldest), vfs.WriteCategoryUnspecified)
	r.must(err)
	_, err = f.WriteAt([]byte("damage"), 300<<10)
	r.must(err)
	r.must(f.Close())
	if err := <-r.fatal; !errors.Is(err, raftlog.ErrCorrupt) || !strings.Contains(err.Error(), oldest) {
		t.Errorf("the member ends with %v", err)
	}
}

// A scrub of a sound log, again and again beside rotation and truncation, finds nothing.
func TestScrubOfASoundLog(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Scrub = ScrubOptions{Bytes: 16 << 10, Pause: time.Microsecond, Rest: time.Microsecond}
	})
	for range 4 {
		r.fill(10)
		r.must(r.db.Flush())
		r.node.Sweep()
	}
	select {
	case err := <-r.fatal:
		t.Error(err)
	default:
	}
}

// The log is cut while a long removal of compacted versions goes on.
func TestLogIsTruncatedDuringRemoval(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Sweep = SweepOptions{Records: 1, Pause: 100 * time.Millisecond} })
	for range 300 {
		r.propose(&command.Put{Key: []byte("a"), Value: []byte("1")})
	}
	r.propose(&command.Compact{Revision: 300})
	until(func() bool { return len(r.node.sweep) == 0 })
	r.fill(40)
	r.must(r.db.Flush())
	r.node.Sweep()
	until(func() bool { first, _ := r.log.FirstIndex(); return first > 10 })
	if swept, _ := r.node.sweeps.at(); swept >= 300 {
		t.Error("the log was cut only after the removal")
	}
}

// A restart does not report the compactions of earlier runs, but those of its own, also if they have nothing to remove.
func TestReportOfCompactions(t *testing.T) {
	reports := make(chan int64, 10)
	r := newRig(t, func(o *Options) {
		o.Observe.Compacted = func(floor int64, _ int, _ time.Duration) { reports <- floor }
	})
	compact := func(revision int64) {
		t.Helper()
		r.propose(&command.Put{Key: []byte(fmt.Sprint(revision)), Value: []byte("1")})
		r.propose(&command.Compact{Revision: revision})
		if got := <-reports; got != revision {
			t.Errorf("reported %d, want %d", got, revision)
		}
	}
	compact(2)
	r.must(r.db.Flush())
	r.stop()
	r.start()
	r.must(r.node.WaitSwept(context.Background()))
	compact(3)
}

// What is proposed is the mover's, even when those who wait for it are sent home meanwhile.
func TestClosingLeavesWhatIsProposed(t *testing.T) {
	p := newProposals(1)
	if _, _, err := p.join([]byte("command"), sender{op: &command.Put{}}, 0); err != nil {
		t.Fatal(err)
	}
	events := p.take(nil, 0)
	p.close(ErrStopped)
	if got := fmt.Sprintf("%q", events); len(events) != 1 || !strings.Contains(got, "command") {
		t.Errorf("proposed %s", got)
	}
}

// Callers of a member that stops under them get a result or ErrStopped, and what was acknowledged is there afterwards.
func TestStopUnderLoad(t *testing.T) {
	r := newRig(t, nil)
	for round := range 5 {
		acked := make([]int, 20)
		var all sync.WaitGroup
		n := r.node
		for c := range acked {
			all.Add(1)
			go func() {
				defer all.Done()
				for i := 1; ; i++ {
					_, err := n.Propose(context.Background(), &command.Put{Key: fmt.Append(nil, round, c), Value: fmt.Append(nil, i)})
					if err == nil {
						acked[c] = i
						view, rerr := n.Read(context.Background())
						if err = rerr; err == nil {
							view.Close()
						}
					}
					if err != nil {
						if !errors.Is(err, ErrStopped) {
							t.Error(err)
						}
						return
					}
				}
			}()
		}
		before := n.Status().Applied
		until(func() bool { return n.Status().Applied > before+20 })
		r.node.Stop()
		all.Wait()
		r.stop()
		r.start()
		for c, i := range acked {
			var got int
			fmt.Sscan(r.get(string(fmt.Append(nil, round, c))), &got)
			if got < i {
				t.Errorf("%d was acknowledged, %d is there", i, got)
			}
		}
	}
}
