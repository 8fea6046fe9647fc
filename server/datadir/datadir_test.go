package datadir

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var identity = Identity{ClusterID: 0xabc, MemberID: 0xffffffffffffffff}

func mustOpen(t *testing.T, fs vfs.FS, root string) *Dir {
	t.Helper()
	d, err := Open(fs, root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func initialise(t *testing.T, fs vfs.FS, root string) {
	t.Helper()
	d := mustOpen(t, fs, root)
	if !d.Fresh {
		t.Fatal("an empty directory is not fresh")
	}
	if err := d.Commit(identity); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestInitialiseAndReopen(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	initialise(t, fs, root)
	d := mustOpen(t, fs, root)
	defer d.Close()
	if d.Fresh {
		t.Fatal("an initialised directory is fresh")
	}
	if d.Identity != identity {
		t.Fatalf("identity %v, want %v", d.Identity, identity)
	}
	for _, p := range []string{d.Wal(), d.State(), fs.PathJoin(root, "member", "wal"), fs.PathJoin(root, "member", "snap", "db")} {
		if _, err := fs.Stat(p); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(d.Member())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("member directory: %v, %v", info.Mode(), err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	initialise(t, fs, root)
	d := mustOpen(t, fs, root)
	defer d.Close()
	if _, err := Open(fs, root); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want %v", err, ErrInUse)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(fs vfs.FS, root string) error
		want  error
		says  string
	}{
		{"etcd's directory", func(fs vfs.FS, root string) error {
			return errors.Join(fs.MkdirAll(fs.PathJoin(root, "member", "snap"), 0o700),
				writeFile(fs, fs.PathJoin(root, "member", "snap", "db"), "\xed\xda\x0c\xed"))
		}, ErrForeign, "etcd"},
		{"something else", func(fs vfs.FS, root string) error {
			return fs.MkdirAll(fs.PathJoin(root, "member"), 0o700)
		}, ErrForeign, "choose another --data-dir"},
		{"newer format", func(fs vfs.FS, root string) error {
			initialise(t, fs, root)
			return writeFile(fs, fs.PathJoin(root, "member", "FORMAT"), "keelson 2\n")
		}, ErrNewer, "start it with the version that wrote it"},
		{"scribbled format", func(fs vfs.FS, root string) error {
			initialise(t, fs, root)
			return writeFile(fs, fs.PathJoin(root, "member", "FORMAT"), "keelson x")
		}, ErrDamaged, "restore the directory"},
		{"scribbled identity", func(fs vfs.FS, root string) error {
			initialise(t, fs, root)
			return writeFile(fs, fs.PathJoin(root, "member", "IDENTITY"), "cluster 0\n")
		}, ErrDamaged, "whose directory"},
		{"log is missing", func(fs vfs.FS, root string) error {
			initialise(t, fs, root)
			return fs.RemoveAll(fs.PathJoin(root, "member", "wal"))
		}, ErrDamaged, "wal is missing"},
		{"state is missing", func(fs vfs.FS, root string) error {
			initialise(t, fs, root)
			return fs.RemoveAll(fs.PathJoin(root, "member", "state"))
		}, ErrDamaged, "state is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, root := vfs.Default, t.TempDir()
			if err := c.spoil(fs, root); err != nil {
				t.Fatal(err)
			}
			_, err := Open(fs, root)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %v saying %q", err, c.want, c.says)
			}
		})
	}
}

// Of two processes that come to an empty directory at the same time one gets it, from the first step on: the other does
// not touch what is in the making.
func TestSecondProcessIsRefusedWhileInitialising(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	first := mustOpen(t, fs, root)
	defer first.Close()
	if _, err := Open(fs, root); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want %v", err, ErrInUse)
	}
	if _, err := fs.Stat(fs.PathJoin(first.Member(), "FORMAT")); err != nil {
		t.Errorf("the first one's work is gone: %v", err)
	}
	if err := first.Commit(identity); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fs, root); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want %v", err, ErrInUse)
	}
}

// A directory that is refused for what is in it is left as it was.
func TestRefusalLeavesNoTrace(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	if err := fs.MkdirAll(fs.PathJoin(root, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fs, root); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	if names, err := fs.List(root); err != nil || len(names) != 1 {
		t.Errorf("%q, %v", names, err)
	}
}

// An initialised directory survives a crash together with the directories above it that were made for it.
func TestCrashKeepsTheDirectoriesAbove(t *testing.T) {
	for _, root := range []string{"/data", "/var/lib/keelson/data"} {
		fs := vfs.NewCrashableMem()
		initialise(t, fs, root)
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		if d := mustOpen(t, after, root); d.Fresh || d.Identity != identity {
			t.Errorf("%s: fresh %v, identity %v", root, d.Fresh, d.Identity)
		}
	}
}

// A crash at any point of the initialisation leaves a directory that is initialised again, or a whole one.
func TestCrashWhileInitialising(t *testing.T) {
	const root = "/data"
	for unsynced := 0; unsynced <= 100; unsynced += 50 {
		images := crashImages(t, root, unsynced)
		for i, fs := range images {
			d, err := Open(fs, root)
			if err != nil {
				t.Fatalf("%d%% unsynced kept, image %d: %v", unsynced, i, err)
			}
			if d.Fresh {
				if err := d.Commit(identity); err != nil {
					t.Fatal(err)
				}
			}
			d.Close()
			if d := mustOpen(t, fs, root); d.Fresh || d.Identity != identity {
				t.Fatalf("%d%% unsynced kept, image %d: fresh %v, identity %v", unsynced, i, d.Fresh, d.Identity)
			}
		}
	}
}

// crashImages initialises a directory and returns what a crash would leave after each step.
func crashImages(t *testing.T, root string, unsynced int) (images []*vfs.MemFS) {
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syncDirs(fs, "/"); err != nil {
		t.Fatal(err)
	}
	snap := func() {
		images = append(images, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: seeded(len(images))}))
	}
	snap()
	d := mustOpen(t, fs, root)
	snap()
	if err := d.Commit(identity); err != nil {
		t.Fatal(err)
	}
	snap()
	return images
}

func TestLeftoverIsRemovedAndStrangersAreReported(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	if err := errors.Join(
		fs.MkdirAll(fs.PathJoin(root, freshName, "state"), 0o700),
		writeFile(fs, fs.PathJoin(root, freshName, "state", "stale"), "x"),
		writeFile(fs, fs.PathJoin(root, "notes.txt"), "x"),
	); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, fs, root)
	defer d.Close()
	if _, err := fs.Stat(fs.PathJoin(d.State(), "stale")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a crashed run's file is still there: %v", err)
	}
	if len(d.Strangers) != 1 || d.Strangers[0] != "notes.txt" {
		t.Errorf("strangers %q", d.Strangers)
	}
}
