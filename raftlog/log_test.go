package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestCreateAndReopen(t *testing.T) {
	o := testOptions(newDisk(t))
	o.SegmentBytes = 64 << 10
	l := mustCreate(t, o, Position{10, 3})
	want := content{base: Position{10, 3}, hs: hardState{term: 3, commit: 10}}
	checkContent(t, l, want)
	if _, err := Create(o, Position{}); !errors.Is(err, ErrExists) {
		t.Fatalf("create twice: %v", err)
	}
	entries := []*raftpb.Entry{
		entry(11, 3, nil), entry(12, 4, []byte{}), entry(13, 4, []byte("data")),
	}
	entries[0].Type = raftpb.EntryConfChangeV2.Enum()
	entries[1].Type = raftpb.EntryNormal.Enum()
	mustAppend(t, l, Batch{HardState: stateOf(4, 9, 12), Entries: entries})
	want.entries, want.hs = entries, hardState{4, 9, 12}
	checkContent(t, l, want)
	mustNil(t, l.Close())
	mustNil(t, l.Close())
	if err := l.Append(); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	l, r := mustOpen(t, o, Position{12, 4})
	checkContent(t, l, want)
	if r.First != 11 || r.Last != 13 || r.Entries != 3 || r.Cut != nil || r.Segments != 1 || r.Replaced {
		t.Fatalf("%+v", r)
	}
}

