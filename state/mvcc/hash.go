package mvcc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"keelson/storage"
)

// Hash is what Store.HashKV returns.
type Hash struct {
	// Hash is a CRC-32C.
	Hash uint32
	// Compacted is the compaction floor that the hash was made under, -1: none. Only hashes made under the same one
	// can be compared. At the floor itself it may be an earlier one: see HashKV.
	Compacted Revision
	// Revision is the revision that was hashed.
	Revision Revision
	// Current is the newest revision at that moment.
	Current Revision
}

// hashMemo holds the newest hashes, oldest first. Their Current does not count.
type hashMemo struct {
	mu     sync.Mutex
	hashes []Hash
	// floor is the newest published floor, and before the one that it has replaced, if it has moved since the store was opened.
	floor, before Revision
}

// moved notes that the floor has moved.
func (m *hashMemo) moved(before, floor Revision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.floor, m.before = floor, before
}

const (
	hashMemoMax = 10
	// hashEntriesMax bounds what HashKV holds in memory: twice that many entries of 24 bytes. A store of more
	// versions is scanned several times.
	hashEntriesMax = 1 << 20
)

// HashKV hashes the pairs as of rev (0: the newest), byte for byte as etcd does. The result is a function of rev, the
// floor and what was written: it is the same before, during and after the removal of compacted versions, on every
// member, and after a restart. It takes a scan of all versions or, for more than a million of them, several. Before
// the first revision there is nothing, which has a hash too, whatever the floor.
//
// Of a revision that was compacted to, the hash from before is returned, with the floor from before, if it is remembered:
// who hashes, compacts to what was hashed and hashes again finds the same, as with etcd.
//
// Errors: ErrCompacted, ErrFuture, ErrRetired.
// Source: etcd v3 API, Maintenance.HashKV; compared with etcd 3.7.1.
func (s *Store) HashKV(rev Revision) (Hash, error) { return s.hashKV(rev, hashEntriesMax) }

func (s *Store) hashKV(rev Revision, entriesMax int) (Hash, error) {
	v := s.View()
	if v == nil {
		return Hash{}, ErrRetired
	}
	defer v.Close()
	if rev < 0 {
		return Hash{Hash: crc32.Checksum(hashSeed, castagnoli), Compacted: v.at.floor, Revision: rev, Current: v.at.revision}, nil
	}
	rev, err := v.at.resolve(rev)
	if err != nil {
		return Hash{}, err
	}
	h := Hash{Compacted: v.at.floor, Revision: rev, Current: v.at.revision}
	if known, ok := s.hashes.find(rev, v.at.floor); ok {
		known.Current = v.at.revision
		return known, nil
	}
	it, err := s.db.Iter(storage.Versions, nil, nil)
	if err != nil {
		return Hash{}, fmt.Errorf("mvcc: hash at %d: %w", rev, err)
	}
	h.Hash, err = hashVersions(it, rev, v.at.floor, entriesMax)
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return Hash{}, fmt.Errorf("mvcc: hash at %d: %w", rev, err)
	}
	s.hashes.add(h)
	return h, nil
}

// find looks for the hash of rev under a floor, or at that floor under the one before it.
func (m *hashMemo) find(rev, floor Revision) (Hash, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Backward(m.hashes) {
		if k.Revision == rev && (k.Compacted == floor || rev == floor && floor == m.floor && k.Compacted == m.before) {
			return k, true
		}
	}
	return Hash{}, false
}

func (m *hashMemo) add(h Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.hashes) == hashMemoMax {
		m.hashes = slices.Delete(m.hashes, 0, 1)
	}
	m.hashes = append(m.hashes, h)
}

// hashEntry is one version as the hash sees it: where it stands in the order of revisions, and the CRC and length of
// what it adds. CRCs of pieces can be joined in any order, so the bytes themselves need not be kept or read twice.
type hashEntry struct {
	at     storage.Version
	sum    uint32
	length uint32
}

// hashVersions hashes, in order of revision, the versions that etcd would have at rev under a floor: all above the
// floor, and below it those that are still the newest of a live key at rev. (If no key at all is live at rev, etcd
// counts those that were at the floor.) A tombstone at the floor does not count.
func hashVersions(it *storage.Iter, rev, floor Revision, entriesMax int) (uint32, error) {
	g := hashing{it: it, rev: rev, floor: floor, keepAt: rev, max: entriesMax}
	if live, err := g.anyLive(); err != nil {
		return 0, err
	} else if !live {
		g.keepAt = floor
	}
	sum := crc32.Checksum(hashSeed, castagnoli)
	for {
		if err := g.collect(); err != nil {
			return 0, err
		}
		for _, e := range g.entries {
			sum = joinCRC(sum, e.sum, e.length)
		}
		if !g.cut {
			return sum, nil
		}
		g.after = g.entries[len(g.entries)-1].at
	}
}

