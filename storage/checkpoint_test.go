package storage

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCheckpointHoldsWhatIsInMemory: nobody has to flush before, and what becomes of the original does not matter.
func TestCheckpointHoldsWhatIsInMemory(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db := openTest(t, fs, Options{})
	var want []string
	for i := range 200 {
		commit(t, db, func(b *Batch) { b.Set(Meta, fmt.Appendf(nil, "%03d", i), []byte("x")) })
		want = append(want, fmt.Sprintf("%03d=x", i))
		if i%50 == 0 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("copy")
	if err != nil || !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".sst") }) {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		if !IsCheckpointFile(name) {
			t.Errorf("%q is in a checkpoint and is not known as a file of one", name)
		}
	}
	commit(t, db, func(b *Batch) { b.DeleteRange(Meta, nil, nil) })
	if err := db.Checkpoint("empty"); err != nil { // the tables of before are compacted away
		t.Fatal(err)
	}
	c, err := db.OpenCheckpoint("copy")
	if err != nil {
		t.Fatal(err)
	}
	it, err := c.Iter(Meta, nil, nil)
	expect(t, "copy", list(t, it, err), want...)
	closeTest(t, c)
	if after, err := fs.List("copy"); err != nil || len(after) > len(names)+1 {
		t.Errorf("opening a checkpoint has left %q, before %q, %v", after, names, err)
	}
	closeTest(t, db)
	if err := fs.RemoveAll("db"); err != nil {
		t.Fatal(err)
	}
	copied := openTestDir(t, fs, "copy")
	it, err = copied.Iter(Meta, nil, nil)
	expect(t, "copy alone", list(t, it, err), want...)
	closeTest(t, copied)
}

func openTestDir(t *testing.T, fs vfs.FS, dir string) *DB {
	t.Helper()
	db, err := Open(Options{FS: fs, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestIsCheckpointFile(t *testing.T) {
	for _, name := range []string{
		"000001.sst", "12345678.sst", "000007.blob", "MANIFEST-000001", "OPTIONS-123456",
		"marker.format-version.000011.024", "marker.manifest.000001.MANIFEST-000001",
	} {
		if !IsCheckpointFile(name) {
			t.Errorf("%q is not known", name)
		}
	}
	for _, name := range []string{
		"", ".", "..", "LOCK", "CURRENT", "00001.sst", "x00001.sst", "000001.sst.", "000001.log", "000001", "/000001.sst",
		"../000001.sst", "a/000001.sst", `a\000001.sst`, "000001.sst\x00", "MANIFEST-", "MANIFEST-00000x", "MANIFEST-000001/..",
		"marker.manifest.000001", "marker.manifest.000001.", "marker.a.000001.b.c", "marker..000001.a", "marker.a/b.000001.c",
		"marker.a.000001.ü", "000001.SST", "-000001.sst", "+000001.sst", " 000001.sst", strings.Repeat("1", 21) + ".sst",
	} {
		if IsCheckpointFile(name) {
			t.Errorf("%q is taken for a file of a checkpoint", name)
		}
	}
}

// FuzzIsCheckpointFile: no name of a checkpoint's file leads anywhere.
func FuzzIsCheckpointFile(f *testing.F) {
	f.Add("000001.sst")
	f.Add("marker.manifest.000001.MANIFEST-000001")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, name string) {
		if IsCheckpointFile(name) && (len(name) > fileNameMax || strings.ContainsAny(name, "/\\:\x00 ") || strings.HasPrefix(name, ".")) {
			t.Errorf("%q", name)
		}
	})
}

// TestCheckpointOfAReader makes one of a database that is open for reading, and writes to it.
func TestCheckpointOfAReader(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db := openTest(t, fs, Options{})
	commit(t, db, func(b *Batch) { b.Set(Meta, []byte("a"), []byte("1")) })
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	closeTest(t, db)
	reader := openTest(t, fs, Options{ReadOnly: true})
	if err := reader.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	copied := openTestDir(t, fs, "copy")
	commit(t, copied, func(b *Batch) { b.Set(Meta, []byte("a"), []byte("2")) })
	if err := copied.Flush(); err != nil {
		t.Fatal(err)
	}
	closeTest(t, copied)
	copied = openTestDir(t, fs, "copy")
	for want, db := range map[string]*DB{"1": reader, "2": copied} {
		if v, ok, err := db.Get(Meta, []byte("a")); string(v) != want || !ok || err != nil {
			t.Errorf("%s, %v, %v; want %s", v, ok, err, want)
		}
		closeTest(t, db)
	}
}
