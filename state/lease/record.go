package lease

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// ID names a lease. Any number but 0, negative ones included.
type ID = int64

// Lease is what the state knows of a lease.
type Lease struct {
	ID ID
	// TTLSeconds is what was granted.
	TTLSeconds int64
	// RemainingSeconds is what was left when a leader last recorded it. 0: nothing recorded, the full TTL counts.
	RemainingSeconds int64
	// Grant says when it was granted.
	Grant Grant
	// CheckpointIndex is the index of the entry that was the last to record or forget RemainingSeconds; 0: none has.
	CheckpointIndex uint64
}

// Grant is a place in the log: grants are ordered by it, and no two leases, not even of one id, share one.
type Grant struct {
	Index   uint64 // of the entry
	Ordinal uint32 // of the command within the entry, from 0
}

// Less orders grants from old to new.
func (g Grant) Less(h Grant) bool { return g.Compare(h) < 0 }

// Compare is -1, 0 or 1: g is older than h, the same, newer.
func (g Grant) Compare(h Grant) int {
	return cmp.Or(cmp.Compare(g.Index, h.Index), cmp.Compare(g.Ordinal, h.Ordinal))
}

// The record of a lease:
//
//	version(1) = 1 | granted TTL(8) | remaining TTL(8) | grant: index(8) | ordinal(4) [ | checkpoint index(8), not 0 ]
//
// all little endian.
//
// Its key, and the beginning of the keys of LeaseKeys, which the user's key follows, is the id in big endian, so that
// ids are in order of their unsigned value.
const (
	recordVersion    = 1
	recordSize       = 29 // without a checkpoint
	checkpointedSize = 37 // with one
	idSize           = 8
)

func appendRecord(dst []byte, l Lease) []byte {
	dst = append(dst, recordVersion)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(l.TTLSeconds))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(l.RemainingSeconds))
	dst = binary.LittleEndian.AppendUint64(dst, l.Grant.Index)
	dst = binary.LittleEndian.AppendUint32(dst, l.Grant.Ordinal)
	if l.CheckpointIndex == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(dst, l.CheckpointIndex)
}

func decodeRecord(id ID, b []byte) (Lease, error) {
	if len(b) != recordSize && len(b) != checkpointedSize || b[0] != recordVersion {
		return Lease{}, fmt.Errorf("lease: record of %d is not one of version %d: %x", id, recordVersion, b)
	}
	l := Lease{
		ID:               id,
		TTLSeconds:       int64(binary.LittleEndian.Uint64(b[1:])),
		RemainingSeconds: int64(binary.LittleEndian.Uint64(b[9:])),
		Grant: Grant{
			Index:   binary.LittleEndian.Uint64(b[17:]),
			Ordinal: binary.LittleEndian.Uint32(b[25:]),
		},
	}
	if len(b) == checkpointedSize {
		if l.CheckpointIndex = binary.LittleEndian.Uint64(b[recordSize:]); l.CheckpointIndex == 0 {
			return Lease{}, fmt.Errorf("lease: record of %d names no checkpoint where one should be: %x", id, b)
		}
	}
	return l, nil
}

func appendID(dst []byte, id ID) []byte { return binary.BigEndian.AppendUint64(dst, uint64(id)) }

func decodeID(key []byte) (ID, error) {
	if len(key) < idSize {
		return 0, fmt.Errorf("lease: key %x is too short for an id", key)
	}
	return int64(binary.BigEndian.Uint64(key)), nil
}
