package snapshot

import (
	"errors"
	"os"
	"slices"

	"keelson/env"
)

// keepOnly removes everything from a directory, which need not exist, but what has one of some names (sorted).
func keepOnly(fs env.FS, dir string, names ...string) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	found, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range found {
		if _, keep := slices.BinarySearch(names, name); keep {
			continue
		}
		if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(fs env.FS, path string) error {
	if err := fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(fs env.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
