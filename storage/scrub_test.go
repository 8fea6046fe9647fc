package storage

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Every bit of a table counts: one that is not as it was written is found by reading the table again, whatever it belongs
// to, and told of. What is whole is read from end to end.
func TestScrubFindsEveryFlippedBit(t *testing.T) {
	fs := vfs.NewMem()
	var told []string
	db, err := Open(Options{FS: fs, Dir: "db", Damaged: func(reason string) bool { told = append(told, reason); return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := db.NewBatch()
	for i := range 100 {
		b.SetVersion(Versions, []byte{byte(i)}, Version{Main: int64(i + 1)}, []byte("value"))
	}
	if err := errors.Join(b.Commit(), db.Flush()); err != nil {
		t.Fatal(err)
	}
	tables, err := db.Tables()
	if err != nil || len(tables) != 1 {
		t.Fatal(tables, err)
	}
	whole := contentOf(t, fs, tables[0])
	ctx := context.Background()
	free := func(context.Context, int) error { return nil }
	if n, err := db.ScrubTable(ctx, tables[0], free); err != nil || n < int64(len(whole))*9/10 {
		t.Fatalf("%d bytes of %d read, %v", n, len(whole), err)
	}
	for at := range whole {
		spoilt := append([]byte(nil), whole...)
		spoilt[at] ^= 1 << (at % 8)
		put(t, fs, tables[0], spoilt)
		told = nil
		if _, err := db.ScrubTable(ctx, tables[0], free); !errors.Is(err, ErrDamaged) || len(told) != 1 {
			t.Errorf("byte %d of %d: %v, told %q", at, len(whole), err, told)
		}
	}
	put(t, fs, tables[0], whole)
	if _, err := db.ScrubTable(ctx, tables[0], free); err != nil {
		t.Error(err)
	}
	if err := fs.Remove(tables[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ScrubTable(ctx, tables[0], free); err != nil {
		t.Errorf("a table that is gone: %v", err)
	}
	put(t, fs, tables[0], whole)
	stop := errors.New("stop")
	if _, err := db.ScrubTable(ctx, tables[0], func(context.Context, int) error { return stop }); err == nil {
		t.Error("went on after its pace had said to end")
	}
}

// A database that has lost the file that names its manifest is not begun anew: what there is of it stays.
func TestMustExistLeavesWhatThereIs(t *testing.T) {
	fs := vfs.NewMem()
	db, err := Open(Options{FS: fs, Dir: "db"})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	b.Set(Meta, []byte("k"), []byte("v"))
	if err := errors.Join(b.Commit(), db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if len(name) > 15 && name[:15] == "marker.manifest" {
			if err := fs.Remove(fs.PathJoin("db", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Open(Options{FS: fs, Dir: "db", MustExist: true}); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
	after, err := fs.List("db")
	if err != nil || len(after) != len(names)-1 {
		t.Errorf("of %q there are %q, %v", names, after, err)
	}
}

func contentOf(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
