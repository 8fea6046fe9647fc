package sim

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file is an open file or directory of a disk.
type file struct {
	d      *disk
	n      *node
	name   string
	pos    int64
	writes bool
}

func (f *file) Close() error {
	if f.n == nil {
		return os.ErrClosed
	}
	f.n = nil
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.read(f.name, off); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.writes {
		return 0, &os.PathError{Op: "write", Path: f.name, Err: errors.New("opened for reading")}
	}
	if f.d.misdirects(f.name, f.n, off, p) {
		return len(p), nil
	}
	if len(f.d.flaws) > 0 {
		f.d.overwritten(f.n, int(off), len(p))
	}
	if err := f.d.do(opWrite, f.name, f.n, len(p), func(size int) { f.n.write(off, p[:size]) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	switch {
	case f.n.dir && f.d.bug == "skip-directory-sync":
		return nil
	case !f.n.dir && f.d.bug == "skip-log-sync" && inLog(f.name):
		return nil
	case !f.n.dir && f.d.bug == "skip-state-sync" && strings.HasPrefix(f.name, memberDir+"/incoming"):
		return nil
	}
	return f.d.do(opSync, f.name, f.n, 1, func(int) { f.n.sync() })
}

func (f *file) SyncData() error { return f.Sync() }

func (f *file) SyncTo(int64) (fullSync bool, err error) {
	if f.n.dir {
		return false, nil
	}
	return true, f.Sync()
}

func (f *file) Preallocate(offset, length int64) error { return nil }
func (f *file) Prefetch(offset, length int64) error    { return nil }
func (f *file) Fd() uintptr                            { return vfs.InvalidFd }

func (f *file) Stat() (vfs.FileInfo, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return info{name: f.d.PathBase(f.name), size: int64(len(f.n.data)), dir: f.n.dir}, nil
}

// info is what Stat returns.
type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string           { return i.name }
func (i info) Size() int64            { return i.size }
func (i info) ModTime() time.Time     { return time.Time{} }
func (i info) IsDir() bool            { return i.dir }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

func (i info) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}
