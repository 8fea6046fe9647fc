package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// A record is a header, and if it carries entries, a body, zeros up to a multiple of 8, and a footer. It begins at a
// multiple of 8. A marker may have a body of zeros, a multiple of 8 long, so that the next record begins in a new page.
//
//	offset  bytes  field
//	0       4      magic bd 'K' 'R' 'L'; the first byte is not zero and no single bit flip makes it so
//	4       1      format version (1)
//	5       1      kind: 1 entries, 2 state, 3 marker, 4 seal
//	6       2      zero
//	8       8      file id of the segment
//	16      8      own offset in the file
//	24      8      sequence number, one more than the record before, across segments
//	32      4      body length in bytes, 0 if there is none
//	36      4      CRC-32C of the body
//	40      8      index of the first entry (0: none)
//	48      4      number of entries
//	52      4      number of 512-byte sectors of the file that lie wholly between header and footer and are zero by nature
//	56      8      term of the entry before the first
//	64      8      hard state after this record: term
//	72      8                                    vote
//	80      8                                    commit
//	88      8      watermark: every record up to this sequence number was synced when this one was written
//	96      8      xxhash64 of the header of the record before (the chain)
//	104     4      CRC-32C of bytes 0..103
//	108     4      end mark; its last byte is not zero and no single bit flip makes it so
//	112     n      body
//	        0..7   zero
//	        8      footer "keelson\xbd"; only if n > 0
const (
	recordHeaderSize = 112
	footerSize       = 8
	recordAlign      = 8
	sectorSize       = 512     // what a disk writes whole or not at all
	pageSize         = 4 << 10 // what can go lost at once

	recordMagic   = 0x4c524bbd // bd 4b 52 4c
	recordEndMark = 0xbd4c524b // 4b 52 4c bd
	recordFooter  = "keelson\xbd"

	// maxBodyBytes bounds one entry with its record. raft's own limits are far below.
	maxBodyBytes = 1 << 30
)

type recordKind uint8

const (
	kindEntries recordKind = 1 // entries and hard state
	kindState   recordKind = 2 // hard state only
	kindMarker  recordKind = 3 // repeats the watermark
	kindSeal    recordKind = 4 // the segment ends here and the next one exists
)

