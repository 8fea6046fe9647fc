package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"keelson/storage"
)

// Records as bytes. docs/formats/state.md draws them too; a kind byte, once used, keeps its meaning for ever.
//
// Versions, at (user key, version):
//
//	pair:      1(1) | create revision(uvarint) | version(uvarint) | lease(uvarint of its 64 bits) | value
//	tombstone: 2(1)
//
// Changes, at main revision(8, big endian) | sub revision(4, big endian) of the last one in the record:
//
//	put:     1(1) | replaced main(uvarint, 0: none) [ | replaced sub(uvarint) ] | key
//	delete:  2(1) | replaced main(uvarint)            | replaced sub(uvarint)   | key
//	several: 3(1) | {main, less that of the change before(uvarint) | sub(uvarint) | as above up to the key | length of key(uvarint) | key}...
//
// Meta, at "mvcc.revisions", written by Apply:
//
//	1(1) | revision(8, big endian) | compaction floor(8, two's complement) | live keys(8)
//
// Meta, at "mvcc.removal", written by CompactStep:
//
//	1(1) | done(8, big endian) | target(8) | next main(8) | next sub(4)
const (
	kindPair      = 1
	kindTombstone = 2

	kindChangePut    = 1
	kindChangeDelete = 2
	kindChanges      = 3

	metaVersion   = 1
	revisionsSize = 1 + 3*8
	removalSize   = 1 + 3*8 + 4
	changeKeySize = 8 + 4
)

var (
	revisionsKey = []byte("mvcc.revisions")
	removalKey   = []byte("mvcc.removal")
)

// errDamaged is in every error about a record that is not what this package wrote. It is a failure of the disk.
var errDamaged = errors.New("mvcc: damaged record")

func damaged(what string, b []byte) error {
	return fmt.Errorf("%w: %s of %d bytes: %.32x", errDamaged, what, len(b), b)
}

// appendPairHead appends a pair's record up to its value.
func appendPairHead(dst []byte, kv *KeyValue) []byte {
	dst = append(dst, kindPair)
	dst = binary.AppendUvarint(dst, uint64(kv.CreateRevision))
	dst = binary.AppendUvarint(dst, uint64(kv.Version))
	return binary.AppendUvarint(dst, uint64(kv.Lease))
}

// decodeVersion reads the record of a version into all fields of kv but Key and ModRevision. A tombstone leaves kv
// as a pair of Version 0. kv.Value aliases b.
func decodeVersion(b []byte, kv *KeyValue) error {
	kv.CreateRevision, kv.Version, kv.Lease, kv.Value = 0, 0, 0, nil
	if len(b) == 1 && b[0] == kindTombstone {
		return nil
	}
	if len(b) == 0 || b[0] != kindPair {
		return damaged("version", b)
	}
	rest := b[1:]
	var fields [3]int64
	for i := range fields {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return damaged("version", b)
		}
		fields[i], rest = int64(v), rest[n:]
	}
	if fields[0] <= 0 || fields[1] <= 0 {
		return damaged("version", b)
	}
	kv.CreateRevision, kv.Version, kv.Lease, kv.Value = fields[0], fields[1], fields[2], rest
	return nil
}

// change is an entry of the changes table.
type change struct {
	kind     EventKind
	replaced storage.Version // the live version that this one took the place of; zero: none
	key      []byte
}

func appendChange(dst []byte, c change) []byte {
	return append(appendChangeHead(dst, c), c.key...)
}

// appendChangeHead appends a change up to its key.
func appendChangeHead(dst []byte, c change) []byte {
	if c.kind == Put {
		dst = append(dst, kindChangePut)
	} else {
		dst = append(dst, kindChangeDelete)
	}
	dst = binary.AppendUvarint(dst, uint64(c.replaced.Main))
	if c.replaced.Main != 0 {
		dst = binary.AppendUvarint(dst, uint64(c.replaced.Sub))
	}
	return dst
}

// decodeChange reads what appendChange wrote. The key aliases b.
func decodeChange(b []byte) (c change, err error) {
	c, key, ok := decodeChangeHead(b)
	if !ok {
		return c, damaged("change", b)
	}
	c.key = key
	return c, nil
}

// decodeChangeHead reads what appendChangeHead wrote. ok is false if it is damaged.
func decodeChangeHead(b []byte) (c change, rest []byte, ok bool) {
	if len(b) == 0 {
		return c, nil, false
	}
	switch b[0] {
	case kindChangePut:
		c.kind = Put
	case kindChangeDelete:
		c.kind = Delete
	default:
		return c, nil, false
	}
	rest = b[1:]
	main, n := binary.Uvarint(rest)
	if n <= 0 || int64(main) < 0 || main == 0 && c.kind == Delete {
		return c, nil, false
	}
	rest = rest[n:]
	if main != 0 {
		sub, n := binary.Uvarint(rest)
		if n <= 0 || sub > 1<<32-1 {
			return c, nil, false
		}
		c.replaced, rest = storage.Version{Main: int64(main), Sub: uint32(sub)}, rest[n:]
	}
	return c, rest, true
}

func appendChangeKey(dst []byte, v storage.Version) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.Main))
	return binary.BigEndian.AppendUint32(dst, v.Sub)
}

func decodeChangeKey(b []byte) (storage.Version, error) {
	if len(b) != changeKeySize {
		return storage.Version{}, damaged("key of a change", b)
	}
	return storage.Version{Main: int64(binary.BigEndian.Uint64(b)), Sub: binary.BigEndian.Uint32(b[8:])}, nil
}

func (p *publication) append(dst []byte) []byte {
	dst = append(dst, metaVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.revision))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.floor))
	return binary.BigEndian.AppendUint64(dst, uint64(p.live))
}

func decodeRevisions(b []byte) (publication, error) {
	if len(b) != revisionsSize || b[0] != metaVersion {
		return publication{}, damaged("revisions", b)
	}
	return publication{
		revision: int64(binary.BigEndian.Uint64(b[1:])),
		floor:    int64(binary.BigEndian.Uint64(b[9:])),
		live:     int64(binary.BigEndian.Uint64(b[17:])),
	}, nil
}

func (r *removal) append(dst []byte) []byte {
	dst = append(dst, metaVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.done))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.target))
	return appendChangeKey(dst, r.next)
}

func decodeRemoval(b []byte) (removal, error) {
	if len(b) != removalSize || b[0] != metaVersion {
		return removal{}, damaged("removal", b)
	}
	next, err := decodeChangeKey(b[17:])
	return removal{
		done:   int64(binary.BigEndian.Uint64(b[1:])),
		target: int64(binary.BigEndian.Uint64(b[9:])),
		next:   next,
	}, err
}