func TestOpenRefusals(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	if _, _, err := Open(o, Position{}); !errors.Is(err, ErrNoLog) {
		t.Fatalf("no directory: %v", err)
	}
	l := mustCreate(t, o, Position{10, 3})
	mustAppend(t, l, Batch{Entries: entriesOf(11, 4, "a", "b"), HardState: stateOf(4, 1, 10)})
	mustNil(t, l.Close())
	for name, c := range map[string]struct {
		change  func(*Options)
		durable Position
		want    error
	}{
		"other cluster":        {func(o *Options) { o.ClusterID++ }, Position{10, 3}, ErrWrongMember},
		"other member":         {func(o *Options) { o.MemberID++ }, Position{10, 3}, ErrWrongMember},
		"state before the log": {nil, Position{9, 3}, ErrStateMismatch},
		"state behind the log": {nil, Position{13, 4}, ErrStateMismatch},
		"other term":           {nil, Position{12, 3}, ErrStateMismatch},
		"other term at base":   {nil, Position{10, 2}, ErrStateMismatch},
		"first of the log":     {nil, Position{10, 3}, nil},
		"last of the log":      {nil, Position{12, 4}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.FS = readFiles(t, disk).disk(t)
			if c.change != nil {
				c.change(&o)
			}
			if _, _, err := Open(o, c.durable); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestCommitIsRaised checks that a commit index lost in a crash is not below what the state has applied.
func TestCommitIsRaised(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a", "b", "c"), HardState: stateOf(1, 1, 0)})
	mustAppend(t, l, Batch{HardState: stateOf(1, 1, 3)}) // not synced
	o.FS = image(disk, 0, nil)
	l, _ = mustOpen(t, o, Position{2, 1})
	if hs := hardStateOf(l.HardState()); hs != (hardState{1, 1, 2}) {
		t.Fatalf("%s", hs)
	}
}

// TestCommitStaysBehindItsRecord loses the second of the two records of one append. The first must not carry a commit
// index that speaks of the entries in the second.
func TestCommitStaysBehindItsRecord(t *testing.T) {
	disk := plainDisk(t)
	o := testOptions(disk)
	o.SegmentBytes = 4 << 20
	l := mustCreate(t, o, Position{})
	big := strings.Repeat("x", 600<<10)
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a", big, big), HardState: stateOf(1, 1, 3)})
	all := readFiles(t, disk)
	off, end := spanOf(t, all[segmentName(1)], 2)
	clear(all[segmentName(1)][off:end])
	o.FS = all.disk(t)
	l, r := mustOpen(t, o, Position{})
	checkContent(t, l, content{entries: entriesOf(1, 1, "a", big), hs: hardState{1, 1, 2}})
	if r.Cut != nil {
		t.Errorf("%+v", r.Cut)
	}
}

// TestSyncs checks what is waited for and what is not.
func TestSyncs(t *testing.T) {
	syncs, bytes := 0, 0
	now := time.Duration(0)
	o := testOptions(plainDisk(t))
	o.SegmentBytes = 1 << 20
	o.Now = func() time.Duration { now += time.Second; return now }
	o.OnSync = func(n int, d time.Duration) {
		syncs, bytes = syncs+1, bytes+n
		if d != time.Second {
			t.Errorf("the sync took %v", d)
		}
	}
	l := mustCreate(t, o, Position{})
	for i, c := range []struct {
		batches []Batch
		syncs   int
	}{
		{nil, 0},
		{[]Batch{{}}, 0},
		{[]Batch{{Entries: entriesOf(1, 1, "a"), HardState: stateOf(1, 0, 0)}}, 1},
		{[]Batch{{HardState: stateOf(1, 0, 1)}}, 0},
		{[]Batch{{MustSync: true}}, 1},
		{[]Batch{{MustSync: true}}, 0}, // nothing left to sync
		{[]Batch{{HardState: stateOf(2, 0, 1)}}, 1},
		{[]Batch{{HardState: stateOf(2, 5, 1)}}, 1},
		{[]Batch{{HardState: stateOf(2, 5, 1)}}, 0},
		{[]Batch{{Entries: entriesOf(2, 2, "b")}, {Entries: entriesOf(3, 2, "c")}, {Entries: entriesOf(3, 3, "d")}}, 1},
	} {
		before := syncs
		mustAppend(t, l, c.batches...)
		if syncs-before != c.syncs {
			t.Errorf("case %d: %d syncs, want %d", i, syncs-before, c.syncs)
		}
	}
	before := syncs
	mustNil(t, l.MarkIdle())
	mustNil(t, l.MarkIdle())
	if syncs-before != 1 {
		t.Errorf("%d syncs for two marks", syncs-before)
	}
	if size, _ := l.Size(); int64(bytes) != size-segmentHeaderSize {
		t.Errorf("%d bytes synced, the log has %d", bytes, size-segmentHeaderSize)
	}
}

// TestOneWritePerAppend counts system calls: batches that follow each other are one record, one write, one sync.
func TestOneWritePerAppend(t *testing.T) {
	fs := &opFS{FS: plainDisk(t)}
	o := testOptions(fs)
	o.SegmentBytes = 1 << 20
	l := mustCreate(t, o, Position{})
	var ops []string
	fs.after = func(op string) { ops = append(ops, strings.Fields(op)[0]) }
	var batches []Batch
	for i := uint64(1); i <= 50; i++ {
		batches = append(batches, Batch{Entries: entriesOf(i, 1, "some data"), HardState: stateOf(1, 1, i-1)})
	}
	mustAppend(t, l, batches...)
	if got := strings.Join(ops, " "); got != "write sync" {
		t.Errorf("operations: %s", got)
	}
	if l.w.seq != 1 {
		t.Errorf("%d records", l.w.seq)
	}
	checkContent(t, l, content{entries: func() (all []*raftpb.Entry) {
		for _, b := range batches {
			all = append(all, b.Entries...)
		}
		return all
	}(), hs: hardState{1, 1, 49}})
}

// TestBrokenRulesPanic checks that what raft never does is not written.
func TestBrokenRulesPanic(t *testing.T) {
	for name, b := range map[string]Batch{
		"gap":               {Entries: entriesOf(5, 2, "x")},
		"at commit":         {Entries: entriesOf(2, 2, "x")},
		"commit goes back":  {HardState: stateOf(2, 1, 1)},
		"commit beyond":     {HardState: stateOf(2, 1, 4)},
		"term goes back":    {HardState: stateOf(1, 1, 2)},
		"entry term back":   {Entries: entriesOf(4, 1, "x")},
		"entries not dense": {Entries: []*raftpb.Entry{entry(4, 2, nil), entry(6, 2, nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			l := mustCreate(t, testOptions(newDisk(t)), Position{})
			mustAppend(t, l, Batch{Entries: entriesOf(1, 2, "a", "b", "c"), HardState: stateOf(2, 1, 2)})
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = l.Append(b)
		})
	}
}

func TestReset(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 20; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 2, strings.Repeat("x", 700)), HardState: stateOf(2, 1, i)})
	}
	mustNil(t, l.Reset(Position{100, 5}, stateOf(6, 3, 90)))
	want := content{base: Position{100, 5}, hs: hardState{6, 3, 100}}
	checkContent(t, l, want)
	if _, n := l.Size(); n != 1 || len(readFiles(t, disk)) != 1 {
		t.Fatalf("%d segments, files %v", n, len(readFiles(t, disk)))
	}
	if _, err := l.Entries(20, 21, 1); !errors.Is(err, raft.ErrCompacted) {
		t.Fatal(err)
	}
	mustAppend(t, l, Batch{Entries: entriesOf(101, 6, "on")})
	want.entries = entriesOf(101, 6, "on")
	mustNil(t, l.Close())
	l, _ = mustOpen(t, o, Position{100, 5})
	checkContent(t, l, want)
	mustNil(t, l.Close())

	// A crash between the installation of a snapshot and the reset.
	if _, _, err := Open(o, Position{200, 7}); !errors.Is(err, ErrStateMismatch) {
		t.Fatal(err)
	}
	l, r, err := OpenInstalled(o, Position{200, 7})
	mustNil(t, err)
	checkContent(t, l, content{base: Position{200, 7}, hs: hardState{7, 0, 200}})
	if !r.Replaced || r.First != 201 || r.Last != 200 {
		t.Fatalf("%+v", r)
	}
	mustAppend(t, l, Batch{Entries: entriesOf(201, 8, "on")})
	mustNil(t, l.Close())
	// The log already has the position: it stays.
	l, r, err = OpenInstalled(o, Position{201, 8})
	mustNil(t, err)
	if last, _ := l.LastIndex(); r.Replaced || last != 201 {
		t.Fatalf("last %d, %+v", last, r)
	}
}