// hashSeed goes into every hash first: the name of etcd's bucket.
var hashSeed = []byte("key")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type hashing struct {
	it         *storage.Iter
	rev, floor Revision
	keepAt     Revision // versions at or below the floor count if they are the newest of a live key here
	max        int

	after   storage.Version // entries up to here are hashed already
	entries []hashEntry     // the next ones, in order
	cut     bool            // there are more behind them
	buf     []byte
}

func (g *hashing) anyLive() (bool, error) {
	c := &scan{it: g.it, rev: g.rev}
	live := c.first(nil)
	if c.err != nil {
		return false, c.err
	}
	return live, g.it.Error()
}

// collect scans all versions for the next entries in order of revision, at most max of them.
func (g *hashing) collect() error {
	g.entries, g.cut = g.entries[:0], false
	var key []byte          // of the versions being looked at, newest first
	var begun, settled bool // settled: the newest version of key at keepAt was seen
	var kv KeyValue
	for ok := g.it.First(); ok; ok = g.it.Next() {
		k, v := g.it.KeyVersion()
		if !begun || string(k) != string(key) {
			key, begun, settled = append(key[:0], k...), true, false
		}
		newest := !settled && v.Main <= g.keepAt
		settled = settled || newest
		if v.Main > g.rev || v.Main <= g.floor && !newest {
			continue
		}
		b, err := g.it.Value()
		if err == nil {
			err = decodeVersion(b, &kv)
		}
		if err != nil {
			return err
		}
		if kv.Version == 0 && v.Main <= g.floor {
			continue
		}
		if !g.after.Less(v) {
			continue
		}
		kv.Key, kv.ModRevision = k, v.Main
		g.add(v, &kv)
	}
	g.sort()
	if len(g.entries) > g.max {
		g.entries, g.cut = g.entries[:g.max], true
	}
	return g.it.Error()
}

// add gathers an entry. Twice max of them are gathered before the later half is dropped.
func (g *hashing) add(v storage.Version, kv *KeyValue) {
	g.buf = appendHashed(g.buf[:0], v, kv)
	g.entries = append(g.entries, hashEntry{v, crc32.Checksum(g.buf, castagnoli), uint32(len(g.buf))})
	if len(g.entries) > 2*g.max {
		g.sort()
		g.entries = g.entries[:g.max+1] // one more than will be hashed says that there are more
	}
}

func (g *hashing) sort() {
	slices.SortFunc(g.entries, func(a, b hashEntry) int {
		switch {
		case a.at.Less(b.at):
			return -1
		case b.at.Less(a.at):
			return 1
		}
		return 0
	})
}

// appendHashed appends what a version adds to the hash: its place in etcd's store, and its encoded mvccpb.KeyValue.
func appendHashed(dst []byte, v storage.Version, kv *KeyValue) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.Main))
	dst = append(dst, '_')
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.Sub))
	if kv.Version == 0 {
		dst = append(dst, 't')
		return appendProtoBytes(dst, 1, kv.Key)
	}
	dst = appendProtoBytes(dst, 1, kv.Key)
	dst = appendProtoInt(dst, 2, kv.CreateRevision)
	dst = appendProtoInt(dst, 3, kv.ModRevision)
	dst = appendProtoInt(dst, 4, kv.Version)
	dst = appendProtoBytes(dst, 5, kv.Value)
	return appendProtoInt(dst, 6, kv.Lease)
}

func appendProtoBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

func appendProtoInt(dst []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(v))
}

// Hash hashes everything that can be read, history included, and says at which revision. It is the same on all
// members at the same revision and floor, however much of what is compacted they have removed.
//
// Errors: ErrRetired.
func (s *Store) Hash() (hash uint32, rev Revision, err error) {
	v := s.View()
	if v == nil {
		return 0, 0, ErrRetired
	}
	defer v.Close()
	it, err := s.db.Iter(storage.Versions, nil, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("mvcc: hash: %w", err)
	}
	hash, err = hashAll(it, v.at)
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return 0, 0, fmt.Errorf("mvcc: hash: %w", err)
	}
	return hash, v.at.revision, nil
}

func hashAll(it *storage.Iter, at *publication) (uint32, error) {
	sum := crc32.Checksum(at.append(nil), castagnoli)
	var key, buf []byte
	var begun, settled bool // settled: the newest version of key at the floor was seen
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.KeyVersion()
		if !begun || string(k) != string(key) {
			key, begun, settled = append(key[:0], k...), true, false
		}
		b, err := it.Value()
		if err != nil {
			return 0, err
		}
		newest := !settled && v.Main <= at.floor
		settled = settled || newest
		gone := v.Main < at.floor && (!newest || len(b) > 0 && b[0] == kindTombstone)
		if gone || v.Main > at.revision {
			continue
		}
		buf = binary.AppendUvarint(buf[:0], uint64(len(k)))
		buf = append(buf, k...)
		buf = appendChangeKey(buf, v)
		buf = binary.AppendUvarint(buf, uint64(len(b)))
		sum = crc32.Update(sum, castagnoli, buf)
		sum = crc32.Update(sum, castagnoli, b)
	}
	return sum, it.Error()
}
