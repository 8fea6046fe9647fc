package command

import (
	"encoding/binary"
	"fmt"
)

// A batch is what one raft entry holds:
//
//	version(1) = 1 | origin(8, little endian) | sequence(8, little endian) | { length(uvarint) | command }...
const (
	batchVersion    = 1
	batchHeaderSize = 17
)

// BatchID names a batch: the proposer's incarnation and a number that it counts up.
type BatchID struct {
	Origin   uint64 // drawn by chance each time a member starts
	Sequence uint64
}

// BeginBatch appends the head of a batch; AppendTo appends commands to it.
func BeginBatch(dst []byte, id BatchID) []byte {
	dst = append(dst, batchVersion)
	dst = binary.LittleEndian.AppendUint64(dst, id.Origin)
	return binary.LittleEndian.AppendUint64(dst, id.Sequence)
}

// AppendTo appends one encoded command (see Command.Append) to a batch.
func AppendTo(batch, encoded []byte) []byte {
	batch = binary.AppendUvarint(batch, uint64(len(encoded)))
	return append(batch, encoded...)
}

// Batch is a decoded batch head and the commands still to be read.
type Batch struct {
	ID   BatchID
	rest []byte
}

// OpenBatch reads the head of a batch. The result aliases b.
func OpenBatch(b []byte) (Batch, error) {
	if len(b) < batchHeaderSize {
		return Batch{}, fmt.Errorf("%w: batch of %d bytes", ErrMalformed, len(b))
	}
	if b[0] != batchVersion {
		return Batch{}, fmt.Errorf("%w: batch of version %d, want %d", ErrMalformed, b[0], batchVersion)
	}
	return Batch{
		ID: BatchID{
			Origin:   binary.LittleEndian.Uint64(b[1:]),
			Sequence: binary.LittleEndian.Uint64(b[9:]),
		},
		rest: b[batchHeaderSize:],
	}, nil
}

// Count is the number of commands still to be read. Of a damaged batch it is some number not above the true one.
func (b *Batch) Count() int {
	n := 0
	for rest := b.rest; len(rest) > 0; n++ {
		size, k := uvarint(rest)
		if k <= 0 || size > uint64(len(rest)-k) {
			break
		}
		rest = rest[k+int(size):]
	}
	return n
}

// IsBrief reports whether a batch is about no more keys than it names: it holds nothing but puts, reads, comparisons and deletions of
// single keys, leases that are granted, and noops. What is malformed is not brief.
func IsBrief(b []byte) bool {
	batch, err := OpenBatch(b)
	if err != nil {
		return false
	}
	for {
		c, ok, err := batch.Next()
		if err != nil {
			return false
		}
		if !ok {
			return true
		}
		if !isBrief(c.Op) {
			return false
		}
	}
}

func isBrief(op Op) bool {
	switch o := op.(type) {
	case *Put, *LeaseGrant, *Noop:
		return true
	case *Range:
		return len(o.End) == 0
	case *DeleteRange:
		return len(o.End) == 0
	case *Txn:
		for i := range o.Compares {
			if len(o.Compares[i].End) > 0 {
				return false
			}
		}
		isLong := func(op Op) bool { return !isBrief(op) }
		return !anyOp(o.Success, isLong) && !anyOp(o.Failure, isLong)
	}
	return false
}

// Next reads the next command; ok is false after the last one.
func (b *Batch) Next() (c Command, ok bool, err error) {
	if len(b.rest) == 0 {
		return Command{}, false, nil
	}
	n, k := uvarint(b.rest)
	if k <= 0 || n > uint64(len(b.rest)-k) {
		return Command{}, false, fmt.Errorf("%w: command of %d bytes with %d left in its batch", ErrMalformed, n, len(b.rest))
	}
	body := b.rest[k : k+int(n) : k+int(n)]
	b.rest = b.rest[k+int(n):]
	c, err = Decode(body)
	return c, err == nil, err
}
