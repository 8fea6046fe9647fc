package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// FuzzRecord puts any bytes where a record belongs. What is accepted encodes to the same bytes again.
func FuzzRecord(f *testing.F) {
	for _, b := range fuzzSegments(f) {
		f.Add(b[segmentHeaderSize:])
	}
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		h := segmentHeader{fileID: 5, firstSeq: 1}
		if len(b) >= recordHeaderSize { // let it be about the rest
			binary.LittleEndian.PutUint64(b[8:], 5)
			binary.LittleEndian.PutUint64(b[16:], segmentHeaderSize)
			binary.LittleEndian.PutUint64(b[24:], 1)
			binary.LittleEndian.PutUint64(b[88:], 0)
			binary.LittleEndian.PutUint64(b[96:], 0)
			binary.LittleEndian.PutUint32(b[104:], crc32.Checksum(b[:104], castagnoli))
		}
		file := append(make([]byte, segmentHeaderSize), b...)
		rec, d, err := newCursor(&h, bytes.NewReader(file), int64(len(file))).next()
		if err != nil {
			t.Fatal(err)
		}
		if d != nil {
			return
		}
		again := make([]byte, recordHeaderSize)
		rec.encode(again)
		if rec.kind == kindEntries {
			entries, err := decodeEntries(&rec.recordHeader, rec.body)
			if err != nil {
				t.Fatal(err)
			}
			h := rec.recordHeader
			again = appendBody(again, &h, entries)
			if len(again) > len(b) {
				return // lengths that are longer than they need be: ours are not
			}
		} else if rec.bodyLen > 0 {
			again = appendBody(again, &rec.recordHeader, nil)
		}
		if !bytes.Equal(again[:recordHeaderSize], b[:recordHeaderSize]) {
			t.Fatalf("%x\n%x", again, b)
		}
	})
}

// FuzzRecordFields puts any fields into a record with sound checksums.
func FuzzRecordFields(f *testing.F) {
	f.Add(uint8(1), uint64(1), uint32(1), uint32(0), uint64(0), []byte{entryDataSet | entryNewTerm, 1, 1, 'x'})
	f.Add(uint8(3), uint64(0), uint32(0), uint32(0), uint64(0), make([]byte, 16))
	f.Add(uint8(1), ^uint64(0), ^uint32(0), ^uint32(0), ^uint64(0), []byte{0xff})
	f.Fuzz(func(t *testing.T, kind uint8, first uint64, count, length uint32, prevTerm uint64, body []byte) {
		h := recordHeader{
			kind: recordKind(kind), fileID: 5, offset: segmentHeaderSize, seq: 1, first: first, count: count,
			prevTerm: prevTerm, bodyLen: length, bodyCRC: crc32.Checksum(body, castagnoli),
			zeroSectors: zeroSectorsIn(body, segmentHeaderSize+recordHeaderSize),
		}
		if length%3 != 0 {
			h.bodyLen = uint32(len(body))
		}
		b := make([]byte, segmentHeaderSize+recordHeaderSize)
		h.encode(b[segmentHeaderSize:])
		b = append(b, body...)
		for len(b)%recordAlign != 0 {
			b = append(b, 0)
		}
		b = append(b, recordFooter...)
		s := segmentHeader{fileID: 5, firstSeq: 1}
		rec, d, err := newCursor(&s, bytes.NewReader(b), int64(len(b))).next()
		if err != nil {
			t.Fatal(err)
		}
		if d == nil && rec.kind == kindEntries {
			entries, err := decodeEntries(&rec.recordHeader, rec.body)
			if err != nil || uint32(len(entries)) != count {
				t.Fatalf("%d entries of %d: %v", len(entries), count, err)
			}
		}
	})
}

// fuzzSegments returns the segments of a small log.
func fuzzSegments(f *testing.F) [][]byte {
	disk := newDisk(f)
	o := testOptions(disk)
	o.SegmentBytes = 2 << 10
	l := mustCreate(f, o, Position{})
	mustAppend(f, l, Batch{Entries: entriesOf(1, 1, "a", "b"), HardState: stateOf(1, 1, 1)})
	mustAppend(f, l, Batch{Entries: entriesOf(2, 2, "c", string(make([]byte, 900))), HardState: stateOf(2, 1, 1)})
	mustAppend(f, l, Batch{Entries: entriesOf(4, 2, string(make([]byte, 900)))})
	mustNil(f, l.MarkIdle())
	mustAppend(f, l, Batch{Entries: entriesOf(5, 2, "d"), HardState: stateOf(2, 1, 5)})
	var out [][]byte
	all := readFiles(f, disk)
	for n := uint64(1); all[segmentName(n)] != nil; n++ {
		out = append(out, all[segmentName(n)])
	}
	return out
}

