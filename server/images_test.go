package server

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"keelson/server/datadir"
	"keelson/state"
	"keelson/storage"
)

// smallState opens the state of a new cluster.
func smallState(t *testing.T, fs vfs.FS, dir string) *state.Machine {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: fs, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(state.Bootstrap(db, state.Identity{ClusterID: 7}), db.Flush()); err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(db, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// A disk that is full while an image is made is the end of the image, and not of the member.
func TestImageOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	m := smallState(t, vfs.Default, dir+"/state")
	for _, where := range []string{"", "MANIFEST", "marker"} {
		made := t.TempDir()
		if _, _, err := m.Checkpoint(made + "/state"); err != nil {
			t.Fatal(err)
		}
		full := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, "sorted") && strings.Contains(op.Path, where) {
				return syscall.ENOSPC
			}
			return nil
		}))
		_, err := writeImage(context.Background(), full,
			func(reason string) { t.Errorf("%q: the member ends: %s", where, reason); panic("end") },
			func(reason string) bool { t.Errorf("%q: the store is damaged: %s", where, reason); return false },
			made+"/state", made)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%q: %v", where, err)
		}
	}
	made := t.TempDir()
	if _, _, err := m.Checkpoint(made + "/state"); err != nil {
		t.Fatal(err)
	}
	i, err := writeImage(context.Background(), vfs.Default, nil, nil, made+"/state", made)
	if err != nil {
		t.Fatal(err)
	}
	_ = i.Close()
}

// smallDisk is a disk with little room.
type smallDisk struct {
	vfs.FS
	left uint64
}

// GetDiskUsage implements vfs.FS.
func (d smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.left}, nil
}

// An image that the disk has no room for is not begun: the log and the store would go without.
func TestNoRoomForAnImage(t *testing.T) {
	root := t.TempDir()
	dir, err := datadir.Open(vfs.Default, root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	m := smallState(t, vfs.Default, dir.State())
	for left, want := range map[uint64]bool{shrinkMarginBytes: false, 2 * shrinkMarginBytes: true} {
		x := newImages(&Server{engine: &engine{fs: smallDisk{vfs.Default, left}, dir: dir, machine: m}})
		if err := x.roomForImage(); (err == nil) != want {
			t.Errorf("%d bytes left: %v", left, err)
		}
	}
}
