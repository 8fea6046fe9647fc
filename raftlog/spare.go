package raftlog

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const zeroChunkBytes = 1 << 20

// tempFile is a file with its space reserved that will become a segment. It has a temporary name until its header is
// on disk.
type tempFile struct {
	path string
	file vfs.File
}

// Prepare makes the next segment ahead of its use, with all its space written out as zeros, unless that was done
// already. An append then needs no new space and changes no file size, so that its sync writes data and nothing else,
// and a rotation does not wait for the space. Call it from a goroutine that may wait for the disk, after Create or
// Open and then whenever about a segment may have been written, beside any other call. The log works without.
//
// A failure leaves nothing behind and does not poison the log, because nothing that was acknowledged depends on the
// file. The caller decides: a full disk is an early warning, anything else means the disk fails.
func (l *Log) Prepare() error {
	l.mu.Lock()
	if l.err != nil || l.spare != nil {
		defer l.mu.Unlock()
		return l.err
	}
	l.mu.Unlock()
	t, err := l.makeTemp(true)
	if err != nil {
		return fmt.Errorf("raftlog: prepare: %w", err)
	}
	l.mu.Lock()
	taken := l.spare == nil && l.err == nil
	if taken {
		l.spare = t
	}
	l.mu.Unlock()
	if !taken {
		return l.discard(t)
	}
	return nil
}

// takeSpare returns the prepared file, or makes one without writing out its space.
func (l *Log) takeSpare(zeroFill bool) (*tempFile, error) {
	l.mu.Lock()
	t := l.spare
	l.spare = nil
	l.mu.Unlock()
	if t != nil {
		return t, nil
	}
	return l.makeTemp(zeroFill)
}

func (l *Log) makeTemp(zeroFill bool) (*tempFile, error) {
	l.mu.Lock()
	l.temps++
	path := l.o.FS.PathJoin(l.o.Dir, tempName(l.temps))
	l.mu.Unlock()
	file, err := l.o.FS.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	t := &tempFile{path, file}
	if err := reserve(file, l.o.SegmentBytes, zeroFill); err != nil {
		return nil, errors.Join(fmt.Errorf("reserve %d bytes for %s: %w", l.o.SegmentBytes, path, err), l.discard(t))
	}
	return t, nil
}

func (l *Log) discard(t *tempFile) error {
	return errors.Join(t.file.Close(), l.o.FS.Remove(t.path))
}

// reserve asks the file system for the space of a segment and, if wanted, writes it out, in pieces so that a sync
// beside it does not wait for all of it.
func reserve(file vfs.File, bytes int64, zeroFill bool) error {
	if err := file.Preallocate(0, bytes); err != nil && !notSupported(err) {
		return err
	}
	if !zeroFill {
		return nil
	}
	zeros := make([]byte, min(zeroChunkBytes, bytes))
	for off := int64(0); off < bytes; off += int64(len(zeros)) {
		if err := writeAt(file, zeros[:min(int64(len(zeros)), bytes-off)], off); err != nil {
			return err
		}
		if err := file.SyncData(); err != nil {
			return err
		}
	}
	return file.Sync()
}

// notSupported reports whether a file system does not know how to reserve space, which is not needed.
func notSupported(err error) bool {
	return errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL)
}

// nextSegment makes a segment with the given header. When it returns, the file is complete and durable under its
// name, and so is everything that was done in the directory before.
func (l *Log) nextSegment(h segmentHeader, zeroFill bool) (*segment, error) {
	h.clusterID, h.memberID = l.o.ClusterID, l.o.MemberID
	t, err := l.takeSpare(zeroFill)
	if err != nil {
		return nil, err
	}
	path := l.o.FS.PathJoin(l.o.Dir, segmentName(h.number))
	if err := writeAt(t.file, h.encode(), 0); err != nil {
		return nil, fmt.Errorf("write header of %s: %w", path, err)
	}
	if err := t.file.Sync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", path, err)
	}
	l.dirMu.Lock()
	defer l.dirMu.Unlock()
	if err := l.o.FS.Rename(t.path, path); err != nil {
		return nil, fmt.Errorf("rename %s to %s: %w", t.path, path, err)
	}
	if err := syncDir(l.o.FS, l.o.Dir); err != nil {
		return nil, err
	}
	return &segment{header: h, path: path, file: t.file, end: segmentHeaderSize}, nil
}

// writeAt writes all of b. A short write without an error is an error.
func writeAt(file vfs.File, b []byte, off int64) error {
	n, err := file.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(b))
	}
	return err
}
