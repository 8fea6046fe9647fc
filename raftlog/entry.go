package raftlog

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
)

// The body of a record is its entries, one behind the other. Indexes count up from the header's first index.
//
//	1      flags: bits 0-1 type, bit 2 the type is set, bit 3 the data is set (it may be empty), bit 4 a term follows
//	0..10  term (uvarint), if it is not the term of the entry before
//	1..10  length of the data (uvarint)
//	n      data
const (
	entryTypeMask = 0b11
	entryTypeSet  = 1 << 2
	entryDataSet  = 1 << 3
	entryNewTerm  = 1 << 4
	entryAllFlags = entryTypeMask | entryTypeSet | entryDataSet | entryNewTerm

	entryMaxOverhead = 1 + binary.MaxVarintLen64 + binary.MaxVarintLen64
)

// appendEntry encodes e behind b. prevTerm is the term of the entry before.
func appendEntry(b []byte, e *raftpb.Entry, prevTerm uint64) []byte {
	var flags byte
	if e.Type != nil {
		if *e.Type < 0 || *e.Type > entryTypeMask {
			panic(fmt.Sprintf("raftlog: entry %d has type %d", e.GetIndex(), *e.Type))
		}
		flags = entryTypeSet | byte(*e.Type)
	}
	if e.Data != nil {
		flags |= entryDataSet
	}
	if term := e.GetTerm(); term != prevTerm {
		b = append(b, flags|entryNewTerm)
		b = binary.AppendUvarint(b, term)
	} else {
		b = append(b, flags)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Data)))
	return append(b, e.Data...)
}

// entryReader walks the entries of a body.
type entryReader struct {
	rest []byte

	index, term uint64 // of the entry that next read
	flags       byte
	data        []byte // part of the body
}

func newEntryReader(h *recordHeader, body []byte) entryReader {
	return entryReader{rest: body, index: h.first - 1, term: h.prevTerm}
}

// next reads one entry. The caller asks for as many as the header counts, and then calls done.
func (r *entryReader) next() error {
	if len(r.rest) == 0 {
		return fmt.Errorf("no bytes left for entry %d", r.index+1)
	}
	r.index++
	r.flags, r.rest = r.rest[0], r.rest[1:]
	if r.flags&^entryAllFlags != 0 {
		return fmt.Errorf("flags %#02x of entry %d", r.flags, r.index)
	}
	if r.flags&entryNewTerm != 0 {
		term, n := binary.Uvarint(r.rest)
		if n <= 0 || term <= r.term {
			return fmt.Errorf("term %d of entry %d after term %d", term, r.index, r.term)
		}
		r.term, r.rest = term, r.rest[n:]
	}
	size, n := binary.Uvarint(r.rest)
	if n <= 0 || size > uint64(len(r.rest)-n) {
		return fmt.Errorf("length %d of entry %d with %d bytes left", size, r.index, len(r.rest))
	}
	if size > 0 && r.flags&entryDataSet == 0 {
		return fmt.Errorf("flags %#02x of entry %d with %d bytes of data", r.flags, r.index, size)
	}
	r.data, r.rest = r.rest[n:n+int(size)], r.rest[n+int(size):]
	return nil
}

// done reports bytes behind the last entry.
func (r *entryReader) done() error {
	if len(r.rest) != 0 {
		return fmt.Errorf("%d bytes behind entry %d", len(r.rest), r.index)
	}
	return nil
}

// decodeEntries returns all entries of a record, sharing a few allocations and no bytes with body.
func decodeEntries(h *recordHeader, body []byte) ([]*raftpb.Entry, error) {
	body = append([]byte(nil), body...)
	n := int(h.count)
	entries := make([]raftpb.Entry, n)
	numbers := make([]uint64, 2*n)
	types := make([]raftpb.EntryType, n)
	out := make([]*raftpb.Entry, n)
	r := newEntryReader(h, body)
	for i := range n {
		if err := r.next(); err != nil {
			return nil, err
		}
		e := &entries[i]
		numbers[2*i], numbers[2*i+1] = r.index, r.term
		e.Index, e.Term = &numbers[2*i], &numbers[2*i+1]
		if r.flags&entryTypeSet != 0 {
			types[i] = raftpb.EntryType(r.flags & entryTypeMask)
			e.Type = &types[i]
		}
		if r.flags&entryDataSet != 0 {
			e.Data = r.data[:len(r.data):len(r.data)]
		}
		out[i] = e
	}
	return out, r.done()
}

// entrySize is proto.Size(e), which is what raft measures limits in, without reflection.
func entrySize(e *raftpb.Entry) uint64 {
	var n int
	if e.Type != nil {
		n += 1 + uvarintLen(uint64(*e.Type))
	}
	if e.Term != nil {
		n += 1 + uvarintLen(*e.Term)
	}
	if e.Index != nil {
		n += 1 + uvarintLen(*e.Index)
	}
	if e.Data != nil {
		n += 1 + uvarintLen(uint64(len(e.Data))) + len(e.Data)
	}
	return uint64(n)
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
