package storage

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
)

// orderedFS makes Pebble's markers safe on a file system that may keep the changes of a directory in any order. A marker is
// an empty file whose name says which manifest counts. Pebble creates the manifest, creates the new marker and removes the
// old one, and only then syncs the directory: a crash before that could leave a marker without its manifest, or no marker
// at all, in which case Pebble would begin an empty database.
//
// The journals of ext4, XFS and Btrfs keep the order, and syncing a new file makes its name durable there; POSIX promises
// neither. Here the directory is synced before a marker is created and before one is removed. That happens once for each
// start and for each 128 MiB of manifest.
type orderedFS struct{ env.FS }

func (fs orderedFS) isMarker(name string) bool {
	return strings.HasPrefix(fs.PathBase(name), "marker.")
}

// Create implements vfs.FS.
func (fs orderedFS) Create(name string, w vfs.DiskWriteCategory) (vfs.File, error) {
	if fs.isMarker(name) {
		if err := fs.syncDirOf(name); err != nil {
			return nil, err
		}
	}
	return fs.FS.Create(name, w)
}

// Remove implements vfs.FS.
func (fs orderedFS) Remove(name string) error {
	if fs.isMarker(name) {
		if err := fs.syncDirOf(name); err != nil {
			return err
		}
	}
	return fs.FS.Remove(name)
}

// Unwrap implements vfs.FS.
func (fs orderedFS) Unwrap() vfs.FS { return fs.FS }

func (fs orderedFS) syncDirOf(name string) error {
	dir, err := fs.OpenDir(fs.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
