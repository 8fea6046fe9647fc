package storage

import (
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
)

// Space is a table: the first byte of all its physical keys.
type Space byte

// The map of key spaces. A letter, once used, keeps its meaning for ever.
const (
	Alarms    Space = 'A' // member id, type -> nothing
	Auth      Space = 'a' // users, roles and the auth revision
	Changes   Space = 'c' // main and sub revision -> key, kind, version it replaced, of one change or of several up to it
	LeaseKeys Space = 'k' // lease id, key -> nothing
	Leases    Space = 'l' // lease id -> granted TTL, remaining TTL
	Members   Space = 'M' // member id -> member record
	Meta      Space = 'm' // name -> applied position, revisions, hashes
	Tree      Space = 't' // v2 path -> node
	Versions  Space = 'v' // user key, revision (newest first) -> record of the version
)

// Key appends the physical key of an unversioned key, which also sorts before all versions of that key.
func (s Space) Key(dst, key []byte) []byte {
	dst = append(dst, byte(s))
	dst = append(dst, key...)
	return append(dst, 0)
}

// end is the smallest physical key after the space.
func (s Space) end() []byte { return []byte{byte(s) + 1, 0} }

// Version numbers one version of a key: the main revision, and the position of the change within that revision.
type Version struct {
	Main int64
	Sub  uint32
}

// Less orders versions from old to new.
func (v Version) Less(w Version) bool {
	return v.Main < w.Main || v.Main == w.Main && v.Sub < w.Sub
}

// VersionMax is later than every version.
var VersionMax = Version{Main: 1<<63 - 1, Sub: 1<<32 - 1}

// versionKeyExtra is what a version's physical key has beside the key, at most.
const versionKeyExtra = 1 + 1 + 8 + 4 + 1

// versionKey appends the physical key of one version of key. v.Main must be positive.
func (s Space) versionKey(dst, key []byte, v Version) []byte {
	if v.Main <= 0 {
		panic("storage: version without a revision")
	}
	dst = slices.Grow(dst, len(key)+versionKeyExtra)
	dst = append(dst, byte(s))
	dst = append(dst, key...)
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.Main))
	if v.Sub == 0 {
		return append(dst, 9)
	}
	dst = binary.BigEndian.AppendUint32(dst, v.Sub)
	return append(dst, 13)
}

// splitKey takes a physical key apart. The key aliases p.
func splitKey(p []byte) (key []byte, v Version) {
	n := cockroachkvs.Split(p)
	suffix := p[n:]
	switch len(suffix) {
	case 9:
		v = Version{Main: int64(binary.BigEndian.Uint64(suffix))}
	case 13:
		v = Version{Main: int64(binary.BigEndian.Uint64(suffix)), Sub: binary.BigEndian.Uint32(suffix[8:])}
	}
	return p[1 : n-1], v
}
