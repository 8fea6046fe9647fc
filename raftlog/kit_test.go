package raftlog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of the random tests; 0 draws the fixed default ones")
	roundsFlag = flag.Int("rounds", 0, "rounds of each random test; 0 is the short form")
)

const testDir = "data/log"

// seeds returns the seeds of a random test: the one asked for, or n of them from first on. A failure names its seed.
func seeds(t *testing.T, first uint64, n int) []uint64 {
	t.Helper()
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	if *roundsFlag > 0 {
		n = *roundsFlag
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}

func rngOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x6b65656c)) }

// newDisk returns an empty crashable disk with the parent of testDir.
func newDisk(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("data", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(fs, "."); err != nil {
		t.Fatal(err)
	}
	return fs
}

// plainDisk returns an empty disk that cannot crash, which is faster for large files.
func plainDisk(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	mustNil(t, fs.MkdirAll("data", 0o755))
	return fs
}

func testOptions(fs vfs.FS) Options {
	return Options{FS: fs, Dir: testDir, ClusterID: 0xc1, MemberID: 0x3e, SegmentBytes: 4 << 10, TailBytes: 2 << 10}
}

func entry(index, term uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: new(index), Term: new(term), Data: data}
}

func entriesOf(first, term uint64, data ...string) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i, d := range data {
		out = append(out, entry(first+uint64(i), term, []byte(d)))
	}
	return out
}

func stateOf(term, vote, commit uint64) *raftpb.HardState {
	return hardState{term, vote, commit}.proto()
}

