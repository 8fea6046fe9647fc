package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// tornCase is a log before and after one append that did not finish.
type tornCase struct {
	o             Options
	before, after files
	name          string // of the segment that was written to
	from, to      int64  // the bytes written
	want          []content
}

// newTornCase makes a log with some acknowledged entries, the last at a chosen distance from the end of a sector, and
// appends the batches.
func newTornCase(t testing.TB, pad int, batches ...Batch) *tornCase {
	t.Helper()
	disk := newDisk(t)
	o := testOptions(disk)
	o.SegmentBytes = 32 << 10
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "one", string(bytes.Repeat([]byte{'p'}, pad))), HardState: stateOf(1, 2, 1)})
	c := &tornCase{o: o, before: readFiles(t, disk)}
	state := must[content](t)(contentOf(l))
	c.want = append(c.want, state)
	for _, b := range batches {
		next := state.clone()
		next.append(b.Entries)
		if b.HardState != nil {
			next.hs = hardStateOf(b.HardState)
		}
		state = next
		c.want = append(c.want, next)
	}
	c.from = l.w.off
	mustAppend(t, l, batches...)
	c.to = l.w.off
	c.after = readFiles(t, disk)
	c.name = c.after.newest()
	return c
}

// mix returns the files with those bytes of the write that on reports; the others stayed as they were.
func (c *tornCase) mix(on func(off int64) bool) files {
	f := c.before.clone()
	b := bytes.Clone(c.after[c.name])
	for off := c.from; off < c.to; off++ {
		if !on(off) {
			b[off] = 0
		}
	}
	f[c.name] = b
	return f
}

// open opens the files: it must work, and show one of the wanted contents. It returns which.
func (c *tornCase) open(f files, t testing.TB) (int, *Cut, error) {
	o := c.o
	o.FS = f.disk(t)
	l, r, err := Open(o, Position{1, 1})
	if err != nil {
		return 0, nil, err
	}
	got, err := contentOf(l)
	if err != nil {
		return 0, nil, err
	}
	for i, want := range c.want {
		if err = sameContent(got, want); err == nil {
			return i, r.Cut, nil
		}
	}
	return 0, nil, err
}

// TestTornWrite cuts off the last write at every byte, every sector and every page, for records at several places in
// a sector, with and without the file's space written out.
func TestTornWrite(t *testing.T) {
	big := string(bytes.Repeat([]byte("v"), 9000))
	batch := Batch{Entries: entriesOf(3, 1, "three", big), HardState: stateOf(2, 1, 2)}
	small := Batch{Entries: entriesOf(3, 1, "three"), HardState: stateOf(2, 1, 2)}
	for _, pad := range []int{0, 100, 250, 360} {
		for _, b := range []Batch{small, batch} {
			c := newTornCase(t, pad, b)
			step := int64(1)
			if c.to-c.from > 1000 {
				step = 251
			}
			cuts := 0
			for n := int64(0); n <= c.to-c.from; n += step {
				for _, round := range []int64{1, sectorSize, 4096} {
					end := (c.from + n) / round * round
					if c.from+n == c.to {
						end = c.to
					}
					f := c.mix(func(off int64) bool { return off < end })
					if n%2 == 1 { // and the file ends there
						f[c.name] = f[c.name][:max(c.from, end)]
					}
					which, cut, err := c.open(f, t)
					if err != nil {
						t.Fatalf("pad %d, %d of %d bytes at %d: %v", pad, n, c.to-c.from, round, err)
					}
					if whole := end >= c.to; (which == 1) != whole || (whole && cut != nil) {
						t.Fatalf("pad %d, %d of %d bytes at %d: content %d, cut %+v", pad, n, c.to-c.from, round, which, cut)
					}
					if cut != nil {
						cuts++
					}
				}
			}
			if cuts == 0 {
				t.Fatal("nothing was ever cut")
			}
		}
	}
}