// repairChecksums makes the header and, as far as they can be followed, the records of a segment sound again, so that
// the checks behind the checksums are reached.
func repairChecksums(b []byte) {
	if len(b) < segmentHeaderSize {
		return
	}
	le := binary.LittleEndian
	le.PutUint64(b[104:], xxhash.Sum64(b[:104]))
	le.PutUint32(b[112:], crc32.Checksum(b[:112], castagnoli))
	prev := le.Uint64(b[96:])
	for off := segmentHeaderSize; off+recordHeaderSize <= len(b) && b[off] != 0; {
		h := b[off : off+recordHeaderSize]
		size := recordSize(int(le.Uint32(h[32:])))
		if size > int64(len(b)-off) {
			return
		}
		body := b[off+recordHeaderSize : off+recordHeaderSize+int(le.Uint32(h[32:]))]
		if len(body) > 0 {
			le.PutUint32(h[36:], crc32.Checksum(body, castagnoli))
		}
		le.PutUint64(h[8:], le.Uint64(b[104:]))
		le.PutUint64(h[16:], uint64(off))
		le.PutUint64(h[96:], prev)
		le.PutUint32(h[104:], crc32.Checksum(h[:104], castagnoli))
		prev = xxhash.Sum64(h)
		off += int(size)
	}
}

// FuzzOpen opens a log of two segments with any content. It opens or refuses; what it opens works, and opens again
// with the same content.
func FuzzOpen(f *testing.F) {
	segments := fuzzSegments(f)
	f.Add(segments[0], segments[1], false)
	f.Add(segments[0], segments[1], true)
	f.Add(segments[1], segments[2], true)
	f.Add(segments[0], segments[1][:segmentHeaderSize], false)
	f.Add(segments[0][:700], []byte{}, false)
	f.Fuzz(func(t *testing.T, first, second []byte, repaired bool) {
		if len(first) > 64<<10 || len(second) > 64<<10 {
			return
		}
		first, second = bytes.Clone(first), bytes.Clone(second)
		if repaired {
			repairChecksums(first)
			repairChecksums(second)
		}
		all := files{}
		for _, b := range [][]byte{first, second} {
			number := uint64(1)
			if len(b) >= segmentHeaderSize {
				number = binary.LittleEndian.Uint64(b[32:])
			}
			if len(b) > 0 {
				all[segmentName(number)] = b
			}
		}
		o := testOptions(all.disk(t))
		_ = Dump(o.FS, o.Dir, io.Discard)
		l, _, err := OpenInstalled(o, Position{Index: 1 << 40, Term: 1 << 40})
		if err != nil {
			l, _, err = Open(testOptionsAt(t, all, &o), Position{1, 1})
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongMember) && !errors.Is(err, ErrStateMismatch) && !errors.Is(err, ErrNoLog) {
				t.Fatal(err)
			}
			return
		}
		checkOpened(t, o, l)
	})
}

func testOptionsAt(t *testing.T, all files, o *Options) Options {
	*o = testOptions(all.disk(t))
	return *o
}

// checkOpened uses a log that was opened and opens it once more.
func checkOpened(t *testing.T, o Options, l *Log) {
	t.Helper()
	c, err := contentOf(l)
	if err != nil {
		t.Fatal(err)
	}
	term := c.hs.term
	if n := len(c.entries); n > 0 {
		term = max(term, c.entries[n-1].GetTerm())
	}
	if term == ^uint64(0) || c.last() > 1<<62 {
		return
	}
	more := entriesOf(c.last()+1, term+1, "more")
	mustAppend(t, l, Batch{Entries: more, HardState: stateOf(term+1, 0, c.hs.commit)})
	c.append(more)
	c.hs = hardState{term + 1, 0, c.hs.commit}
	mustNil(t, l.Close())
	l, _ = mustOpen(t, o, c.position(max(c.base.Index, c.hs.commit)))
	checkContent(t, l, c)
}
