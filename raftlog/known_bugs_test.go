package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The tests here are named for bugs that systems like ours had.

// TestKnownBugD1AckBeforeSync: an append that returned must be on the disk, of a member that is alone too.
func TestKnownBugD1AckBeforeSync(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	want := content{}
	for i := uint64(1); i <= 30; i++ {
		e := entriesOf(i, 1, strings.Repeat("x", int(i*37)))
		mustAppend(t, l, Batch{Entries: e, HardState: stateOf(1, 1, i-1)})
		want.append(e)
		o.FS = image(disk, 0, nil)
		again, _ := mustOpen(t, o, Position{})
		want.hs = hardState{1, 1, i - 1}
		checkContent(t, again, want)
	}
}

// TestKnownBugD2DirectoryNotSynced: a file that was created or renamed is not there after a power cut unless its
// directory was synced. Every name that holds something acknowledged must survive, through rotation and reset.
func TestKnownBugD2DirectoryNotSynced(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	reopen := func(durable Position, last uint64) {
		t.Helper()
		o := o
		o.FS = image(disk, 0, nil)
		l, _ := mustOpen(t, o, durable)
		if got, _ := l.LastIndex(); got != last {
			t.Fatalf("last index %d, want %d", got, last)
		}
	}
	l := mustCreate(t, o, Position{})
	reopen(Position{}, 0)
	for i := uint64(1); i <= 10; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, strings.Repeat("x", 1500)), HardState: stateOf(1, 1, i)})
		reopen(Position{}, i)
	}
	mustNil(t, l.Reset(Position{50, 2}, nil))
	reopen(Position{50, 2}, 50)
}

// TestKnownBugD3AppendsOutOfOrder: two records of one append reach the disk in any order; the second without the first
// is no reason to refuse.
func TestKnownBugD3AppendsOutOfOrder(t *testing.T) {
	page := strings.Repeat("x", 2*pageSize)
	c := newTornCase(t, 100,
		Batch{Entries: entriesOf(3, 1, page, page)},
		Batch{Entries: entriesOf(4, 2, page), HardState: stateOf(2, 1, 3)})
	second, _ := spanOf(t, c.after[c.name], 3)
	which, cut, err := c.open(c.mix(func(off int64) bool { return off >= second }), t)
	if err != nil || which != 0 || cut == nil || cut.Offset != c.from || cut.Offset+cut.Bytes != c.to {
		t.Fatalf("content %d, cut %+v, %v", which, cut, err)
	}
}

// TestKnownBugD4TornAtPageBoundary: a write torn at a sector or page boundary of a file whose space was there before
// is a torn write, not a wrong checksum.
func TestKnownBugD4TornAtPageBoundary(t *testing.T) {
	c := newTornCase(t, 300, Batch{Entries: entriesOf(3, 1, strings.Repeat("x", 3*pageSize))})
	cuts := 0
	for _, unit := range []int64{sectorSize, pageSize} {
		for end := (c.from/unit + 1) * unit; end < c.to; end += unit {
			which, cut, err := c.open(c.mix(func(off int64) bool { return off < end }), t)
			if err != nil || which != 0 || cut == nil {
				t.Fatalf("torn at %d: content %d, cut %+v, %v", end, which, cut, err)
			}
			cuts++
		}
	}
	if cuts < 20 {
		t.Errorf("only %d boundaries", cuts)
	}
}

// TestKnownBugD5PartlySyncedLastRecord: the end of the record is there and pages in the middle are not.
func TestKnownBugD5PartlySyncedLastRecord(t *testing.T) {
	c := newTornCase(t, 300, Batch{Entries: entriesOf(3, 1, strings.Repeat("x", 3*pageSize))})
	for hole := c.from / pageSize; hole <= c.to/pageSize; hole++ {
		which, cut, err := c.open(c.mix(func(off int64) bool { return off/pageSize != hole }), t)
		if err != nil || which != 0 || cut == nil {
			t.Fatalf("page %d missing: content %d, cut %+v, %v", hole, which, cut, err)
		}
	}
}

