package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A segment file is a header of one sector, records, and zeros up to the space reserved for it:
//
//	offset  bytes  field
//	0       8      "KEELRLOG"
//	8       1      format version (1)
//	9       1      flags: 1 = origin, this segment begins a log and everything before it is void
//	10      6      zero
//	16      8      cluster id
//	24      8      member id
//	32      8      segment number, also the file's name
//	40      8      sequence number of the first record
//	48      8      base index: the last index when the segment was begun
//	56      8      base term: the term of that entry
//	64      8      hard state when the segment was begun: term
//	72      8                                             vote
//	80      8                                             commit
//	88      8      watermark: every record up to this sequence number was synced
//	96      8      xxhash64 of the header of the record before the first (0: none)
//	104     8      file id: xxhash64 of bytes 0..103
//	112     4      CRC-32C of bytes 0..111
//	116     396    zero
//
// All integers are little endian.
const (
	segmentHeaderSize = 512
	segmentMagic      = "KEELRLOG"
	formatVersion     = 1
	flagOrigin        = 1

	segmentSuffix = ".raftlog"
	tempPrefix    = "spare-"
	tempSuffix    = ".tmp"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentHeader is the first sector of a segment file. It is synced before the file gets its name.
type segmentHeader struct {
	origin              bool
	clusterID, memberID uint64
	number              uint64
	firstSeq            uint64
	base                Position
	hs                  hardState
	synced              uint64
	prev                uint64
	fileID              uint64 // set by encode and parse
}

// encode returns the header's sector and sets fileID.
func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic)
	b[8] = formatVersion
	if h.origin {
		b[9] = flagOrigin
	}
	fields := [...]uint64{h.clusterID, h.memberID, h.number, h.firstSeq, h.base.Index, h.base.Term,
		h.hs.term, h.hs.vote, h.hs.commit, h.synced, h.prev}
	for i, v := range fields {
		binary.LittleEndian.PutUint64(b[16+8*i:], v)
	}
	h.fileID = xxhash.Sum64(b[:104])
	binary.LittleEndian.PutUint64(b[104:], h.fileID)
	binary.LittleEndian.PutUint32(b[112:], crc32.Checksum(b[:112], castagnoli))
	return b
}

// parseSegmentHeader reads the first sector of file. b holds segmentHeaderSize bytes.
func parseSegmentHeader(file string, b []byte) (segmentHeader, error) {
	var h segmentHeader
	if string(b[:8]) != segmentMagic {
		return h, corrupt(file, 0, fmt.Sprintf("magic %q", segmentMagic), fmt.Sprintf("%q", b[:8]))
	}
	if want, got := crc32.Checksum(b[:112], castagnoli), binary.LittleEndian.Uint32(b[112:]); want != got {
		return h, corrupt(file, 112, fmt.Sprintf("header checksum %08x", want), fmt.Sprintf("%08x", got))
	}
	if b[8] != formatVersion {
		err := corrupt(file, 8, fmt.Sprintf("format version %d", formatVersion), strconv.Itoa(int(b[8])))
		err.Advice = adviceVersion
		return h, err
	}
	if i := bytes.IndexFunc(b[116:], func(r rune) bool { return r != 0 }); i >= 0 {
		return h, corrupt(file, int64(116+i), "zero", fmt.Sprintf("%#02x", b[116+i]))
	}
	if b[9]&^flagOrigin != 0 || !allZero(b[10:16]) {
		return h, corrupt(file, 9, "known flags", fmt.Sprintf("%x", b[9:16]))
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
	h = segmentHeader{
		origin:    b[9]&flagOrigin != 0,
		clusterID: u(16), memberID: u(24), number: u(32), firstSeq: u(40),
		base:   Position{Index: u(48), Term: u(56)},
		hs:     hardState{term: u(64), vote: u(72), commit: u(80)},
		synced: u(88), prev: u(96), fileID: u(104),
	}
	if want := xxhash.Sum64(b[:104]); want != h.fileID {
		return h, corrupt(file, 104, fmt.Sprintf("file id %016x", want), fmt.Sprintf("%016x", h.fileID))
	}
	return h, nil
}

// segment is one open file of the log. end, refs and dropped are guarded by Log.mu.
type segment struct {
	header segmentHeader
	path   string
	file   vfs.File
	end    int64 // offset behind the seal; of the newest segment only the end of its header

	refs    int  // reads under way
	dropped bool // no longer part of the log: closed when refs is 0
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// segmentNumber reads a file name. ok is false for names that are not a segment's.
func segmentNumber(name string) (number uint64, ok bool) {
	hex, found := strings.CutSuffix(name, segmentSuffix)
	if !found {
		return 0, false
	}
	number, err := strconv.ParseUint(hex, 16, 64)
	return number, err == nil && segmentName(number) == name
}

func tempName(n uint64) string { return fmt.Sprintf("%s%016x%s", tempPrefix, n, tempSuffix) }

// isTemp reports whether name is that of a segment in the making.
func isTemp(name string) bool {
	hex, found := strings.CutPrefix(name, tempPrefix)
	if !found {
		return false
	}
	hex, found = strings.CutSuffix(hex, tempSuffix)
	n, err := strconv.ParseUint(hex, 16, 64)
	return found && err == nil && tempName(n) == name
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