// TestTornSubset keeps every subset of the sectors of one write, and random ones of larger writes of several records,
// with zero bytes in the data.
func TestTornSubset(t *testing.T) {
	zeros := make([]byte, 1300)
	half := append(make([]byte, 600), bytes.Repeat([]byte("x"), 500)...)
	cases := []*tornCase{
		newTornCase(t, 30, Batch{Entries: []*raftpb.Entry{entry(3, 1, zeros), entry(4, 1, half)}, HardState: stateOf(1, 2, 2)}),
		// Two records, because the second batch replaces entries of the first.
		newTornCase(t, 200, Batch{Entries: []*raftpb.Entry{entry(3, 1, half), entry(4, 1, zeros)}},
			Batch{Entries: []*raftpb.Entry{entry(4, 2, half)}, HardState: stateOf(2, 1, 3)}),
	}
	for n, c := range cases {
		first := c.from / sectorSize
		sectors := (c.to+sectorSize-1)/sectorSize - first
		if sectors > 12 {
			t.Fatalf("%d sectors are too many", sectors)
		}
		var seen [3]int
		for mask := range 1 << sectors {
			f := c.mix(func(off int64) bool { return mask&(1<<(off/sectorSize-first)) != 0 })
			which, _, err := c.open(f, t)
			if err != nil {
				t.Fatalf("case %d, sectors %b of %d: %v", n, mask, sectors, err)
			}
			if mask == 1<<sectors-1 && which != len(c.want)-1 {
				t.Fatalf("case %d: the whole write is content %d", n, which)
			}
			seen[which]++
		}
		t.Logf("case %d: %d subsets of %d sectors, contents %v", n, 1<<sectors, sectors, seen)
	}
}

// TestTornAnySector loses each sector of a write in turn, for records of every length and place: whatever it is that a
// sector holds, header, data, padding or footer, its absence has to show.
func TestTornAnySector(t *testing.T) {
	for pad := 0; pad < sectorSize; pad += 56 {
		for size := 1; size < 1400; size += 61 {
			c := newTornCase(t, pad, Batch{Entries: entriesOf(3, 1, string(bytes.Repeat([]byte("v"), size+pad/8)))})
			for lost := c.from / sectorSize; lost <= (c.to-1)/sectorSize; lost++ {
				which, cut, err := c.open(c.mix(func(off int64) bool { return off/sectorSize != lost }), t)
				if err != nil || which != 0 || (cut == nil) != (lost == c.from/sectorSize && lost == (c.to-1)/sectorSize) {
					t.Fatalf("pad %d, size %d, sector %d of %d..%d: content %d, cut %+v, %v", pad, size, lost, c.from, c.to, which, cut, err)
				}
			}
		}
	}
}

// TestTornErase cuts the power while Open writes: any part of what was not yet synced reaches the disk. The next Open
// comes to the same end.
func TestTornErase(t *testing.T) {
	c := newTornCase(t, 300, Batch{Entries: entriesOf(3, 1, string(bytes.Repeat([]byte("v"), 1500)))},
		Batch{Entries: entriesOf(3, 2, string(bytes.Repeat([]byte("w"), 900)))})
	rng := rngOf(1)
	for missing := c.from / sectorSize; missing <= (c.to-1)/sectorSize; missing++ {
		torn := c.mix(func(off int64) bool { return off/sectorSize != missing })
		want, cut, err := c.open(torn, t)
		if err != nil || cut == nil {
			t.Fatalf("sector %d missing: cut %+v, %v", missing, cut, err)
		}
		for _, step := range writesOfOpen(t, c, torn) {
			for range 60 {
				f := torn.clone()
				f[c.name] = step.tear(rng)
				which, _, err := c.open(f, t)
				if err != nil || which != want {
					t.Fatalf("sector %d missing, writing %d..%d: content %d, %v", missing, step.from, step.to, which, err)
				}
			}
		}
	}
}

// pendingWrite is a write before its sync: what the disk had, and what it is to have, in from..to.
type pendingWrite struct {
	before, after []byte
	from, to      int64
}

