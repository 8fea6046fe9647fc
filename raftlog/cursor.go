package raftlog

import (
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cespare/xxhash/v2"
)

// record is one record as it stands in a file.
type record struct {
	recordHeader
	off  int64
	hash uint64 // of the header, for the chain
	body []byte // valid until the cursor moves
}

// end is the offset behind the record.
func (r *record) end() int64 { return r.off + r.size() }

// damage is a place where a record should stand and does not, or not whole.
type damage struct {
	mismatch
	// torn is set when the bytes have the shape of a write that was cut off: some sector of it, or its end, is still
	// zero. A record that was written whole and changed later does not have this shape.
	torn bool
	// next is where the search for later records begins.
	next int64
}

// cursor walks the records of one segment in order and checks each against the one before.
//
//	           ┌────────── record ──────────┐
//	           ▼                            │
//	start ─► between ─── header not whole ──┴─► damage (final)
//	           └──── seal ─► sealed (final)
type cursor struct {
	w      *window
	fileID uint64
	off    int64  // where the next record begins
	seq    uint64 // its sequence number
	prev   uint64 // hash of the record before it
	sealed bool   // the last record was a seal: nothing may follow
}

func newCursor(h *segmentHeader, file io.ReaderAt, size int64) *cursor {
	w := &window{chunk: scanChunkBytes}
	w.reset(file, size)
	return &cursor{w: w, fileID: h.fileID, off: segmentHeaderSize, seq: h.firstSeq, prev: h.prev}
}

// next returns the record at the cursor and moves behind it, or says what is wrong there. damage at a place where all
// is zero up to the end of the file is the ordinary end of the newest segment. An error is a failed read.
func (c *cursor) next() (record, *damage, error) {
	head, err := c.w.at(c.off, recordHeaderSize)
	if err != nil {
		return record{}, nil, err
	}
	if head[0] == 0 {
		return record{}, c.damaged(0, true, c.off, "a record", "zero"), nil
	}
	if head[recordHeaderSize-1] == 0 {
		return record{}, c.damaged(recordHeaderSize-1, true, c.off+recordAlign, "an end mark", "zero"), nil
	}
	h, bad := parseRecordHeader(head, c.fileID, c.off)
	if bad != nil {
		return record{}, &damage{mismatch: *bad, next: c.off + recordAlign}, nil
	}
	rec := record{recordHeader: h, off: c.off, hash: xxhash.Sum64(head)}
	if d := c.checkPlace(&rec); d != nil {
		return record{}, d, nil
	}
	if rec.bodyLen > 0 {
		d, err := c.readBody(&rec)
		if d != nil || err != nil {
			return record{}, d, err
		}
	}
	c.off, c.seq, c.prev, c.sealed = rec.end(), rec.seq+1, rec.hash, rec.kind == kindSeal
	return rec, nil, nil
}

// damaged describes what is wrong at offset at of the record at the cursor.
func (c *cursor) damaged(at int64, torn bool, next int64, expected, found string) *damage {
	return &damage{mismatch: mismatch{c.off + at, expected, found}, torn: torn, next: next}
}

// checkPlace compares a sound header with what has to stand at this place of the chain.
func (c *cursor) checkPlace(rec *record) *damage {
	switch {
	case c.sealed:
		return c.damaged(0, false, rec.end(), "nothing behind the seal", "a record")
	case rec.seq != c.seq:
		return c.damaged(24, false, rec.end(), fmt.Sprintf("sequence number %d", c.seq), fmt.Sprint(rec.seq))
	case rec.prev != c.prev:
		return c.damaged(96, false, rec.end(), fmt.Sprintf("chain hash %016x", c.prev), fmt.Sprintf("%016x", rec.prev))
	}
	return nil
}

// readBody reads and checks what stands behind the header. The length is compared with the file before any memory is
// asked for.
func (c *cursor) readBody(rec *record) (*damage, error) {
	if rec.end() > c.w.size {
		return c.damaged(recordHeaderSize, true, rec.end(), fmt.Sprintf("%d bytes", rec.size()),
			fmt.Sprintf("the end of the file after %d", c.w.size-rec.off)), nil
	}
	b, err := c.w.at(rec.off, int(rec.size()))
	if err != nil {
		return nil, err
	}
	body, d := checkBody(&rec.recordHeader, b)
	rec.body = body
	return d, nil
}

// checkBody checks b, a whole record whose header is sound, and returns its body.
func checkBody(h *recordHeader, b []byte) ([]byte, *damage) {
	off := int64(h.offset)
	bad := func(at int, torn bool, expected, found string) ([]byte, *damage) {
		return nil, &damage{mismatch{off + int64(at), expected, found}, torn, off + h.size()}
	}
	bodyEnd := recordHeaderSize + int(h.bodyLen)
	footer := len(b) - footerSize
	body := b[recordHeaderSize:bodyEnd:bodyEnd]
	if h.kind == kindMarker && !allZero(body) { // whatever of it was written
		return bad(recordHeaderSize, false, "zeros", "bytes in a marker")
	}
	if b[len(b)-1] == 0 {
		return bad(footer, mayBeTorn(b[footer:]), fmt.Sprintf("%q", recordFooter), fmt.Sprintf("%q", b[footer:]))
	}
	if n := zeroSectorsIn(b[recordHeaderSize:footer], off+recordHeaderSize); n > h.zeroSectors {
		return bad(recordHeaderSize, true, fmt.Sprintf("%d zero sectors", h.zeroSectors), fmt.Sprint(n))
	}
	if got := crc32.Checksum(body, castagnoli); got != h.bodyCRC {
		return bad(36, false, fmt.Sprintf("body checksum %08x", h.bodyCRC), fmt.Sprintf("%08x", got))
	}
	if string(b[footer:]) != recordFooter || !allZero(b[bodyEnd:footer]) {
		return bad(bodyEnd, false, fmt.Sprintf("padding and %q", recordFooter), fmt.Sprintf("%q", b[bodyEnd:]))
	}
	if err := checkEntries(h, body); err != nil {
		return bad(recordHeaderSize, false, "entries", err.Error())
	}
	return body, nil
}

// mayBeTorn reports whether a crash may have left this of a footer: some of it, and zeros.
func mayBeTorn(footer []byte) bool {
	for i, c := range footer {
		if c != 0 && c != recordFooter[i] {
			return false
		}
	}
	return true
}

// checkEntries reports whether a body whose checksum is right also reads as the entries its header promises.
func checkEntries(h *recordHeader, body []byte) error {
	if h.kind == kindMarker {
		return nil
	}
	r := newEntryReader(h, body)
	for range h.count {
		if err := r.next(); err != nil {
			return err
		}
	}
	return r.done()
}

// restIsZero reports whether the file is zero from the cursor to its end.
func (c *cursor) restIsZero() (bool, error) {
	end, err := lastNonZero(c.w, c.off)
	return end == c.off, err
}

// lastNonZero returns the offset behind the last byte that is not zero, from when there is none at or behind it.
func lastNonZero(w *window, from int64) (int64, error) {
	end := from
	for off := from; off < w.size; {
		n := int(min(scanChunkBytes, w.size-off))
		b, err := w.at(off, n)
		if err != nil {
			return 0, err
		}
		if !allZero(b) {
			i := len(b)
			for b[i-1] == 0 {
				i--
			}
			end = off + int64(i)
		}
		off += int64(n)
	}
	return end, nil
}
