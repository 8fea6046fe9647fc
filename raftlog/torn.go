package raftlog

import (
	"encoding/binary"
	"fmt"
)

// endAt decides what it means that segment i has no whole record at the cursor. Either the log ends here and nothing
// is lost, or an unfinished write ends it and is to be cut off, or the answer is an error.
//
//	the segment is the newest, or only a header follows it ──no──► refuse
//	                        │ yes
//	nothing but zeros from here on ───────────── yes ──► the log ends here
//	                        │ no
//	the shape of a torn write ───────────────────no──► refuse
//	                        │ yes
//	no watermark anywhere says that it was synced ──no──► refuse
//	                        │ yes
//	                       cut
//
// That neither the commit index nor the state's applied index reaches into the cut is checked by note and checkState,
// which compare them with what is left.
func (r *recoverer) endAt(i int, d *damage) error {
	s, c := r.segments[i], r.cursor
	refuse := func() error { return corrupt(s.path, d.at, d.expected, d.found) }
	if i < len(r.segments)-1 {
		unfinished, err := r.unfinishedRotation(i)
		if err != nil {
			return err
		}
		if !unfinished {
			return refuse()
		}
	}
	later, err := findLater(c, d.next)
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	r.cutEnd = later.end
	r.noteWatermark(max(later.watermark, 0))
	if r.watermark >= c.seq {
		return corrupt(s.path, d.at, fmt.Sprintf("%s of record %d, which was synced", d.expected, c.seq), d.found)
	}
	if later.found && later.lowest <= c.seq {
		return corrupt(s.path, c.off, fmt.Sprintf("record %d here and later ones behind it", c.seq),
			fmt.Sprintf("record %d behind it", later.lowest))
	}
	if later.end == c.off {
		return nil
	}
	if !d.torn {
		return refuse()
	}
	r.report.Cut = &Cut{
		File: s.path, Offset: c.off, Bytes: later.end - c.off, Sequence: c.seq, Expected: d.expected, Found: d.found,
	}
	return nil
}

// unfinishedRotation reports whether the segment behind segment i is the newest and holds nothing but its header, so
// that segment i was never sealed. If so, it is taken out, to be removed.
func (r *recoverer) unfinishedRotation(i int) (bool, error) {
	next := r.segments[i+1]
	if i+1 != len(r.segments)-1 || next.header.firstSeq <= r.cursor.seq {
		return false, nil
	}
	info, err := next.file.Stat()
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", next.path, err)
	}
	zero, err := newCursor(&next.header, next.file, info.Size()).restIsZero()
	if err != nil {
		return false, fmt.Errorf("%s: %w", next.path, err)
	}
	if !zero {
		return false, nil
	}
	r.noteWatermark(next.header.synced)
	r.remove = append(r.remove, segmentName(next.header.number))
	r.segments = r.segments[:i+1]
	if err := next.file.Close(); err != nil {
		return false, fmt.Errorf("close %s: %w", next.path, err)
	}
	return true, nil
}

// laterRecords is what stands behind the place where a record is not whole.
type laterRecords struct {
	found     bool
	lowest    uint64 // sequence number
	watermark uint64 // highest
	end       int64  // behind the last byte that is not zero
}

const searchBlock = 4 << 10

// findLater looks at every place from from on where a record could begin. A sound header there is a witness: it says
// what was synced when it was written. Its body may be missing, because the blocks of a write reach the disk in any
// order.
func findLater(c *cursor, from int64) (laterRecords, error) {
	var later laterRecords
	for off := from; off < c.w.size; off += searchBlock {
		b, err := c.w.at(off, int(min(searchBlock, c.w.size-off)))
		if err != nil {
			return later, err
		}
		if allZero(b) {
			continue
		}
		var candidates []int64
		for i := 0; i+4 <= len(b); i += recordAlign {
			if binary.LittleEndian.Uint32(b[i:]) == recordMagic {
				candidates = append(candidates, off+int64(i))
			}
		}
		for _, at := range candidates {
			head, err := c.w.at(at, recordHeaderSize)
			if err != nil {
				return later, err
			}
			if h, bad := parseRecordHeader(head, c.fileID, at); bad == nil {
				if !later.found || h.seq < later.lowest {
					later.lowest = h.seq
				}
				later.found, later.watermark = true, max(later.watermark, h.synced)
			}
		}
	}
	var err error
	later.end, err = lastNonZero(c.w, c.off)
	return later, err
}

// repair carries out what was decided. A crash at any step leaves a log that the same decisions fit.
func (r *recoverer) repair() error {
	// Names that are visible need not be durable yet. Before anything is removed because of them, they have to be.
	if err := syncDir(r.o.FS, r.o.Dir); err != nil {
		return err
	}
	if err := removeFiles(r.o.FS, r.o.Dir, r.remove); err != nil {
		return err
	}
	r.report.Removed = r.remove
	newest := r.segments[len(r.segments)-1]
	if r.report.Cut != nil {
		if err := erase(newest, r.cursor.off, r.cutEnd); err != nil {
			return fmt.Errorf("erase %s from %d to %d: %w", newest.path, r.cursor.off, r.cutEnd, err)
		}
	}
	return r.confirm()
}

// erase writes zeros over from..end of a segment, the sector in which it begins first. As soon as its first byte is
// zero, no power cut during the rest can leave something that looks like a record that was written whole and damaged
// later.
func erase(s *segment, from, end int64) error {
	front := min(end, (from/sectorSize+1)*sectorSize)
	if err := writeAt(s.file, make([]byte, front-from), from); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	for off := front; off < end; off += zeroChunkBytes {
		if err := writeAt(s.file, make([]byte, min(zeroChunkBytes, end-off)), off); err != nil {
			return err
		}
	}
	return s.file.Sync()
}

// confirm writes the records above the watermark once more, as they were read, and syncs them. They may have been read
// from memory that the disk never got: after a failed sync the kernel calls such pages clean, and a later sync says
// that all is well. Writing makes them dirty again. A segment without a record above the watermark was synced: its
// newest record never covers itself, so it has no record at all, and its header was synced before it got its name.
func (r *recoverer) confirm() error {
	if len(r.open) == 0 {
		return nil
	}
	from := r.open[0].off
	for i := r.open[0].segment; i < len(r.segments); i++ {
		s, end := r.segments[i], r.segments[i].end
		if i == len(r.segments)-1 {
			end = r.cursor.off
		}
		for off := from; off < end; off += zeroChunkBytes {
			b := make([]byte, min(zeroChunkBytes, end-off))
			if _, err := s.file.ReadAt(b, off); err != nil {
				return fmt.Errorf("read %s at %d: %w", s.path, off, err)
			}
			if err := writeAt(s.file, b, off); err != nil {
				return fmt.Errorf("write %s at %d: %w", s.path, off, err)
			}
		}
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", s.path, err)
		}
		r.report.Confirmed += end - from
		from = segmentHeaderSize
	}
	return nil
}