func (k recordKind) String() string {
	switch k {
	case kindEntries:
		return "entries"
	case kindState:
		return "state"
	case kindMarker:
		return "marker"
	case kindSeal:
		return "seal"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// recordHeader is the fixed part of a record.
type recordHeader struct {
	kind        recordKind
	fileID      uint64
	offset      uint64
	seq         uint64
	bodyLen     uint32
	bodyCRC     uint32
	first       uint64
	count       uint32
	zeroSectors uint32
	prevTerm    uint64
	hs          hardState
	synced      uint64
	prev        uint64
}

// size is the number of bytes the whole record takes in the file.
func (h *recordHeader) size() int64 { return recordSize(int(h.bodyLen)) }

func recordSize(bodyLen int) int64 {
	if bodyLen == 0 {
		return recordHeaderSize
	}
	return recordHeaderSize + int64(bodyLen+recordAlign-1)&^(recordAlign-1) + footerSize
}

// last is the index of the last entry; only for kindEntries.
func (h *recordHeader) last() uint64 { return h.first + uint64(h.count) - 1 }

// encode fills b, recordHeaderSize bytes, and returns their hash for the chain.
func (h *recordHeader) encode(b []byte) (hash uint64) {
	_ = b[recordHeaderSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], recordMagic)
	b[4], b[5], b[6], b[7] = formatVersion, byte(h.kind), 0, 0
	le.PutUint64(b[8:], h.fileID)
	le.PutUint64(b[16:], h.offset)
	le.PutUint64(b[24:], h.seq)
	le.PutUint32(b[32:], h.bodyLen)
	le.PutUint32(b[36:], h.bodyCRC)
	le.PutUint64(b[40:], h.first)
	le.PutUint32(b[48:], h.count)
	le.PutUint32(b[52:], h.zeroSectors)
	le.PutUint64(b[56:], h.prevTerm)
	le.PutUint64(b[64:], h.hs.term)
	le.PutUint64(b[72:], h.hs.vote)
	le.PutUint64(b[80:], h.hs.commit)
	le.PutUint64(b[88:], h.synced)
	le.PutUint64(b[96:], h.prev)
	le.PutUint32(b[104:], crc32.Checksum(b[:104], castagnoli))
	le.PutUint32(b[108:], recordEndMark)
	return xxhash.Sum64(b[:recordHeaderSize])
}

// mismatch says why bytes are not what they must be.
type mismatch struct {
	at              int64 // offset in the file
	expected, found string
}

// parseRecordHeader decodes the header that is to stand at offset of the file with the given id. It looks at nothing
// beyond b, recordHeaderSize bytes, so the length it returns is checked but not yet compared with the file.
func parseRecordHeader(b []byte, fileID uint64, offset int64) (recordHeader, *mismatch) {
	le := binary.LittleEndian
	fail := func(at int64, format string, want, got any) (recordHeader, *mismatch) {
		return recordHeader{}, &mismatch{offset + at, fmt.Sprintf(format, want), fmt.Sprintf(format, got)}
	}
	if got := le.Uint32(b); got != recordMagic {
		return fail(0, "record magic %08x", uint32(recordMagic), got)
	}
	if want, got := crc32.Checksum(b[:104], castagnoli), le.Uint32(b[104:]); got != want {
		return fail(104, "header checksum %08x", want, got)
	}
	if got := le.Uint32(b[108:]); got != recordEndMark {
		return fail(108, "end mark %08x", uint32(recordEndMark), got)
	}
	if b[4] != formatVersion {
		return fail(4, "record version %d", formatVersion, b[4])
	}
	if got := le.Uint16(b[6:]); got != 0 {
		return fail(6, "reserved bytes %04x", 0, got)
	}
	h := recordHeader{
		kind: recordKind(b[5]), fileID: le.Uint64(b[8:]), offset: le.Uint64(b[16:]), seq: le.Uint64(b[24:]),
		bodyLen: le.Uint32(b[32:]), bodyCRC: le.Uint32(b[36:]),
		first: le.Uint64(b[40:]), count: le.Uint32(b[48:]), zeroSectors: le.Uint32(b[52:]), prevTerm: le.Uint64(b[56:]),
		hs:     hardState{term: le.Uint64(b[64:]), vote: le.Uint64(b[72:]), commit: le.Uint64(b[80:])},
		synced: le.Uint64(b[88:]), prev: le.Uint64(b[96:]),
	}
	if h.fileID != fileID {
		return fail(8, "file id %016x", fileID, h.fileID)
	}
	if h.offset != uint64(offset) {
		return fail(16, "own offset %d", offset, h.offset)
	}
	if h.synced >= h.seq {
		return fail(88, "watermark %v", fmt.Sprintf("below %d", h.seq), h.synced)
	}
	switch h.kind {
	case kindEntries:
		// An entry takes at least two bytes, so the count is bounded by the length before anything is allocated.
		if h.count == 0 || h.bodyLen > maxBodyBytes || uint64(h.count)*2 > uint64(h.bodyLen) {
			return fail(32, "%v", "as many bytes as entries", fmt.Sprintf("%d bytes, %d entries", h.bodyLen, h.count))
		}
		if h.first == 0 || h.first+uint64(h.count) < h.first {
			return fail(40, "%v", "a range of indexes", fmt.Sprintf("%d entries from %d", h.count, h.first))
		}
	case kindState, kindMarker, kindSeal:
		filler := h.kind == kindMarker && h.bodyLen <= 2*pageSize && h.bodyLen%recordAlign == 0
		if h.count != 0 || h.first|h.prevTerm != 0 || h.bodyLen > 0 && !filler {
			return fail(32, "%v", "no entries in a record of kind "+h.kind.String(), "some")
		}
		if h.bodyLen == 0 && h.bodyCRC|h.zeroSectors != 0 {
			return fail(36, "%v", "no checksum without a body", h.bodyCRC)
		}
	default:
		return fail(5, "%v", "a known record kind", h.kind)
	}
	return h, nil
}

// zeroSectorsIn counts the sectors of a file that lie wholly inside b and hold nothing but zeros; b stands at offset.
func zeroSectorsIn(b []byte, offset int64) uint32 {
	var n uint32
	skip := (sectorSize - offset%sectorSize) % sectorSize
	for i := skip; i+sectorSize <= int64(len(b)); i += sectorSize {
		if binary.LittleEndian.Uint64(b[i:]) == 0 && allZero(b[i:i+sectorSize]) {
			n++
		}
	}
	return n
}
