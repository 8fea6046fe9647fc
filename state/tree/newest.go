package tree

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// newest is a bounded cache of the records of nodes as they are stored and published. Only published changes, and Apply's own
// reads, put records in, so what it has is never older than what the store had when the last batch was published.
//
// A shard has two generations: a record that is put in or looked for goes to the young one, and when that has filled its half
// of the bound, the old one goes as a whole. So each call costs the same, and a record that is in use stays.
//
// Safe for concurrent use. A record is immutable.
type newest struct {
	shards [newestShards]newestShard
	// unsettled: a batch is on its way into the store. Readers who found its changes there must not find what was before here.
	unsettled atomic.Bool
	limit     int64 // in bytes, of all; 0: newestDefaultBytes; negative: nothing is kept
}

const (
	newestShards       = 16
	newestDefaultBytes = 32 << 20
	// newestOverheadBytes is about what an entry costs apart from its path and record.
	newestOverheadBytes = 120
)

type newestShard struct {
	mu         sync.Mutex
	young, old map[string][]byte
	bytes      int64 // of young
	_          [16]byte
}

func newestCost(path string, record []byte) int64 {
	return int64(len(path)+len(record)) + newestOverheadBytes
}

// generationBytes bounds a generation of a shard.
func (c *newest) generationBytes() int64 {
	limit := c.limit
	if limit == 0 {
		limit = newestDefaultBytes
	}
	return max(limit, 0) / (2 * newestShards)
}

func (c *newest) shard(path string) *newestShard {
	return &c.shards[xxhash.Sum64String(path)%newestShards]
}

// get returns the record of the node at a path. nil: it is not known here whether there is one.
func (c *newest) get(path string) []byte {
	s := c.shard(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if record, ok := s.young[path]; ok {
		return record
	}
	record, ok := s.old[path]
	if ok {
		delete(s.old, path)
		s.add(path, record, c.generationBytes())
	}
	return record
}

// put makes a record the one of the node at a path, or makes sure that there is none here.
func (c *newest) put(path string, record []byte) {
	limit := c.generationBytes()
	s := c.shard(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.young[path]
	bytes := s.bytes + int64(len(record)-len(was))
	if ok && bytes <= limit {
		s.young[path], s.bytes = record, bytes
		return
	}
	s.remove(path)
	if newestCost(path, record) <= limit {
		s.add(path, record, limit)
	}
}

// remove forgets the node at a path.
func (c *newest) remove(path string) {
	s := c.shard(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(path)
}

// forget forgets all nodes.
func (c *newest) forget() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.young, s.old, s.bytes = nil, nil, 0
		s.mu.Unlock()
	}
}

// add adds a record that is in neither generation, and fits into one.
func (s *newestShard) add(path string, record []byte, limit int64) {
	cost := newestCost(path, record)
	if s.bytes+cost > limit || s.young == nil {
		s.old, s.young, s.bytes = s.young, map[string][]byte{}, 0
	}
	s.young[strings.Clone(path)] = record // the path may be a part of a far longer one
	s.bytes += cost
}

func (s *newestShard) remove(path string) {
	if record, ok := s.young[path]; ok {
		s.bytes -= newestCost(path, record)
		delete(s.young, path)
	}
	delete(s.old, path)
}
