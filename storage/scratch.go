package storage

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
)

// OpenScratch opens a new database for what is only of use to the caller, and goes no further than o.Dir: should it fail, as on
// a full disk, failed is told why, and the process goes on. From then on nothing in the database is right: the caller has to
// give up, close it, and remove the directory. failed is told once, from any goroutine, and must not wait for the caller.
//
// Pebble ends the process when a manifest or a directory can't be written, and tries again for ever when a table can't, while
// whoever writes waits. So it never hears of a failure: after the first one all writes seem to succeed, and go nowhere.
func OpenScratch(o Options, failed func(error)) (*DB, error) {
	disk := &scratchDisk{FS: o.FS, failed: failed}
	o.FS, o.expendable = disk, true
	o.Fatal = func(reason string) { disk.note(errors.New("storage: " + reason)) }
	db, err := Open(o)
	if cause := disk.cause(); cause != nil {
		if err == nil {
			err = db.Close()
		}
		return nil, errors.Join(fmt.Errorf("storage: open scratch %s: %w", o.Dir, cause), err)
	}
	return db, err
}

// scratchDisk is a disk that seems to work after it has failed.
type scratchDisk struct {
	env.FS
	failed func(error)

	mu    sync.Mutex
	first error // what it has failed with; nil: nothing yet
}

func (d *scratchDisk) cause() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first
}

// note takes in a failure.
func (d *scratchDisk) note(err error) {
	d.mu.Lock()
	first := d.first == nil
	if first {
		d.first = err
	}
	d.mu.Unlock()
	if first {
		d.failed(err)
	}
}

// try makes a change of the disk, as long as none has failed.
func (d *scratchDisk) try(change func() error) {
	if d.cause() != nil {
		return
	}
	if err := change(); err != nil {
		d.note(err)
	}
}

// open makes a file to write to. If it can't be made, what is written goes nowhere.
func (d *scratchDisk) open(name string, make func() (vfs.File, error)) (f vfs.File, err error) {
	d.try(func() (err error) { f, err = make(); return err })
	if f == nil {
		if f, err = vfs.NewMem().Create(d.FS.PathBase(name), vfs.WriteCategoryUnspecified); err != nil {
			return nil, err
		}
	}
	return scratchFile{f, d}, nil
}

// Create implements vfs.FS.
func (d *scratchDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open(name, func() (vfs.File, error) { return d.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (d *scratchDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.open(name, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (d *scratchDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open(to, func() (vfs.File, error) { return d.FS.ReuseForWrite(from, to, c) })
}

// OpenDir implements vfs.FS.
func (d *scratchDisk) OpenDir(name string) (vfs.File, error) {
	return d.open(name, func() (vfs.File, error) { return d.FS.OpenDir(name) })
}

// Link implements vfs.FS.
func (d *scratchDisk) Link(from, to string) error {
	d.try(func() error { return d.FS.Link(from, to) })
	return nil
}

// Rename implements vfs.FS.
func (d *scratchDisk) Rename(from, to string) error {
	d.try(func() error { return d.FS.Rename(from, to) })
	return nil
}

// Remove implements vfs.FS.
func (d *scratchDisk) Remove(name string) error {
	d.try(func() error { return d.FS.Remove(name) })
	return nil
}

// MkdirAll implements vfs.FS.
func (d *scratchDisk) MkdirAll(name string, mode os.FileMode) error {
	d.try(func() error { return d.FS.MkdirAll(name, mode) })
	return nil
}

// Unwrap implements vfs.FS.
func (d *scratchDisk) Unwrap() vfs.FS { return d.FS }

// scratchFile is a file on such a disk.
type scratchFile struct {
	vfs.File
	d *scratchDisk
}

// Write implements vfs.File.
func (f scratchFile) Write(b []byte) (int, error) {
	n := len(b)
	f.d.try(func() error { _, err := f.File.Write(b); return err })
	return n, nil
}

// WriteAt implements vfs.File.
func (f scratchFile) WriteAt(b []byte, at int64) (int, error) {
	n := len(b)
	f.d.try(func() error { _, err := f.File.WriteAt(b, at); return err })
	return n, nil
}

// Preallocate implements vfs.File.
func (f scratchFile) Preallocate(offset, length int64) error {
	f.d.try(func() error { return f.File.Preallocate(offset, length) })
	return nil
}

// Sync implements vfs.File.
func (f scratchFile) Sync() error {
	f.d.try(f.File.Sync)
	return nil
}

// SyncData implements vfs.File.
func (f scratchFile) SyncData() error {
	f.d.try(f.File.SyncData)
	return nil
}

// SyncTo implements vfs.File.
func (f scratchFile) SyncTo(length int64) (full bool, err error) {
	f.d.try(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, nil
}
