package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// item is a message on its way out.
type item struct {
	m     *raftpb.Message
	block *block // its entries; nil: none
}

// itemOverhead is what a message is counted as in a queue, beside its entries and its context.
const itemOverhead = 128

func (it item) bytes() int {
	n := itemOverhead + len(it.m.Context)
	if it.block != nil {
		n += it.block.size
	}
	return n
}

// queue holds the messages that one stream has to send, bounded in bytes. Many may put, one takes.
type queue struct {
	limit int           // bytes; a single message may exceed it
	wake  chan struct{} // capacity 1: there is something to write

	mu       sync.Mutex
	items    []item
	first    int // items before it are taken
	bytes    int // of the items that are not
	down     bool
	dropping bool // something was dropped since the queue was last empty
}

func newQueue(limit int) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// put adds a message, without a signal. dropped says that it was not added; news, that this is the first one of a burst and
// nobody knows yet.
func (q *queue) put(it item) (dropped, news bool) {
	size := it.bytes()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down {
		return true, false
	}
	empty := q.first == len(q.items)
	if !empty && q.bytes+size > q.limit {
		news = !q.dropping
		q.dropping = true
		return true, news
	}
	q.items = append(q.items, it)
	q.bytes += size
	return false, false
}

// signal wakes the one who takes.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// takeAll moves all messages behind dst, unless they are more than maxBytes.
func (q *queue) takeAll(dst []item, maxBytes int) (_ []item, ok bool) {
	if q.size() > maxBytes {
		return dst, false
	}
	return q.take(dst, maxBytes), true
}

// take moves messages of about maxBytes, at least one if there are any, behind dst.
func (q *queue) take(dst []item, maxBytes int) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := 0
	for q.first < len(q.items) && taken < maxBytes {
		it := q.items[q.first]
		q.items[q.first] = item{}
		q.first++
		dst = append(dst, it)
		taken += it.bytes()
	}
	q.bytes -= taken
	switch {
	case q.first == len(q.items):
		q.items, q.first, q.dropping = q.items[:0], 0, false
	case q.first > len(q.items)/2:
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	return dst
}

// reset drops everything and returns how many messages that were. down: and whatever comes, until the next reset.
func (q *queue) reset(down bool) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped = len(q.items) - q.first
	q.items, q.first, q.bytes, q.dropping, q.down = nil, 0, 0, false, down
	return dropped
}

// open lets messages in again and keeps those that are there.
func (q *queue) open() {
	q.mu.Lock()
	q.down = false
	q.mu.Unlock()
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}
