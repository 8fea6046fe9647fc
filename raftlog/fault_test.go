package raftlog

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestFaultAtEveryOperation fails each operation on the disk in turn, reads too, once and with everything after it. The
// call that meets it fails, nothing is acknowledged from then on, and after a restart, on what the kernel holds or
// behind a power cut, everything acknowledged is there.
func TestFaultAtEveryOperation(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		for at := 0; ; at++ {
			disk := newDisk(t)
			n, hit := 0, false
			o := testOptions(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				n++
				if n-1 == at || (lasting && n-1 > at) {
					hit = true
					return errorfs.ErrInjected
				}
				return nil
			})))
			acked, steps := content{}, 0
			err := script(o, func(c content) { acked = c; steps++ })
			if !hit {
				if at < 50 || err != nil {
					t.Fatalf("the script has only %d operations, %v", at, err)
				}
				t.Logf("%d operations", at)
				break
			}
			if !errors.Is(err, errorfs.ErrInjected) {
				t.Fatalf("operation %d failed, the log says %v", at, err)
			}
			for _, o.FS = range []vfs.FS{image(disk, 0, nil), disk} {
				l, _, err := Open(o, acked.position(acked.hs.commit))
				if errors.Is(err, ErrNoLog) && steps == 0 {
					continue
				}
				if err != nil {
					t.Fatalf("operation %d failed, step %d, restarted: %v", at, steps, err)
				}
				got, err := contentOf(l)
				mustNil(t, err)
				if err := covers(got, acked); err != nil {
					t.Fatalf("operation %d failed, step %d: %v", at, steps, err)
				}
			}
		}
	}
}

// covers reports whether got holds what was acknowledged, perhaps with the effect of one more step of the script.
func covers(got, acked content) error {
	if got.hs.term < acked.hs.term || got.hs.commit < acked.hs.commit {
		return fmt.Errorf("hard state %s, acknowledged %s", got.hs, acked.hs)
	}
	for i := got.base.Index + 1; i <= acked.last(); i++ {
		if i <= acked.base.Index {
			continue
		}
		replaced := got.hs.term > acked.hs.term && i > acked.hs.commit
		if i > got.last() && !replaced {
			return fmt.Errorf("entry %d is missing, the log ends with %d", i, got.last())
		}
		if i <= got.last() && !replaced {
			if err := sameEntries(got.entries[i-got.base.Index-1:][:1], acked.entries[i-acked.base.Index-1:][:1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestPoison checks that the first failure stays: whatever fails, every later call returns it, and touches no file.
func TestPoison(t *testing.T) {
	for name, c := range map[string]struct {
		kind errorfs.OpKind
		err  error
	}{
		"disk full": {errorfs.OpFileWriteAt, syscall.ENOSPC},
		"write":     {errorfs.OpFileWriteAt, syscall.EIO},
		"sync":      {errorfs.OpFileSyncData, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			failing, ops := false, 0
			o := testOptions(errorfs.Wrap(newDisk(t), errorfs.InjectorFunc(func(op errorfs.Op) error {
				ops++
				if failing && op.Kind == c.kind {
					failing = false // once: it must not be tried again
					return c.err
				}
				return nil
			})))
			l := mustCreate(t, o, Position{})
			mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a"), HardState: stateOf(1, 1, 0)})
			failing = true
			first := l.Append(Batch{Entries: entriesOf(2, 1, "b")})
			if !errors.Is(first, c.err) {
				t.Fatal(first)
			}
			before := ops
			for _, err := range []error{
				l.Append(Batch{Entries: entriesOf(2, 1, "b")}), l.MarkIdle(), l.Truncate(1), l.Prepare(),
				l.Reset(Position{9, 9}, nil), l.Err(),
			} {
				if err != first { //nolint:errorlint // the very same
					t.Errorf("later call: %v", err)
				}
			}
			if _, err := l.Scrub(1); err != first {
				t.Errorf("scrub: %v", err)
			}
			if ops != before {
				t.Errorf("%d operations on the disk after the failure", ops-before)
			}
			if last, _ := l.LastIndex(); last != 1 {
				t.Errorf("last index %d", last)
			}
			if err := l.Close(); !errors.Is(err, c.err) {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestPrepareFailure checks that a failure to prepare a segment is reported, leaves no file and harms nothing.
func TestPrepareFailure(t *testing.T) {
	for kind, want := range map[errorfs.OpKind]error{
		errorfs.OpFilePreallocate: syscall.ENOSPC,
		errorfs.OpFileWriteAt:     syscall.ENOSPC,
		errorfs.OpFileSyncData:    syscall.EIO,
	} {
		failing := false
		disk := newDisk(t)
		o := testOptions(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if failing && op.Kind == kind {
				return want
			}
			return nil
		})))
		l := mustCreate(t, o, Position{})
		failing = true
		if err := l.Prepare(); !errors.Is(err, want) {
			t.Fatal(err)
		}
		failing = false
		if n := len(readFiles(t, disk)); n != 1 {
			t.Errorf("%d files", n)
		}
		mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a")})
		mustNil(t, l.Close())
	}
}

// TestNoPreallocation checks that a file system that cannot reserve space is good enough.
func TestNoPreallocation(t *testing.T) {
	o := testOptions(errorfs.Wrap(newDisk(t), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFilePreallocate {
			return syscall.EOPNOTSUPP
		}
		return nil
	})))
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a")})
	mustNil(t, l.Close())
}
