package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crasher takes crash images of a workload's disk and opens them.
type crasher struct {
	rng    *rand.Rand
	w      *workload
	disk   *vfs.MemFS
	err    error // the first image that did not open as it must
	images int
	cuts   int // images in which an unfinished write was cut off
	undone int // images that opened as before the operation under way
	within int // images that hold part of what was being appended
	again  int // images of an Open, opened once more
}

// image returns what the disk holds if power fails now and percent of the blocks and names that were not synced made
// it.
func image(disk *vfs.MemFS, percent int, rng *rand.Rand) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
}

// crash is called behind every operation on the disk.
func (c *crasher) crash(op string) {
	for _, percent := range []int{0, 50, 100} {
		if c.err != nil {
			return
		}
		c.images++
		err := c.open(image(c.disk, percent, c.rng), c.rng.IntN(20) == 0)
		if err == nil && c.w.reset != nil {
			err = c.openUnreset(image(c.disk, percent, c.rng))
		}
		if err != nil {
			c.err = fmt.Errorf("power cut behind %q, %d%% of the unsynced blocks kept: %w", op, percent, err)
		}
	}
}

// open opens an image and compares it with what was acknowledged. With twice, it also cuts the power at every
// operation of that Open and opens what is left.
func (c *crasher) open(disk *vfs.MemFS, twice bool) error {
	o := c.w.o
	o.FS = disk
	opening := true
	if twice {
		o.FS = &opFS{FS: disk, after: func(op string) {
			for _, percent := range []int{0, 50, 100} {
				if !opening {
					return
				}
				c.again++
				if err := c.open(image(disk, percent, c.rng), false); err != nil && c.err == nil {
					c.err = fmt.Errorf("second power cut behind %q, %d%% kept: %w", op, percent, err)
				}
			}
		}}
	}
	l, r, err := c.openAs(o)
	opening = false
	if errors.Is(err, ErrNoLog) && c.w.l == nil {
		return nil // it was just being created
	}
	if err != nil {
		return err
	}
	if r.Cut != nil {
		c.cuts++
	}
	got, err := contentOf(l)
	if err != nil {
		return err
	}
	if err := c.judge(got); err != nil {
		return fmt.Errorf("%w (recovery %+v)", err, r)
	}
	first, term := got.last()+1, got.hs.term+1 // the log goes on from there
	if err := l.Append(Batch{Entries: entriesOf(first, term, "on"), HardState: stateOf(term, 7, first)}); err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	if r.Cut == nil && len(r.Removed) == 0 && c.rng.IntN(8) != 0 {
		return nil
	}
	l, r, err = Open(o, Position{first, term}) // nothing is left of what was cut or removed
	if err == nil && (r.Cut != nil || len(r.Removed) > 0) {
		err = fmt.Errorf("opened once more: %+v", r)
	}
	if err == nil {
		err = l.Close()
	}
	return err
}

// openUnreset opens an image taken during a reset with the state as it was before: the old log is there, whole, or it
// is refused because the new one is.
func (c *crasher) openUnreset(disk *vfs.MemFS) error {
	w := *c.w
	w.o.FS, w.reset = disk, nil
	l, _, err := Open(w.o, w.want.position(w.applied))
	if errors.Is(err, ErrStateMismatch) {
		return nil
	}
	if err != nil {
		return err
	}
	got, err := contentOf(l)
	if err != nil {
		return err
	}
	old := crasher{w: &w}
	return old.judge(got)
}

// openAs opens with the position that the state would have.
func (c *crasher) openAs(o Options) (*Log, Recovery, error) {
	if c.w.reset != nil {
		return OpenInstalled(o, *c.w.reset)
	}
	return Open(o, c.w.want.position(c.w.applied))
}

// judge decides whether got is something that may be found after a crash during the present operation.
func (c *crasher) judge(got content) error {
	w := c.w
	if w.reset != nil {
		if got.base != *w.reset || len(got.entries) != 0 || got.hs.term < w.want.hs.term {
			return fmt.Errorf("after a reset to %+v: base %+v, %d entries, %s", *w.reset, got.base, len(got.entries), got.hs)
		}
		return nil
	}
	want := w.want.clone()
	if got.base.Index > want.base.Index && got.base.Index <= w.truncate {
		want.trim(got.base.Index)
	}
	if got.base != want.base {
		return fmt.Errorf("base %+v, want %+v", got.base, want.base)
	}
	states := []hardState{want.hs}
	same := sameEntries(got.entries, want.entries)
	if same == nil {
		c.undone++
	}
	for _, b := range w.batches {
		for n := range b.Entries {
			part := want.clone()
			part.append(b.Entries[:n+1])
			if same != nil {
				if same = sameEntries(got.entries, part.entries); same == nil {
					c.within++
				}
			}
		}
		want.append(b.Entries)
		if b.HardState != nil {
			want.hs = hardStateOf(b.HardState)
			states = append(states, want.hs)
		}
	}
	if same != nil {
		return fmt.Errorf("entries are neither those before nor part of those being appended: %w", same)
	}
	return judgeState(got, states, max(w.synced, w.applied))
}

// judgeState accepts a term and vote that were given, and a commit index from the one that was synced to the newest.
func judgeState(got content, states []hardState, synced uint64) error {
	for _, s := range states {
		if got.hs.term == s.term && got.hs.vote == s.vote &&
			got.hs.commit >= synced && got.hs.commit <= max(s.commit, synced) {
			return nil
		}
	}
	return fmt.Errorf("hard state %s, want one of %v with a commit of at least %d", got.hs, states, synced)
}

