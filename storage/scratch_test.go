package storage

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// writeScratch writes some megabytes into a scratch database on a disk, or gives up when it fails.
func writeScratch(fs vfs.FS) error {
	var failed atomic.Pointer[error]
	db, err := OpenScratch(Options{FS: fs, Dir: "scratch", CacheBytes: 1 << 20, MemtableBytes: 256 << 10}, func(err error) {
		if !failed.CompareAndSwap(nil, &err) {
			panic("told twice")
		}
	})
	if err != nil {
		return err
	}
	for i := 0; i < 300 && failed.Load() == nil; i++ {
		b := db.NewBatch()
		b.Set('p', fmt.Appendf(nil, "%d", i*7919%300), bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, 4000))
		if err := b.Commit(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// A disk that fills up at any operation is the end of a scratch database, and of nothing else: nobody waits, nothing panics.
func TestScratchOnAFullDisk(t *testing.T) {
	for at := int64(0); ; at += 1 + at/20 {
		var n atomic.Int64
		full := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || n.Add(1) <= at {
				return nil
			}
			return syscall.ENOSPC
		}))
		err := writeScratch(full)
		if n.Load() <= at {
			if err != nil || at < 100 {
				t.Errorf("%d operations, %v", n.Load(), err)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full from operation %d on: %v", at, err)
		}
	}
}
