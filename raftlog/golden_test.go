package raftlog

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// goldenLog makes the log of the fixture: every kind of record, two segments, a base, a replaced suffix, all kinds of
// entries.
func goldenLog(t *testing.T) (Options, files, content) {
	t.Helper()
	disk := newDisk(t)
	o := testOptions(disk)
	o.SegmentBytes = 10 << 10
	l := mustCreate(t, o, Position{100, 7})
	c := content{base: Position{100, 7}}
	add := func(hs hardState, entries ...*raftpb.Entry) {
		mustAppend(t, l, Batch{HardState: hs.proto(), Entries: entries})
		c.append(entries)
		c.hs = hs
	}
	change := entry(102, 8, []byte("change"))
	change.Type = raftpb.EntryConfChangeV2.Enum()
	normal := entry(103, 8, []byte{})
	normal.Type = raftpb.EntryNormal.Enum()
	add(hardState{8, 0x77, 100}, entry(101, 8, nil), change, normal)
	add(hardState{8, 0x77, 102})
	add(hardState{9, 0x78, 102}, entriesOf(103, 9, "replaced", strings.Repeat("\x00", 2000))...)
	mustNil(t, l.MarkIdle())
	add(hardState{9, 0x78, 104}, entriesOf(105, 9, strings.Repeat("x", 3000))...)
	add(hardState{9, 0x78, 105}, entriesOf(106, 9, strings.Repeat("y", 3000))...)
	mustNil(t, l.MarkIdle())
	all := readFiles(t, disk)
	for name, b := range all { // the zeros behind the records need not be kept
		all[name] = bytes.TrimRight(b, "\x00")
	}
	return o, all, c
}

// TestGolden checks that this code writes format v1 to the byte, reads it, and prints it.
func TestGolden(t *testing.T) {
	o, written, want := goldenLog(t)
	dir := filepath.Join("testdata", "v1")
	if *rewrite {
		mustNil(t, os.RemoveAll(dir))
		mustNil(t, os.MkdirAll(dir, 0o755))
		for name, b := range written {
			mustNil(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		}
	}
	kept := files{}
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		kept[e.Name()] = must[[]byte](t)(os.ReadFile(filepath.Join(dir, e.Name())))
	}
	if len(kept) != 2 || !sameFiles(kept, written) {
		t.Errorf("the fixture in %s (%d files) is not what is written now (%d)", dir, len(kept), len(written))
	}
	o.FS = kept.disk(t)
	var dump bytes.Buffer
	mustNil(t, Dump(o.FS, o.Dir, &dump))
	path := filepath.Join("testdata", "v1.dump")
	if *rewrite {
		mustNil(t, os.WriteFile(path, dump.Bytes(), 0o644))
	}
	if kept := must[[]byte](t)(os.ReadFile(path)); !bytes.Equal(kept, dump.Bytes()) {
		t.Errorf("%s differs:\n%s", path, dump.Bytes())
	}
	l, r := mustOpen(t, o, Position{104, 9})
	checkContent(t, l, want)
	if r.Cut != nil || r.Segments != 2 {
		t.Errorf("%+v", r)
	}
}

// TestDumpDamage checks that a damaged log can still be looked at.
func TestDumpDamage(t *testing.T) {
	o, all, _ := goldenLog(t)
	f := all.clone()
	off, _ := spanOf(t, f[segmentName(1)], 3)
	f[segmentName(1)][off+recordHeaderSize+2] ^= 1
	f[segmentName(2)][40] ^= 1
	o.FS = f.disk(t)
	var dump bytes.Buffer
	mustNil(t, Dump(o.FS, o.Dir, &dump))
	for _, part := range []string{"#2 state", "no record #3", "body checksum", "not the shape of a torn write", "header checksum"} {
		if !strings.Contains(dump.String(), part) {
			t.Errorf("dump does not say %q:\n%s", part, dump.String())
		}
	}
}