// TestCrash cuts the power behind every operation on the disk of random workloads, with none, some and all of what was
// not synced, and now and then once more behind every operation of the recovery. A seed fixes the workload; which
// blocks an image keeps also depends on the order in which the simulated disk walks its directories.
func TestCrash(t *testing.T) {
	var total crasher
	for _, seed := range seeds(t, 1, 3) {
		rng := rngOf(seed)
		disk := newDisk(t)
		fs := &opFS{FS: disk}
		o := testOptions(fs)
		o.SegmentBytes = []int64{2 << 10, 4 << 10, 12 << 10}[rng.IntN(3)]
		w := newWorkload(rng, o)
		c := &crasher{rng: rngOf(^seed), w: w, disk: disk}
		fs.after = c.crash
		err := w.create()
		for i := 0; i < 25 && err == nil && c.err == nil; i++ {
			if err = w.step(); err == nil && rng.IntN(8) == 0 {
				err = w.reopen(rng.IntN(2) == 0)
			}
		}
		if err = errors.Join(err, c.err); err != nil {
			t.Fatalf("%v (replay with -run TestCrash$ -seed=%d)", err, seed)
		}
		total.images += c.images
		total.cuts += c.cuts
		total.undone += c.undone
		total.within += c.within
		total.again += c.again
	}
	t.Logf("%d images and %d of recoveries, %d cut, %d as before, %d with part of an append",
		total.images, total.again, total.cuts, total.undone, total.within)
	if *seedFlag == 0 && min(total.cuts, total.undone, total.within, total.again) == 0 {
		t.Error("the workload did not reach every case")
	}
}

// script runs a fixed sequence that passes through every kind of operation. done is told after each step what must be
// there from then on.
func script(o Options, done func(content)) (err error) {
	c := content{}
	step := func(f func() error) {
		if err == nil {
			if err = f(); err == nil {
				done(c.clone())
			}
		}
	}
	var l *Log
	step(func() (err error) {
		l, err = Create(o, Position{})
		return err
	})
	add := func(hs hardState, first uint64, data ...string) {
		step(func() error {
			entries := entriesOf(first, hs.term, data...)
			if err := l.Append(Batch{HardState: hs.proto(), Entries: entries}); err != nil {
				return err
			}
			c.append(entries)
			c.hs = hs
			return nil
		})
	}
	big := string(make([]byte, 1500)) + "end"
	add(hardState{1, 1, 0}, 1, "a", "b", "c")
	add(hardState{1, 1, 3}, 4, big)
	step(func() error { return l.Prepare() })
	add(hardState{2, 3, 3}, 4, "d", "e") // a new leader replaces entry 4
	add(hardState{2, 3, 5}, 6, big, big)
	step(func() error { return l.MarkIdle() })
	step(func() error {
		if err := l.Truncate(5); err != nil {
			return err
		}
		first, _ := l.FirstIndex()
		c.trim(first - 1)
		return nil
	})
	add(hardState{2, 3, 7}, 8, "f")
	step(func() error { return l.Close() })
	return err
}

// TestKillThenPowerCut kills the process behind every operation, restarts it on what the kernel still holds, and then
// cuts the power. What the restarted log showed must be on the disk: it may have acted on it.
func TestKillThenPowerCut(t *testing.T) {
	for kill := 1; ; kill++ {
		disk := newDisk(t)
		n := 0
		fs := &opFS{FS: disk, before: func(string) error {
			if n++; n > kill {
				return errKilled
			}
			return nil
		}}
		o := testOptions(fs)
		acked := content{}
		err := script(o, func(c content) { acked = c })
		if err == nil {
			if kill < 40 {
				t.Fatalf("the script has only %d operations", kill)
			}
			t.Logf("%d operations", kill)
			return
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		o.FS = disk
		durable := acked.position(acked.hs.commit)
		l, _, err := Open(o, durable)
		if errors.Is(err, ErrNoLog) {
			continue
		}
		mustNil(t, err)
		shown, err := contentOf(l)
		mustNil(t, err)
		if shown.last() < acked.last() && len(acked.entries) > 0 && acked.entries[len(acked.entries)-1].GetTerm() == shown.term(shown.last()) {
			t.Fatalf("killed at %d: log ends with %d, %d was acknowledged", kill, shown.last(), acked.last())
		}
		o.FS = image(disk, 0, nil)
		l, r := mustOpen(t, o, durable)
		if r.Cut != nil {
			t.Fatalf("killed at %d: the confirmed end was cut: %+v", kill, r.Cut)
		}
		checkContent(t, l, shown)
	}
}

// TestConfirmWritesAgain checks that records which nothing proves to have been synced are written anew by Open: after
// a failed sync the kernel may hold pages as clean that the disk never got.
func TestConfirmWritesAgain(t *testing.T) {
	disk := newDisk(t)
	failing := false
	fs := &opFS{FS: disk, before: func(op string) error {
		if failing && strings.HasPrefix(op, "sync ") {
			return errKilled
		}
		return nil
	}}
	l := mustCreate(t, testOptions(fs), Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "one")})
	failing = true
	if err := l.Append(Batch{Entries: entriesOf(2, 1, "two")}); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	failing = false
	off, end := spanOf(t, readFiles(t, disk)[segmentName(1)], 2)
	written := false
	fs.after = func(op string) {
		if op == "write "+testDir+"/"+segmentName(1)+" "+fmt.Sprintf("%d..%d", off, end) {
			written = true
		}
	}
	l, r := mustOpen(t, testOptions(fs), Position{})
	if last, _ := l.LastIndex(); last != 2 || !written || r.Confirmed != end-off {
		t.Fatalf("last index %d, written again %t, recovery %+v", last, written, r)
	}
}
