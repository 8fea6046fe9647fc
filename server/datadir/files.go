package datadir

import (
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
)

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
