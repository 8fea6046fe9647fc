package raftlog

import (
	"bytes"
	"fmt"
)

// ScrubStep says what one call of Scrub did.
type ScrubStep struct {
	File  string // the file that was read, "" if there was none
	Bytes int64  // verified in this step
	Done  bool   // every sealed segment has been read since the last Done
}

// scrubPlace is where the next step goes on. It is guarded by Log.scrubMu.
type scrubPlace struct {
	number uint64   // segment; 0: begin with the oldest
	cursor *cursor  // place in it; nil: at its header
	seg    *segment // whose cursor it is
}

// Scrub re-reads about maxBytes (at least one record) of the sealed segments, oldest first, and checks them as Open
// would. The caller paces it: a step, a pause, the next step. After Done the next step begins again.
//
// A CorruptError names the damage. The log is not poisoned by it: what is in memory is sound, and the caller decides.
func (l *Log) Scrub(maxBytes int64) (ScrubStep, error) {
	l.scrubMu.Lock()
	defer l.scrubMu.Unlock()
	place := &l.scrub
	seg, err := l.scrubSegment(place.number)
	if err != nil {
		return ScrubStep{}, err
	}
	if seg == nil {
		*place = scrubPlace{}
		return ScrubStep{Done: true}, nil
	}
	step := ScrubStep{File: seg.path}
	err = place.step(seg, maxBytes, &step)
	if releaseErr := l.release(seg); err == nil {
		err = releaseErr
	}
	if err != nil {
		*place = scrubPlace{}
		return step, fmt.Errorf("raftlog: scrub: %w", err)
	}
	return step, nil
}

// scrubSegment returns the oldest sealed segment that is not before number, acquired, or nil.
func (l *Log) scrubSegment(number uint64) (*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	for _, s := range l.segments[:len(l.segments)-1] {
		if s.header.number >= number {
			s.acquire()
			return s, nil
		}
	}
	return nil, nil
}

// step verifies the next part of seg and moves the place behind it.
func (p *scrubPlace) step(seg *segment, maxBytes int64, step *ScrubStep) error {
	if p.seg != seg || p.cursor == nil {
		info, err := seg.file.Stat()
		if err != nil {
			return fmt.Errorf("stat %s: %w", seg.path, err)
		}
		p.number, p.seg, p.cursor = seg.header.number, seg, newCursor(&seg.header, seg.file, info.Size())
		head, err := p.cursor.w.at(0, segmentHeaderSize)
		if err != nil {
			return fmt.Errorf("%s: %w", seg.path, err)
		}
		if want := seg.header; !bytes.Equal(head, want.encode()) {
			return corrupt(seg.path, 0, "the header it was opened with", "another")
		}
		step.Bytes += segmentHeaderSize
	}
	c := p.cursor
	for !c.sealed {
		rec, d, err := c.next()
		if err != nil {
			return fmt.Errorf("%s: %w", seg.path, err)
		}
		if d != nil {
			return corrupt(seg.path, d.at, d.expected, d.found)
		}
		if step.Bytes += rec.size(); step.Bytes >= maxBytes {
			break
		}
	}
	if c.sealed {
		*p = scrubPlace{number: seg.header.number + 1}
		return checkSealedRest(seg.path, c)
	}
	return nil
}

// checkSealedRest checks that nothing stands behind the seal.
func checkSealedRest(path string, c *cursor) error {
	zero, err := c.restIsZero()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !zero {
		return corrupt(path, c.off, "zeros behind the seal", "other bytes")
	}
	return nil
}