// A state that was fetched from a member that is behind, and ends before the log begins, replaces nothing: what is behind it in
// the log was acknowledged. That the log may not know how far everything is committed, since no write has said so yet, is no reason.
func TestInstalledStateBehindTheLogIsRefused(t *testing.T) {
	o := testOptions(newDisk(t))
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 20; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 2, strings.Repeat("x", 3000)), HardState: stateOf(2, 1, 1)})
	}
	mustNil(t, l.Truncate(10))
	first, _ := l.FirstIndex()
	mustNil(t, l.Close())
	if base, err := Base(o); err != nil || base != (Position{first - 1, 2}) {
		t.Errorf("it begins behind %+v, %v", base, err)
	}
	if _, _, err := OpenInstalled(o, Position{first - 2, 2}); !errors.Is(err, ErrStateBehind) {
		t.Fatalf("the log begins with %d: %v, want %v", first, err, ErrStateBehind)
	}
	l, r, err := OpenInstalled(o, Position{first - 1, 2})
	mustNil(t, err)
	if r.Replaced || r.Last != 20 {
		t.Errorf("%+v", r)
	}
	mustNil(t, l.Close())
}

func TestTruncate(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	all := content{}
	for i := uint64(1); i <= 40; i++ {
		e := entriesOf(i, 1+i/10, strings.Repeat("x", 700))
		mustAppend(t, l, Batch{Entries: e, HardState: stateOf(1+i/10, 1, i)})
		all.append(e)
	}
	all.hs = hardState{5, 1, 40}
	_, before := l.Size()
	for _, index := range []uint64{0, 3, 4, 5, 17, 16, 40} {
		mustNil(t, l.Truncate(index))
		first, _ := l.FirstIndex()
		if first > index+1 && first > all.base.Index+1 {
			t.Fatalf("truncate through %d: first index %d", index, first)
		}
		all.trim(first - 1)
		checkContent(t, l, all)
		o.FS = image(disk, 0, nil)
		again, _ := mustOpen(t, o, Position{40, 5})
		checkContent(t, again, all)
	}
	if _, n := l.Size(); n != 1 || before < 8 || len(readFiles(t, disk)) != 1 {
		t.Fatalf("%d of %d segments left, %d files", n, before, len(readFiles(t, disk)))
	}
}

