package raftlog

import (
	"errors"
	"fmt"
	"io"
)

const (
	scanChunkBytes = 256 << 10
	readChunkBytes = 64 << 10
	windowKeep     = 4 << 20 // a larger buffer is given back after use
)

// window reads a file front to back in chunks and hands out slices of its buffer. Bytes behind the end of the file
// read as zeros, which is what they would be in a file with its space written out.
type window struct {
	file  io.ReaderAt
	size  int64 // of the file, in bytes
	chunk int   // bytes to read at once, at least

	buf []byte // holds the file from off on
	off int64
}

// reset points w at another file and forgets what it held.
func (w *window) reset(file io.ReaderAt, size int64) {
	w.file, w.size, w.off = file, size, 0
	if cap(w.buf) > windowKeep {
		w.buf = nil
	}
	w.buf = w.buf[:0]
}

// at returns the n bytes at off, valid until the next call. The caller bounds n by the size of the file, except for a
// header's worth behind its end.
func (w *window) at(off int64, n int) ([]byte, error) {
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.buf)) {
		i := int(off - w.off)
		return w.buf[i : i+n : i+n], nil
	}
	want := max(n, w.chunk)
	if off+int64(want) > w.size {
		want = max(n, int(max(0, w.size-off)))
	}
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.off = w.buf[:want], off
	inFile := int(min(int64(want), max(0, w.size-off)))
	if inFile > 0 {
		got, err := w.file.ReadAt(w.buf[:inFile], off)
		if got < inFile {
			w.buf = w.buf[:0]
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read %d bytes at %d: %w", inFile, off, err)
		}
	}
	clear(w.buf[inFile:])
	return w.buf[:n:n], nil
}
