package raftlog

import (
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Dump prints every record of the log in dir, one a line, and where a file stops making sense. It changes nothing and
// does not judge whether the log could be opened.
//
// Errors: ErrNoLog; failures to read or to print. Damage is printed, not returned.
func Dump(fs vfs.FS, dir string, w io.Writer) error {
	files, err := listFiles(fs, dir)
	if err != nil {
		return fmt.Errorf("raftlog: dump: %w", err)
	}
	if len(files.segments) == 0 {
		return fmt.Errorf("%w: %s", ErrNoLog, dir)
	}
	for _, name := range files.temps {
		if _, err := fmt.Fprintf(w, "%s: temporary, not part of the log\n", name); err != nil {
			return err
		}
	}
	for _, number := range files.segments {
		if err := dumpSegment(fs, fs.PathJoin(dir, segmentName(number)), w); err != nil {
			return fmt.Errorf("raftlog: dump: %w", err)
		}
	}
	return nil
}

func dumpSegment(fs vfs.FS, path string, w io.Writer) (err error) {
	file, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // opened for reading
	info, err := file.Stat()
	if err != nil {
		return err
	}
	first := &window{chunk: segmentHeaderSize}
	first.reset(file, info.Size())
	head, err := first.at(0, segmentHeaderSize)
	if err != nil {
		return err
	}
	h, bad := parseSegmentHeader(path, head)
	if bad != nil {
		_, err := fmt.Fprintf(w, "%s: %v\n", fs.PathBase(path), bad)
		return err
	}
	if _, err := fmt.Fprintf(w, "%s: %d bytes, segment %d of cluster %016x member %016x, file id %016x, origin %t, "+
		"base %d term %d, first record #%d, synced #%d, hard state %s\n", fs.PathBase(path), info.Size(), h.number,
		h.clusterID, h.memberID, h.fileID, h.origin, h.base.Index, h.base.Term, h.firstSeq, h.synced, h.hs); err != nil {
		return err
	}
	return dumpRecords(newCursor(&h, file, info.Size()), w)
}

func dumpRecords(c *cursor, w io.Writer) error {
	for {
		rec, d, err := c.next()
		if err != nil {
			return err
		}
		if d != nil {
			return dumpEnd(c, d, w)
		}
		if _, err := fmt.Fprintf(w, "%10d  #%d %s, %d bytes, hard state %s, synced #%d\n",
			rec.off, rec.seq, rec.kind, rec.size(), rec.hs, rec.synced); err != nil {
			return err
		}
		r := newEntryReader(&rec.recordHeader, rec.body)
		for range rec.count {
			if err := r.next(); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%10s  entry %d term %d type %d, %d bytes\n",
				"", r.index, r.term, r.flags&entryTypeMask, len(r.data)); err != nil {
				return err
			}
		}
	}
}

// dumpEnd prints what stands where no record does.
func dumpEnd(c *cursor, d *damage, w io.Writer) error {
	zero, err := c.restIsZero()
	if err != nil {
		return err
	}
	if zero {
		_, err = fmt.Fprintf(w, "%10d  end\n", c.off)
		return err
	}
	shape := "not the shape of a torn write"
	if d.torn {
		shape = "the shape of a torn write"
	}
	_, err = fmt.Fprintf(w, "%10d  no record #%d: at offset %d expected %s, found %s; %s\n",
		c.off, c.seq, d.at, d.expected, d.found, shape)
	return err
}

func (h hardState) String() string {
	return fmt.Sprintf("term %d vote %016x commit %d", h.term, h.vote, h.commit)
}