// TestPrepare checks that a rotation takes the prepared file and asks for no space itself.
func TestPrepare(t *testing.T) {
	fs := &opFS{FS: newDisk(t)}
	o := testOptions(fs)
	l := mustCreate(t, o, Position{})
	mustNil(t, l.Prepare())
	mustNil(t, l.Prepare())
	if n := len(readFiles(t, fs.FS)); n != 2 {
		t.Fatalf("%d files", n)
	}
	var opened []string
	fs.after = func(op string) {
		if strings.HasPrefix(op, "open ") {
			opened = append(opened, op)
		}
	}
	big := strings.Repeat("x", 3000)
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, big)}, Batch{Entries: entriesOf(1, 2, big), HardState: stateOf(2, 0, 0)})
	if _, n := l.Size(); n != 2 || len(opened) != 0 {
		t.Fatalf("%d segments, opened %v", n, opened)
	}
	for name, b := range readFiles(t, fs.FS) {
		if int64(len(b)) < o.SegmentBytes {
			t.Errorf("%s has %d bytes, not all of its space is written", name, len(b))
		}
	}
	mustNil(t, l.Prepare())
	_, segments := l.Size()
	if n := len(readFiles(t, fs.FS)); n != segments+1 {
		t.Errorf("%d files, %d segments", n, segments)
	}
	mustNil(t, l.Close())
	if n := len(readFiles(t, fs.FS)); n > segments+1 {
		t.Errorf("%d files after close", n)
	}
}

// TestLeftovers checks that files of a crashed run are removed unread, and other people's files are left alone.
func TestLeftovers(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	o.SegmentBytes = 64 << 10
	l := mustCreate(t, o, Position{})
	mustAppend(t, l, Batch{Entries: entriesOf(1, 1, "a")})
	mustNil(t, l.Close())
	f := readFiles(t, disk)
	for _, name := range []string{tempName(1), tempName(77), "notes.txt", "1.raftlog", "spare-x.tmp", segmentName(9) + ".bak"} {
		f[name] = bytes.Clone(f[segmentName(1)])
	}
	o.FS = f.disk(t)
	l, r := mustOpen(t, o, Position{})
	if len(r.Removed) != 2 {
		t.Errorf("removed %v", r.Removed)
	}
	if left := readFiles(t, o.FS); len(left) != 5 {
		t.Errorf("%d files left", len(left))
	}
	mustNil(t, l.Prepare()) // names of temporary files are free again
	mustNil(t, l.Close())
}

// TestScrub finds a flipped bit in any record of a sealed segment, in small steps, and passes over a sound log.
func TestScrub(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 20; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, strings.Repeat("x", 700)), HardState: stateOf(1, 1, i)})
	}
	pass := func() (bytes int64, err error) {
		for range 1000 {
			step, err := l.Scrub(1)
			bytes += step.Bytes
			if err != nil || step.Done {
				return bytes, err
			}
		}
		return bytes, errors.New("never done")
	}
	total, _ := l.Size()
	for range 2 {
		bytes, err := pass()
		if newest := l.end; err != nil || bytes != total-newest {
			t.Fatalf("read %d bytes of %d, newest %d: %v", bytes, total, newest, err)
		}
	}
	for _, off := range []int64{20, segmentHeaderSize + 50, 1200, 3000} {
		name := segmentName(2)
		file := must[vfs.File](t)(disk.OpenReadWrite(disk.PathJoin(testDir, name), vfs.WriteCategoryUnspecified))
		b := make([]byte, 1)
		flip := func() {
			_, err := file.ReadAt(b, off)
			mustNil(t, err)
			b[0] ^= 4
			mustNil(t, writeAt(file, b, off))
		}
		flip()
		if _, err := pass(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("bit flipped at %d of %s: %v", off, name, err)
		}
		flip()
		if _, err := pass(); err != nil {
			t.Errorf("flipped back: %v", err)
		}
	}
}