func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func mustCreate(t testing.TB, o Options, base Position) *Log {
	t.Helper()
	l, err := Create(o, base)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustOpen(t testing.TB, o Options, durable Position) (*Log, Recovery) {
	t.Helper()
	l, r, err := Open(o, durable)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func mustAppend(t testing.TB, l *Log, batches ...Batch) {
	t.Helper()
	if err := l.Append(batches...); err != nil {
		t.Fatal(err)
	}
}

func mustNil(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is all that a log shows.
type content struct {
	base    Position
	entries []*raftpb.Entry
	hs      hardState
}

func (c *content) last() uint64 { return c.base.Index + uint64(len(c.entries)) }

func (c *content) term(i uint64) uint64 {
	if i == c.base.Index {
		return c.base.Term
	}
	return c.entries[i-c.base.Index-1].GetTerm()
}

func (c *content) position(i uint64) Position { return Position{i, c.term(i)} }

func (c *content) clone() content {
	return content{c.base, slices.Clone(c.entries), c.hs}
}

// append is what raft means by an append of these entries.
func (c *content) append(entries []*raftpb.Entry) {
	if len(entries) > 0 {
		keep := entries[0].GetIndex() - c.base.Index - 1
		c.entries = append(slices.Clip(c.entries[:keep]), entries...)
	}
}

// trim drops what is at and below base.
func (c *content) trim(base uint64) {
	p := c.position(base)
	c.entries = c.entries[base-c.base.Index:]
	c.base = p
}

// contentOf reads everything back through the public methods, checking each against the others.
func contentOf(l *Log) (content, error) {
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	c := content{base: Position{Index: first - 1}, hs: hardStateOf(l.HardState())}
	var err error
	if c.base.Term, err = l.Term(first - 1); err != nil {
		return c, err
	}
	if last >= first {
		if c.entries, err = l.Entries(first, last+1, ^uint64(0)); err != nil {
			return c, err
		}
	}
	if c.last() != last {
		return c, fmt.Errorf("entries end with %d, last index is %d", c.last(), last)
	}
	for i, e := range c.entries {
		if e.GetIndex() != first+uint64(i) {
			return c, fmt.Errorf("entry %d at place %d", e.GetIndex(), first+uint64(i))
		}
		term, err := l.Term(e.GetIndex())
		if err != nil || term != e.GetTerm() {
			return c, fmt.Errorf("term of entry %d is %d, %v, in the entry %d", e.GetIndex(), term, err, e.GetTerm())
		}
	}
	return c, nil
}

// sameEntries compares two stretches of log.
func sameEntries(a, b []*raftpb.Entry) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d entries, want %d", len(a), len(b))
	}
	for i := range a {
		if !proto.Equal(a[i], b[i]) {
			return fmt.Errorf("entry %v, want %v", brief(a[i]), brief(b[i]))
		}
	}
	return nil
}

func brief(e *raftpb.Entry) string {
	return fmt.Sprintf("%d/%d type %v, %d bytes %.20q", e.GetIndex(), e.GetTerm(), e.Type, len(e.Data), e.Data)
}

func sameContent(got, want content) error {
	if got.base != want.base {
		return fmt.Errorf("base %+v, want %+v", got.base, want.base)
	}
	if got.hs != want.hs {
		return fmt.Errorf("hard state %s, want %s", got.hs, want.hs)
	}
	return sameEntries(got.entries, want.entries)
}

func checkContent(t testing.TB, l *Log, want content) {
	t.Helper()
	got, err := contentOf(l)
	if err == nil {
		err = sameContent(got, want)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// files are the contents of a directory.
type files map[string][]byte

func readFiles(t testing.TB, fs vfs.FS) files {
	t.Helper()
	out := files{}
	for _, name := range must[[]string](t)(fs.List(testDir)) {
		f := must[vfs.File](t)(fs.Open(fs.PathJoin(testDir, name)))
		info := must[vfs.FileInfo](t)(f.Stat())
		b := make([]byte, info.Size())
		if len(b) > 0 {
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
		}
		mustNil(t, f.Close())
		out[name] = b
	}
	return out
}

func (f files) clone() files {
	out := files{}
	for name, b := range f {
		out[name] = bytes.Clone(b)
	}
	return out
}

// disk writes the files onto a new disk, synced.
func (f files) disk(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := newDisk(t)
	mustNil(t, fs.MkdirAll(testDir, 0o755))
	for name, b := range f {
		file := must[vfs.File](t)(fs.Create(fs.PathJoin(testDir, name), vfs.WriteCategoryUnspecified))
		if _, err := file.Write(bytes.Clone(b)); err != nil { // Write may change what it is given
			t.Fatal(err)
		}
		mustNil(t, file.Sync())
		mustNil(t, file.Close())
	}
	mustNil(t, syncDir(fs, testDir))
	mustNil(t, syncDir(fs, "data"))
	return fs
}

// newest is the name of the newest segment.
func (f files) newest() string {
	newest := ""
	for name := range f {
		if _, ok := segmentNumber(name); ok && name > newest {
			newest = name
		}
	}
	return newest
}

// spanOf returns the place of record seq in a segment's bytes.
func spanOf(t testing.TB, b []byte, seq uint64) (off, end int64) {
	t.Helper()
	h, err := parseSegmentHeader("", b[:segmentHeaderSize])
	mustNil(t, err)
	c := newCursor(&h, bytes.NewReader(b), int64(len(b)))
	for {
		rec, d, err := c.next()
		if err != nil || d != nil {
			t.Fatalf("record %d not found: %+v %v", seq, d, err)
		}
		if rec.seq == seq {
			return rec.off, rec.end()
		}
	}
}

// opFS calls after behind every operation that changes the disk, and before in front of it; an error of before is
// returned in place of the operation.
type opFS struct {
	vfs.FS
	before func(op string) error
	after  func(op string)
}

func (fs *opFS) do(op string, f func() error) error {
	if fs.before != nil {
		if err := fs.before(op); err != nil {
			return err
		}
	}
	err := f()
	if fs.after != nil {
		fs.after(op)
	}
	return err
}

func (fs *opFS) open(op, name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = fs.do(op+" "+name, func() error {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &opFile{File: f, fs: fs, name: name}, nil
}

func (fs *opFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return fs.open("open", name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c) })
}

func (fs *opFS) OpenDir(name string) (vfs.File, error) {
	return fs.open("opendir", name, func() (vfs.File, error) { return fs.FS.OpenDir(name) })
}

func (fs *opFS) Remove(name string) error {
	return fs.do("remove "+name, func() error { return fs.FS.Remove(name) })
}

func (fs *opFS) Rename(old, name string) error {
	return fs.do("rename "+name, func() error { return fs.FS.Rename(old, name) })
}

func (fs *opFS) MkdirAll(name string, perm os.FileMode) error {
	return fs.do("mkdir "+name, func() error { return fs.FS.MkdirAll(name, perm) })
}

type opFile struct {
	vfs.File
	fs   *opFS
	name string
}

func (f *opFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.fs.do(fmt.Sprintf("write %s %d..%d", f.name, off, off+int64(len(b))), func() error {
		n, err = f.File.WriteAt(b, off)
		return err
	})
	return n, err
}

func (f *opFile) Sync() error     { return f.fs.do("sync "+f.name, f.File.Sync) }
func (f *opFile) SyncData() error { return f.fs.do("sync "+f.name, f.File.SyncData) }

var errKilled = errors.New("killed")
