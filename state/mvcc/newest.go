package mvcc

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"keelson/storage"
)

// record is one version of a key in memory. It is immutable, but for slot. A tombstone has Version 0, no value and its own
// ModRevision.
type record struct {
	KeyValue
	sub uint32
	// slot is where the key was last put into the cache, by this record or one before it, which spares looking for it; nil: not known.
	// It belongs to the goroutine that applies.
	slot *newestSlot
}

func (r *record) live() bool { return r != nil && r.Version != 0 }

// pair is the record's pair, nil for a tombstone or no record.
func (r *record) pair() *KeyValue {
	if !r.live() {
		return nil
	}
	return &r.KeyValue
}

// version is the version if it is live; otherwise zero.
func (r *record) version() storage.Version {
	if !r.live() {
		return storage.Version{}
	}
	return storage.Version{Main: r.ModRevision, Sub: r.sub}
}

// nameOf is a record's key as a map key, without a copy: the bytes of a record never change.
func nameOf(key []byte) string { return unsafe.String(unsafe.SliceData(key), len(key)) }

// newest is a bounded cache of the newest published version of keys, tombstones included.
//
// Only Publish, and Apply's own reads, put records in, so that an entry is always the newest version as of every
// published revision from its ModRevision on. A reader with an older view does not use it. Readers share a lock per
// shard; eviction is by second chance.
type newest struct {
	shards [newestShards]newestShard
}

const (
	newestShards = 64 // at most 256
	// newestOverheadBytes is about what an entry costs apart from its key and value.
	newestOverheadBytes = 240
)

type newestShard struct {
	mu    sync.RWMutex
	slots map[string]*newestSlot
	ring  []*newestSlot // all slots, in the order of the hand's walk
	hand  int
	// forgotten is the newest mod revision of what has left or never came in; at first, the newest one of all when the
	// store was opened. A key that is not among the slots has no newer version.
	forgotten Revision
	bytes     int64 // Invariant: <= limit
	limit     int64
	// How often a key was looked for and was there, or was not.
	hits, misses atomic.Uint64
	_            [16]byte // keeps the locks of neighbours on different cache lines
}

type newestSlot struct {
	rec   *record     // guarded by the shard's lock; nil: the slot was removed
	shard uint8       // its number: a pointer would keep a whole cache alive that is no longer used, by any pair of it that is
	used  atomic.Bool // since the hand came by
}

// newNewest makes an empty cache for a store whose newest revision is opened.
func newNewest(limitBytes int64, opened Revision) *newest {
	c := &newest{}
	for i := range c.shards {
		c.shards[i].forgotten = opened
		c.shards[i].slots = map[string]*newestSlot{}
		c.shards[i].limit = max(limitBytes, 0) / newestShards
	}
	return c
}

func shardOf(key []byte) uint8 { return uint8(xxhash.Sum64(key) % newestShards) }

func (c *newest) shard(key []byte) *newestShard { return &c.shards[shardOf(key)] }

// get returns the cached record of key, nil if there is none.
func (c *newest) get(key []byte) *record {
	s := c.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	slot := s.slots[nameOf(key)]
	if slot == nil {
		s.misses.Add(1)
		return nil
	}
	s.hits.Add(1)
	if !slot.used.Load() {
		slot.used.Store(true)
	}
	return slot.rec
}

// CacheStats is how a cache does.
type CacheStats struct {
	Hits, Misses uint64 // since it was made
	Bytes        int64
}

func (c *newest) stats() (sum CacheStats) {
	for i := range c.shards {
		s := &c.shards[i]
		sum.Hits += s.hits.Load()
		sum.Misses += s.misses.Load()
		s.mu.RLock()
		sum.Bytes += s.bytes
		s.mu.RUnlock()
	}
	return sum
}

// forgotten is a revision that no version of key is newer than, provided that get knows none.
func (c *newest) forgotten(key []byte) Revision {
	s := c.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.forgotten
}

// put makes r the cached record of its key, or makes sure that there is none.
func (c *newest) put(r *record) {
	slot := r.slot
	var number uint8
	if slot != nil {
		number = slot.shard
	} else {
		number = shardOf(r.Key)
	}
	s := &c.shards[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot == nil || slot.rec == nil {
		slot = s.slots[nameOf(r.Key)]
	}
	fits := r.cost() <= s.limit/4
	switch {
	case slot == nil && !fits:
		s.forgotten = max(s.forgotten, r.ModRevision)
	case slot == nil:
		slot = &newestSlot{rec: r, shard: number}
		s.slots[nameOf(r.Key)] = slot
		s.ring = append(s.ring, slot)
		s.bytes += r.cost()
	default:
		// A record that does not fit takes the place of the old one and is then the first to go.
		s.bytes += r.cost() - slot.rec.cost()
		slot.rec = r
		if !fits {
			s.drop(slot)
		}
	}
	r.slot = slot
	for s.bytes > s.limit {
		s.evict()
	}
}

func (r *record) cost() int64 { return int64(len(r.Key)+len(r.Value)) + newestOverheadBytes }

// evict removes the first slot that was not used since the hand last came by.
func (s *newestShard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		slot := s.ring[s.hand]
		if !slot.used.Swap(false) {
			s.remove(s.hand)
			return
		}
		s.hand++
	}
}

func (s *newestShard) drop(slot *newestSlot) {
	for i := range s.ring {
		if s.ring[i] == slot {
			s.remove(i)
			return
		}
	}
}

func (s *newestShard) remove(i int) {
	slot, last := s.ring[i], len(s.ring)-1
	delete(s.slots, nameOf(slot.rec.Key))
	s.forgotten = max(s.forgotten, slot.rec.ModRevision)
	s.bytes -= slot.rec.cost()
	s.ring[i], s.ring[last] = s.ring[last], nil
	s.ring = s.ring[:last]
	slot.rec = nil
}
