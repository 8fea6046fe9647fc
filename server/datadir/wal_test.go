package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestLogApart(t *testing.T) {
	fs, root, wal := vfs.Default, t.TempDir(), filepath.Join(t.TempDir(), "disk", "wal")
	open := func() *Dir {
		t.Helper()
		d, err := OpenApart(fs, root, wal)
		if err != nil {
			t.Fatal(err)
		}
		if d.Wal() != wal {
			t.Fatalf("the log is in %s", d.Wal())
		}
		return d
	}
	write := func() {
		t.Helper()
		if err := os.WriteFile(filepath.Join(wal, "segment"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	isThere := func(want bool) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(wal, "segment")); (err == nil) != want {
			t.Errorf("the log: %v, want it there: %t", err, want)
		}
	}

	d := open()
	write()
	if err := d.Close(); err != nil { // a crash before Commit
		t.Fatal(err)
	}
	d = open()
	isThere(false)
	write()
	if err := d.Commit(identity); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open()
	isThere(true)
	if d.Fresh || d.Identity != identity {
		t.Errorf("fresh %t, identity %v", d.Fresh, d.Identity)
	}
	if names, err := fs.List(filepath.Join(root, "member", "wal")); err != nil || len(names) > 0 {
		t.Errorf("inside there is %v, %v", names, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// A crash between the last two steps of Commit.
	if err := os.WriteFile(filepath.Join(wal, unfinishedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d = open()
	isThere(true)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open()
	isThere(true)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// Another member does not get it.
	if _, err := OpenApart(fs, t.TempDir(), wal); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
	isThere(true)
}