// TestDamagedRead checks that an entry whose bytes changed on disk while the log was open is not returned.
func TestDamagedRead(t *testing.T) {
	disk := newDisk(t)
	o := testOptions(disk)
	o.TailBytes = 1
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 9; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, strings.Repeat("x", 300)), HardState: stateOf(1, 1, i)})
	}
	off, end := spanOf(t, readFiles(t, disk)[segmentName(1)], 2)
	file := must[vfs.File](t)(disk.OpenReadWrite(disk.PathJoin(testDir, segmentName(1)), vfs.WriteCategoryUnspecified))
	for at := off; at < end; at++ {
		b := make([]byte, 1)
		_, err := file.ReadAt(b, at)
		mustNil(t, err)
		mustNil(t, writeAt(file, []byte{b[0] ^ 1}, at))
		if _, err := l.Entries(1, 4, ^uint64(0)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d of the record: %v", at-off, err)
		}
		mustNil(t, writeAt(file, b, at))
	}
	if _, err := l.Entries(1, 4, ^uint64(0)); err != nil {
		t.Fatal(err)
	}
}

// TestEntrySize compares the size we count with the one raft counts.
func TestEntrySize(t *testing.T) {
	for _, e := range []*raftpb.Entry{
		{}, entry(0, 0, nil), entry(1, 127, []byte{}), entry(128, 1<<40, make([]byte, 127)),
		{Type: raftpb.EntryConfChange.Enum(), Index: new(^uint64(0)), Term: new(uint64(1 << 63)), Data: make([]byte, 70000)},
	} {
		if got, want := entrySize(e), uint64(proto.Size(e)); got != want {
			t.Errorf("%v: %d, want %d", brief(e), got, want)
		}
	}
}

// TestPagedRead follows a large record with a small limit, as a slow follower does.
func TestPagedRead(t *testing.T) {
	o := testOptions(plainDisk(t))
	o.SegmentBytes, o.TailBytes = 8<<20, 1
	l := mustCreate(t, o, Position{})
	want := content{}
	for i := range uint64(4) {
		var entries []*raftpb.Entry
		for n := range uint64(2000) {
			entries = append(entries, entry(1+i*2000+n, 1, []byte(fmt.Sprint("entry ", i, n, strings.Repeat("y", int(n%600))))))
		}
		mustAppend(t, l, Batch{Entries: entries})
		want.append(entries)
	}
	var got []*raftpb.Entry
	for next := uint64(1); next <= 8000; {
		page, err := l.Entries(next, 8001, 9000)
		mustNil(t, err)
		got = append(got, page...)
		next += uint64(len(page))
	}
	mustNil(t, sameEntries(got, want.entries))
}

// TestMemoryPerEntry bounds what the index remembers: 16 bytes for each 32 KiB, however small the entries.
func TestMemoryPerEntry(t *testing.T) {
	o := testOptions(plainDisk(t))
	o.SegmentBytes, o.TailBytes = 1<<20, 10000
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 2000; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, "0123456789")})
	}
	size, _ := l.Size()
	points := 0
	for _, r := range l.index.runs {
		points += len(r.points)
	}
	if limit := int(size/pointSpacing) + 2; points > limit || len(l.index.terms) != 1 || l.tail.bytes > 10000 {
		t.Errorf("%d points, at most %d; %d term ranges; tail of %d bytes", points, limit, len(l.index.terms), l.tail.bytes)
	}
}