// writesOfOpen returns the writes to the newest segment that Open makes, each with what was synced before it. Open
// syncs behind every one of these.
func writesOfOpen(t *testing.T, c *tornCase, f files) []pendingWrite {
	t.Helper()
	disk := f.disk(t)
	synced, pending := f[c.name], 0
	var steps []pendingWrite
	o := c.o
	o.FS = &opFS{FS: disk, after: func(op string) {
		now := readFiles(t, disk)[c.name]
		var p pendingWrite
		if n, _ := fmt.Sscanf(op, "write "+testDir+"/"+c.name+" %d..%d", &p.from, &p.to); n == 2 {
			if pending++; pending > 1 {
				t.Errorf("%s while another write is not synced", op)
			}
			p.before, p.after = synced, now
			steps = append(steps, p)
		} else if op == "sync "+testDir+"/"+c.name {
			synced, pending = now, 0
		}
	}}
	_, _, err := Open(o, Position{1, 1})
	mustNil(t, err)
	if len(steps) < 2 {
		t.Fatalf("%d writes", len(steps))
	}
	return steps
}

// tear returns the file with a part of the write: the bytes up to some place, or some of the sectors. Of zeros, which
// are there to erase, some of the sectors may also be there in part.
func (p *pendingWrite) tear(rng *rand.Rand) []byte {
	b := make([]byte, max(len(p.before), len(p.after)))
	copy(b, p.before)
	if rng.IntN(2) == 0 {
		n := p.from + rng.Int64N(p.to-p.from)
		copy(b[p.from:n], p.after[p.from:n])
		return b
	}
	erasing := allZero(p.after[p.from:p.to])
	for s := p.from / sectorSize; s <= (p.to-1)/sectorSize; s++ {
		from, to := max(s*sectorSize, p.from), min((s+1)*sectorSize, p.to)
		switch k := rng.IntN(3); {
		case k == 0:
			copy(b[from:to], p.after[from:to])
		case k == 1 && erasing:
			n := rng.Int64N(to - from)
			copy(b[from:from+n], p.after[from:from+n])
		}
	}
	return b
}

// flipCase is a log at rest with several segments, of which every byte is damaged in turn.
func flipCase(t *testing.T, closing bool) (Options, files, content) {
	t.Helper()
	disk := newDisk(t)
	o := testOptions(disk)
	o.SegmentBytes = 2 << 10
	l := mustCreate(t, o, Position{7, 1})
	zeros := string(make([]byte, 700))
	mustAppend(t, l, Batch{Entries: entriesOf(8, 1, "a", zeros), HardState: stateOf(1, 1, 7)})
	mustAppend(t, l, Batch{Entries: entriesOf(9, 2, "replaced", "b"), HardState: stateOf(2, 1, 9)})
	mustAppend(t, l, Batch{HardState: stateOf(2, 1, 10)})
	mustNil(t, l.Prepare())
	mustAppend(t, l, Batch{Entries: entriesOf(11, 2, zeros)})
	mustAppend(t, l, Batch{Entries: entriesOf(12, 3, "last"), HardState: stateOf(3, 2, 10)})
	want := must[content](t)(contentOf(l))
	if closing {
		mustNil(t, l.Close())
	}
	if _, n := l.Size(); n < 2 {
		t.Fatalf("%d segments", n)
	}
	return o, readFiles(t, disk), want
}

// TestBitFlip flips one bit of every byte of a small log, all eight in turn over the bytes, once as it was closed and
// once as it was left by a crash behind an acknowledged append. The outcome is the same content or a refusal. Nothing
// acknowledged is ever cut.
func TestBitFlip(t *testing.T) {
	for _, closing := range []bool{true, false} {
		o, all, want := flipCase(t, closing)
		same, refused := 0, 0
		for name, b := range all {
			for i := range b {
				f := all.clone()
				f[name][i] ^= 1 << (i % 8)
				o.FS = f.disk(t)
				l, r, err := Open(o, Position{10, 2})
				if err != nil {
					if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongMember) {
						t.Fatalf("%s byte %d: %v", name, i, err)
					}
					if after := readFiles(t, o.FS); !sameFiles(after, f) {
						t.Fatalf("%s byte %d: refused, but changed the files", name, i)
					}
					refused++
					continue
				}
				got, err := contentOf(l)
				if err == nil {
					err = sameContent(got, want)
				}
				if err != nil {
					t.Fatalf("closed %t, %s byte %d: silently different: %v (%+v)", closing, name, i, err, r)
				}
				same++
			}
		}
		t.Logf("closed %t: %d bytes refused, %d without effect", closing, refused, same)
		if refused == 0 || (same == 0 && !closing) {
			t.Error("one outcome never came")
		}
	}
}

