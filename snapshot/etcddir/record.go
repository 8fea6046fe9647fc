package etcddir

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrDamaged is in the error of everything that is not what etcd writes.
var ErrDamaged = errors.New("damaged etcd directory")

// kind is what a record of the log holds.
type kind int64

const (
	kindMetadata kind = 1 // ids of the member and its cluster
	kindEntry    kind = 2 // raftpb.Entry
	kindState    kind = 3 // raftpb.HardState
	kindSum      kind = 4 // the sum over all records before, of all files; it begins each file
	kindSnapshot kind = 5 // index, term and configuration of a snapshot
)

// record is one record of the log: a frame around a message.
//
//	size(8, little endian) | message | padding to a multiple of 8
//
// The low 56 bits of size are the message's length; if the highest bit is set, the three bits above the 56 are how much padding
// follows. A size of 0 is space that was reserved and not written.
type record struct {
	kind kind
	sum  uint32 // CRC-32C over the data of this and all records before
	data []byte
}

// Fields of the message of a record.
const (
	recordFieldKind protowire.Number = 1
	recordFieldSum  protowire.Number = 2
	recordFieldData protowire.Number = 3
)

const (
	frameBytes = 8
	sizeBits   = 56
	// recordBytesMax is far beyond any request that etcd takes.
	recordBytesMax = 512 << 20
	sectorBytes    = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn is the end of a log whose last write was not finished.
var errTorn = errors.New("unfinished write")

// records reads the records of one file.
type records struct {
	r      *bufio.Reader
	offset int64  // of what is read next
	rest   int64  // bytes of the file from there on
	sum    uint32 // over the data of all records so far
	begun  bool   // a record of this reading has said what sum is
}

func newRecords(r io.Reader, size int64) *records {
	return &records{r: bufio.NewReaderSize(r, int(min(max(size, 16), 1<<20))), rest: size}
}

// follow reads on in the next file.
func (s *records) follow(r io.Reader, size int64) {
	s.r.Reset(r)
	s.offset, s.rest = 0, size
}

// next returns the next record, io.EOF behind the last one, errTorn in the midst of one that was never completed, ErrDamaged.
func (s *records) next() (record, error) {
	if s.rest < frameBytes {
		if s.rest == 0 {
			return record{}, io.EOF
		}
		return record{}, errTorn
	}
	var frame [frameBytes]byte
	if _, err := io.ReadFull(s.r, frame[:]); err != nil {
		return record{}, err
	}
	word := binary.LittleEndian.Uint64(frame[:])
	if word == 0 {
		return record{}, io.EOF
	}
	size, padding := int64(word&(1<<sizeBits-1)), int64(0)
	if word>>63 != 0 {
		padding = int64(word >> sizeBits & 7)
	}
	if size > recordBytesMax {
		return record{}, s.damaged("a record of %d bytes", size)
	}
	if size+padding > s.rest-frameBytes {
		return record{}, errTorn
	}
	body := make([]byte, size+padding)
	if _, err := io.ReadFull(s.r, body); err != nil {
		return record{}, err
	}
	rec, err := s.open(body[:size])
	if err != nil {
		if isTorn(body, s.offset+frameBytes) {
			return record{}, errTorn
		}
		return record{}, err
	}
	s.offset += frameBytes + size + padding
	s.rest -= frameBytes + size + padding
	return rec, nil
}

func (s *records) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: at offset %d: %s", ErrDamaged, s.offset, fmt.Sprintf(format, args...))
}

// open takes a message apart and compares its sum.
func (s *records) open(b []byte) (record, error) {
	rec, ok := decodeRecord(b)
	if !ok {
		return record{}, s.damaged("no record: %.40x", b)
	}
	if rec.kind == kindSum {
		// Whoever begins with a later file has to believe what it says of the ones before.
		if s.begun && rec.sum != s.sum {
			return record{}, s.damaged("sum %08x over the files before, which have %08x", rec.sum, s.sum)
		}
		s.sum, s.begun = rec.sum, true
		return rec, nil
	}
	s.sum = crc32.Update(s.sum, castagnoli, rec.data)
	if s.sum != rec.sum {
		return record{}, s.damaged("sum %08x, want %08x", s.sum, rec.sum)
	}
	return rec, nil
}

func decodeRecord(b []byte) (rec record, ok bool) {
	ok = eachField(b, func(n protowire.Number, number uint64, text []byte) {
		switch n {
		case recordFieldKind:
			rec.kind = kind(number)
		case recordFieldSum:
			rec.sum = uint32(number)
		case recordFieldData:
			rec.data = text
		}
	})
	return rec, ok
}

// eachField yields the fields of a message that are numbers or bytes; ok is false if b is no message.
func eachField(b []byte, yield func(n protowire.Number, number uint64, text []byte)) (ok bool) {
	for len(b) > 0 {
		n, t, size := protowire.ConsumeTag(b)
		if size < 0 {
			return false
		}
		b = b[size:]
		var number uint64
		var text []byte
		switch t {
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			text, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(n, t, b)
		}
		if size < 0 {
			return false
		}
		b = b[size:]
		yield(n, number, text)
	}
	return true
}

// isTorn recognises a body of which a whole sector of the disk was not written: it is zero.
func isTorn(body []byte, offset int64) bool {
	for len(body) > 0 {
		n := min(int64(len(body)), sectorBytes-offset%sectorBytes)
		if isZero(body[:n]) {
			return true
		}
		body, offset = body[n:], offset+n
	}
	return false
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
