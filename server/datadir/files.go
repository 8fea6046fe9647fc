package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
)

// makeRoot makes the data directory, if there is none, durably with all directories above it that are missing too: what
// is acknowledged must not vanish with a name that a crash takes away.
//
// The directory above is synced also if nothing is missing: the run that made it may have crashed before it could. Where
// directories may be entered but not read, that can't be done, and whoever made them has to answer for them.
func makeRoot(fs env.FS, root string) error {
	above := []string{fs.PathDir(root)}
	for parent := above[0]; fs.PathDir(parent) != parent; parent = fs.PathDir(parent) {
		if _, err := fs.Stat(parent); err == nil {
			break
		}
		above = append(above, fs.PathDir(parent))
	}
	if err := fs.MkdirAll(root, 0o700); err != nil {
		return err
	}
	for _, dir := range above {
		if err := syncDirs(fs, dir); err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

// fileBytesMax bounds what is read of a file that should hold a line.
const fileBytesMax = 4 << 10

func readFile(fs env.FS, path string) (string, error) {
	f, err := fs.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, fileBytesMax))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return string(b), err
}

// writeFile writes and syncs a small file. Its directory is the caller's to sync.
func writeFile(fs env.FS, path, text string) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write([]byte(text))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDirs(fs env.FS, paths ...string) error {
	for _, p := range paths {
		f, err := fs.OpenDir(p)
		if err != nil {
			return fmt.Errorf("open directory %s: %w", p, err)
		}
		err = f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("sync directory %s: %w", p, err)
		}
	}
	return nil
}