// readHook calls its hook behind every read of a file.
type readHook struct {
	vfs.FS
	hook func()
}

func (fs *readHook) OpenReadWrite(name string, c vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c)
	return &readHookFile{f, fs}, err
}

type readHookFile struct {
	vfs.File
	fs *readHook
}

func (f *readHookFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if f.fs.hook != nil {
		f.fs.hook()
	}
	return n, err
}

// TestReplacedWhileRead replaces entries that a read has already taken. It must not return a mixture of old and new.
func TestReplacedWhileRead(t *testing.T) {
	fs := &readHook{FS: newDisk(t)}
	o := testOptions(fs)
	o.TailBytes = 1
	l := mustCreate(t, o, Position{})
	for i := uint64(1); i <= 12; i++ {
		mustAppend(t, l, Batch{Entries: entriesOf(i, 1, strings.Repeat("x", 900)), HardState: stateOf(1, 1, 0)})
	}
	var want []*raftpb.Entry
	fs.hook = func() {
		fs.hook = nil
		var replaced []*raftpb.Entry
		for i := uint64(3); i <= 13; i++ {
			replaced = append(replaced, entriesOf(i, 2, strings.Repeat("y", 900))...)
		}
		want = append(entriesOf(1, 1, strings.Repeat("x", 900), strings.Repeat("x", 900)), replaced[:10]...)
		mustAppend(t, l, Batch{Entries: replaced, HardState: stateOf(2, 1, 0)})
	}
	got, err := l.Entries(1, 13, ^uint64(0))
	mustNil(t, err)
	if want == nil {
		t.Fatal("nothing was replaced")
	}
	mustNil(t, sameEntries(got, want))
}

// TestConcurrent runs everything that may run at the same time; the race detector and the comparisons judge.
func TestConcurrent(t *testing.T) {
	o := testOptions(newDisk(t))
	o.SegmentBytes, o.TailBytes = 8<<10, 1000
	l := mustCreate(t, o, Position{})
	stop := make(chan struct{})
	var all sync.WaitGroup
	finish := sync.OnceFunc(func() {
		close(stop)
		all.Wait()
	})
	defer finish()
	loop := func(f func() error) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	data := func(i, term uint64) string { return fmt.Sprint(i, "/", term, strings.Repeat("z", int(i%500))) }
	loop(func() error {
		first, _ := l.FirstIndex()
		last, _ := l.LastIndex()
		if last < first {
			return nil
		}
		entries, err := l.Entries(first, last+1, 20000)
		if errors.Is(err, raft.ErrCompacted) || errors.Is(err, raft.ErrUnavailable) {
			return nil
		}
		for n, e := range entries {
			if e.GetIndex() != first+uint64(n) || string(e.Data) != data(e.GetIndex(), e.GetTerm()) ||
				(n > 0 && e.GetTerm() < entries[n-1].GetTerm()) {
				return fmt.Errorf("place %d after %d: %s", n, first, brief(e))
			}
		}
		return err
	})
	loop(l.Prepare)
	loop(func() error {
		if hs := l.HardState(); hs.GetCommit() > 50 {
			return l.Truncate(hs.GetCommit() - 50)
		}
		return nil
	})
	loop(func() error {
		_, err := l.Scrub(3000)
		return err
	})
	last, term, commit := uint64(0), uint64(1), uint64(0)
	for i := range 600 {
		first := last + 1
		if i%20 == 19 {
			term++
			first = max(commit+1, last-3)
		}
		entries := entriesOf(first, term, data(first, term), data(first+1, term), data(first+2, term))
		last = first + 2
		commit = max(commit, last-5*min(1, last/6))
		commit = min(commit, last)
		mustAppend(t, l, Batch{Entries: entries, HardState: stateOf(term, 1, commit)})
		if i%50 == 0 {
			mustNil(t, l.MarkIdle())
		}
	}
	finish()
	mustNil(t, l.Close())
}