func sameFiles(a, b files) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

// TestLostSectorAtRest zeroes each sector and each page of a closed log, which is what a torn write looks like.
// Everything was marked as synced, so nothing of it may be taken for torn.
func TestLostSectorAtRest(t *testing.T) {
	for _, segmentBytes := range []int64{2 << 10, 16 << 10} {
		refused := 0
		for _, size := range []int{sectorSize, pageSize} {
			for pad := range 10 {
				disk := newDisk(t)
				o := testOptions(disk)
				o.SegmentBytes = segmentBytes
				l := mustCreate(t, o, Position{})
				mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "first"), HardState: stateOf(1, 1, 1)})
				mustAppend(t, l, Batch{Entries: entriesOf(2, 1, string(bytes.Repeat([]byte("x"), 401*pad)))})
				want := must[content](t)(contentOf(l))
				mustNil(t, l.Close())
				all := readFiles(t, disk)
				for name, b := range all {
					for off := 0; off < len(b); off += size {
						f := all.clone()
						clear(f[name][off:min(off+size, len(b))])
						o.FS = f.disk(t)
						l, _, err := Open(o, Position{1, 1})
						if err == nil { // it was zero, or held no more than a marker
							checkContent(t, l, want)
							continue
						}
						if !errors.Is(err, ErrCorrupt) {
							t.Fatalf("%s, %d bytes at %d: %v", name, size, off, err)
						}
						refused++
					}
				}
			}
		}
		if refused == 0 {
			t.Error("nothing was refused")
		}
	}
}

// TestMissingSegment removes each segment of a log. Only the oldest can be missing unnoticed by the log itself, and
// then the state notices.
func TestMissingSegment(t *testing.T) {
	o, all, _ := flipCase(t, true)
	for name := range all {
		f := all.clone()
		delete(f, name)
		o.FS = f.disk(t)
		if _, _, err := Open(o, Position{8, 1}); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrStateMismatch) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestRefusalNamesEverything checks that an operator can act on a refusal.
func TestRefusalNamesEverything(t *testing.T) {
	o, all, _ := flipCase(t, true)
	f := all.clone()
	off, _ := spanOf(t, all[segmentName(1)], 2)
	f[segmentName(1)][off+recordHeaderSize+3] ^= 0x10
	o.FS = f.disk(t)
	_, _, err := Open(o, Position{8, 1})
	var c *CorruptError
	if !errors.As(err, &c) {
		t.Fatal(err)
	}
	if c.File != testDir+"/"+segmentName(1) || c.Offset != off+36 || c.Expected == "" || c.Found == "" || c.Advice == "" {
		t.Fatalf("%+v", c)
	}
	for _, part := range []string{c.File, fmt.Sprint(c.Offset), c.Expected, c.Found, "replace this member"} {
		if !bytes.Contains([]byte(err.Error()), []byte(part)) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}

// A record that was written over the end of the marker before it, and not where it belongs, leaves a marker that looks torn. What a
// crash leaves of a marker is zeros: the log is refused.
func TestMisdirectedOverTheMarker(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	o.SegmentBytes = 32 << 10
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{HardState: stateOf(2, 7, 0)})
	if err := l.MarkIdle(); err != nil {
		t.Fatal(err)
	}
	before, at := readFiles(t, disk), l.w.off
	mustAppend(t, l, Batch{HardState: stateOf(3, 0, 0)})
	f := readFiles(t, disk)
	name := f.newest()
	record := bytes.Clone(f[name][at:l.w.off])
	if at%pageSize != recordHeaderSize { // a marker that fills the page, and one in the next page
		t.Fatalf("the record stands at %d", at)
	}
	for over := at - recordHeaderSize - int64(len(record)); over <= at-int64(len(record)); over++ {
		b := bytes.Clone(before[name])
		b = append(b, make([]byte, max(0, l.w.off-int64(len(b))))...)
		copy(b[over:], record)
		f[name] = b
		o.FS = f.disk(t)
		if got, _, err := Open(o, Position{}); err == nil {
			t.Fatalf("written at %d: it is opened, and is in term %d", over, got.HardState().GetTerm())
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("written at %d: %v", over, err)
		}
	}
}