// TestKnownBugD6GarbageLength: a length that is garbage, even with a sound checksum, asks for no memory and is refused
// or, where it has the shape of a torn write, cut.
func TestKnownBugD6GarbageLength(t *testing.T) {
	o, all, _ := flipCase(t, true)
	off, _ := spanOf(t, all[segmentName(1)], 1)
	for _, length := range []uint32{1 << 31, ^uint32(0), maxBodyBytes, maxBodyBytes + 1, 64 << 20} {
		f := all.clone()
		head := f[segmentName(1)][off : off+recordHeaderSize]
		binary.LittleEndian.PutUint32(head[32:], length)
		binary.LittleEndian.PutUint32(head[104:], crc32.Checksum(head[:104], castagnoli))
		o.FS = f.disk(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Open(o, Position{10, 2})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("length %d: %v", length, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
			t.Errorf("length %d: %d bytes were asked for", length, grown)
		}
	}
}

// TestNonsenseUnderSoundChecksums changes fields of one record and makes its checksum sound again, as a bug of a writer
// or a write to the wrong place would. Each is refused for its own reason.
func TestNonsenseUnderSoundChecksums(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 2, "a", "b"), HardState: stateOf(2, 1, 1)})
	mustAppend(t, l, Batch{Entries: entriesOf(3, 2, "c"), HardState: stateOf(2, 1, 2)})
	all := readFiles(t, disk)
	off, _ := spanOf(t, all[segmentName(1)], 2)
	u64 := func(at int, v uint64) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], v) }
	}
	for name, change := range map[string]func([]byte){
		"version":        func(b []byte) { b[4] = 2 },
		"kind":           func(b []byte) { b[5] = 9 },
		"reserved":       func(b []byte) { b[6] = 1 },
		"file id":        u64(8, 7),
		"own offset":     u64(16, uint64(off)+8),
		"sequence":       u64(24, 3),
		"first index":    u64(40, 4),
		"below commit":   u64(40, 1),
		"count":          func(b []byte) { b[48] = 2 },
		"term before":    u64(56, 1),
		"term goes back": u64(64, 1),
		"commit back":    u64(80, 0),
		"commit beyond":  u64(80, 4),
		"watermark":      u64(88, 2),
		"chain":          u64(96, 1),
	} {
		f := all.clone()
		head := f[segmentName(1)][off : off+recordHeaderSize]
		change(head)
		binary.LittleEndian.PutUint32(head[104:], crc32.Checksum(head[:104], castagnoli))
		o.FS = f.disk(t)
		if _, _, err := Open(o, Position{1, 2}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKnownBugD7EveryReaderChecks: no way of reading leaves out the checksum: opening, reading old entries, the scrub
// and the dump all see the same flipped bit.
func TestKnownBugD7EveryReaderChecks(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	o.TailBytes = 1
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 12; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, strings.Repeat("x", 700)), HardState: stateOf(1, 1, i)})
	}
	off, _ := spanOf(t, readFiles(t, disk)[segmentName(1)], 2)
	file := must[vfs.File](t)(disk.OpenReadWrite(disk.PathJoin(testDir, segmentName(1)), vfs.WriteCategoryUnspecified))
	mustNil(t, writeAt(file, []byte("y"), off+recordHeaderSize+50))
	if _, err := l.Entries(1, 4, ^uint64(0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read: %v", err)
	}
	if _, err := l.Scrub(1 << 20); !errors.Is(err, ErrCorrupt) {
		t.Errorf("scrub: %v", err)
	}
	var dump bytes.Buffer
	mustNil(t, Dump(disk, testDir, &dump))
	if !strings.Contains(dump.String(), "no record #2") {
		t.Errorf("dump: %s", dump.String())
	}
	if _, _, err := Open(o, Position{12, 1}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
}

// TestKnownBugD8StateBeforeSnapshot: the hard state of an installed snapshot and the log's new base come together, in
// one file, so that a crash cannot leave a commit index outside the log.
func TestKnownBugD8StateBeforeSnapshot(t *testing.T) {
	disk := newDisk(t)
	fs := &opFS{FS: disk}
	o := testOptions(fs)
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a", "b"), HardState: stateOf(1, 1, 2)})
	images, old, replaced := 0, 0, 0
	fs.after = func(op string) {
		for _, percent := range []int{0, 50, 100} {
			images++
			o := o
			o.FS = image(disk, percent, rngOf(uint64(images)))
			l, r, err := OpenInstalled(o, Position{90, 4})
			if err != nil {
				t.Errorf("behind %s: %v", op, err)
				return
			}
			if r.Replaced {
				old++
			} else {
				replaced++
			}
			first, _ := l.FirstIndex()
			if hs := hardStateOf(l.HardState()); first != 91 || hs.commit != 90 || hs.term < 4 {
				t.Errorf("behind %s: first index %d, %s", op, first, hs)
			}
		}
	}
	mustNil(t, l.Reset(Position{90, 4}, stateOf(5, 2, 90)))
	fs.after = nil
	if old == 0 || replaced == 0 {
		t.Errorf("%d images with the old log, %d with the new", old, replaced)
	}
}

// TestKnownBugD9DiskFullDuringReset: a full disk while a snapshot is installed leaves the old log.
func TestKnownBugD9DiskFullDuringReset(t *testing.T) {
	disk := newDisk(t)
	fs := &opFS{FS: disk}
	o := testOptions(fs)
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a", "b"), HardState: stateOf(1, 1, 2)})
	want := must[content](t)(contentOf(l))
	fs.before = func(op string) error {
		if strings.HasPrefix(op, "write") {
			return errKilled
		}
		return nil
	}
	if err := l.Reset(Position{90, 4}, nil); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	o.FS = disk
	again, _ := mustOpen(t, o, Position{2, 1})
	checkContent(t, again, want)
}

// TestKnownBugD11OldCopyPutBack: a log that is older than the state is refused with instructions, not with a panic.
func TestKnownBugD11OldCopyPutBack(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a"), HardState: stateOf(1, 1, 1)})
	o.FS = image(disk, 0, nil)
	_, _, err := Open(o, Position{40, 2})
	if !errors.Is(err, ErrStateMismatch) || !strings.Contains(err.Error(), "add it as a learner") {
		t.Fatal(err)
	}
}

// TestKnownBugD15TruncateWhileRead: a read of segments that are being removed returns what was there or ErrCompacted.
// TestConcurrent runs it under the race detector; here each step is forced.
func TestKnownBugD15TruncateWhileRead(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	o.TailBytes = 1
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 20; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, strings.Repeat("x", 700)), HardState: stateOf(1, 1, i)})
	}
	l.mu.Lock()
	held := l.segments[0]
	held.acquire() // a read is under way
	l.mu.Unlock()
	mustNil(t, l.Truncate(20))
	b := make([]byte, segmentHeaderSize)
	if _, err := held.file.ReadAt(b, 0); err != nil || !bytes.Equal(b, held.header.encode()) {
		t.Fatalf("the file was taken away from its reader: %v", err)
	}
	mustNil(t, l.release(held))
	mustNil(t, l.Close())
}
