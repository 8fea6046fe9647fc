package transport

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// The tail of a message frame is its entries:
//
//	1..5   number of entries (uvarint), at most 2^18
//	       then for each
//	1      flags, see below
//	0..10  term (uvarint), if flagged
//	0..10  index (uvarint), if flagged
//	0..10  length of the data (uvarint), if there is data
//	n      data
//
// Term and index are left out if they follow from the entry before: the same term, the next index; before the first one
// both are 0. What raft has not set stays unset.
const (
	entryTypeMask  = 0b11   // bits 0-1: the type
	entryTypeSet   = 1 << 2 // the type is set
	entryDataSet   = 1 << 3 // the data is set; it may be empty
	entryTermGiven = 1 << 4 // a term follows
	entryTermUnset = 1 << 5
	entryIndexGivn = 1 << 6 // an index follows
	entryIndexNone = 1 << 7

	entryTypeMax     = byte(raftpb.EntryConfChangeV2)
	entryOverheadMax = 1 + 3*binary.MaxVarintLen64
	entriesMax       = 1 << 18
)

// Data of at least this length is sent from where it lies; shorter data is copied behind its neighbours.
const ownPartBytesMin = 4 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// block is a run of entries in the form in which they travel. It is encoded by the first stream that needs it and shared by
// all; the entries and what was encoded of them never change.
type block struct {
	entries []*raftpb.Entry
	size    int // of the encoding, at most

	once  sync.Once
	parts [][]byte // the encoding, in order
	bytes int      // its length
	crc   uint32   // its checksum
}

func newBlock(entries []*raftpb.Entry) *block {
	b := &block{entries: entries, size: binary.MaxVarintLen32}
	for _, e := range entries {
		b.size += len(e.Data) + entryOverheadMax
	}
	return b
}

// encode makes parts, bytes and crc valid.
func (b *block) encode() { b.once.Do(b.doEncode) }

func (b *block) doEncode() {
	small := binary.MaxVarintLen32
	for _, e := range b.entries {
		small += entryOverheadMax
		if len(e.Data) < ownPartBytesMin {
			small += len(e.Data)
		}
	}
	buf := binary.AppendUvarint(make([]byte, 0, small), uint64(len(b.entries)))
	from := 0
	add := func(part []byte) {
		b.parts = append(b.parts, part)
		b.bytes += len(part)
		b.crc = crc32.Update(b.crc, castagnoli, part)
	}
	var term, index uint64
	for _, e := range b.entries {
		buf = appendEntryHead(buf, e, term, index)
		term, index = e.GetTerm(), e.GetIndex()
		if len(e.Data) < ownPartBytesMin {
			buf = append(buf, e.Data...)
			continue
		}
		add(buf[from:])
		add(e.Data)
		from = len(buf)
	}
	if from < len(buf) {
		add(buf[from:])
	}
}

// appendEntryHead encodes all of e but its data. term and index are those of the entry before.
func appendEntryHead(b []byte, e *raftpb.Entry, term, index uint64) []byte {
	at := len(b)
	b = append(b, 0)
	var flags byte
	if e.Type != nil {
		if *e.Type < 0 || byte(*e.Type) > entryTypeMax {
			panic(fmt.Sprintf("transport: entry %d has type %d", e.GetIndex(), *e.Type))
		}
		flags = entryTypeSet | byte(*e.Type)
	}
	switch {
	case e.Term == nil:
		flags |= entryTermUnset
	case *e.Term != term:
		flags |= entryTermGiven
		b = binary.AppendUvarint(b, *e.Term)
	}
	switch {
	case e.Index == nil:
		flags |= entryIndexNone
	case *e.Index != index+1:
		flags |= entryIndexGivn
		b = binary.AppendUvarint(b, *e.Index)
	}
	if e.Data != nil {
		flags |= entryDataSet
		b = binary.AppendUvarint(b, uint64(len(e.Data)))
	}
	b[at] = flags
	return b
}

// entryCell is an entry together with what it points to, so that many entries are one allocation.
type entryCell struct {
	entry       raftpb.Entry
	term, index uint64
	kind        raftpb.EntryType
}

// decodeEntries reads a tail. The entries' data alias it.
//
// Errors: errMalformed.
func decodeEntries(tail []byte) ([]*raftpb.Entry, error) {
	r := reader{rest: tail}
	n := r.uvarint()
	// Every entry takes a byte at least.
	if r.failed || n == 0 || n > entriesMax || n > uint64(len(r.rest)) {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", errMalformed, n, len(tail))
	}
	cells := make([]entryCell, n)
	entries := make([]*raftpb.Entry, n)
	var term, index uint64
	for i := range cells {
		c := &cells[i]
		entries[i] = &c.entry
		if !r.entry(c, term, index) {
			return nil, fmt.Errorf("%w: entry %d of %d", errMalformed, i, n)
		}
		term, index = c.term, c.index
	}
	if len(r.rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the last entry", errMalformed, len(r.rest))
	}
	return entries, nil
}

// entry reads one entry into c, behind one of the given term and index. It is false if there is none.
func (r *reader) entry(c *entryCell, term, index uint64) bool {
	flags := r.byte()
	c.kind = raftpb.EntryType(flags & entryTypeMask)
	if flags&entryTypeSet != 0 {
		c.entry.Type = &c.kind
	}
	if flags&entryTypeMask > entryTypeMax || flags&entryTypeSet == 0 && flags&entryTypeMask != 0 {
		return false
	}
	switch flags & (entryTermGiven | entryTermUnset) {
	case 0:
		c.term = term
	case entryTermGiven:
		c.term = r.uvarint()
	case entryTermUnset:
	default:
		return false
	}
	if flags&entryTermUnset == 0 {
		c.entry.Term = &c.term
	}
	switch flags & (entryIndexGivn | entryIndexNone) {
	case 0:
		c.index = index + 1
	case entryIndexGivn:
		c.index = r.uvarint()
	case entryIndexNone:
	default:
		return false
	}
	if flags&entryIndexNone == 0 {
		c.entry.Index = &c.index
	}
	if flags&entryDataSet != 0 {
		c.entry.Data = r.bytes()
	}
	return !r.failed
}

// recentBlocks finds the block of entries that were sent a moment ago: raft sends the same ones to each follower. Blocks
// of much more than a message are not kept.
//
// Entries are told apart by identity: those of one log that begin with the same object, end with the same object and are
// equally many are the same, because what is replaced in a log is replaced up to its end.
type recentBlocks struct {
	blocks [4]*block
	next   int
}

const recentBlockBytesMax = 2 << 20

func (r *recentBlocks) of(entries []*raftpb.Entry) *block {
	n := len(entries)
	for _, b := range r.blocks {
		if b != nil && len(b.entries) == n && b.entries[0] == entries[0] && b.entries[n-1] == entries[n-1] {
			return b
		}
	}
	b := newBlock(entries)
	if b.size <= recentBlockBytesMax {
		r.blocks[r.next] = b
		r.next = (r.next + 1) % len(r.blocks)
	}
	return b
}
