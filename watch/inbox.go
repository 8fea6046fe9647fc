package watch

import (
	"fmt"
	"sync"

	"keelson/state/mvcc"
)

// inbox is what lies between the goroutine that publishes and the task that dispatches.
type inbox struct {
	mu     sync.Mutex
	chunks fifo[*chunk]
	bytes  int
	newest mvcc.Revision // of the last chunk put, or reset
	// lost, if not 0, is the last revision that a reset skipped. It precedes the chunks.
	lost    mvcc.Revision
	running bool // somebody is dispatching
	closed  bool
}

// put adds a chunk and returns how many bytes there are now; start tells the caller to start dispatching.
func (x *inbox) put(c *chunk) (start bool, bytes int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.first <= x.newest {
		panic(fmt.Sprintf("watch: published revisions %d..%d after %d", c.first, c.last, x.newest))
	}
	x.newest = c.last
	x.chunks.push(c)
	x.bytes += c.bytes
	return x.start(), x.bytes
}

func (x *inbox) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes
}

// reset skips to rev, and drops what is waiting: that is history by now.
func (x *inbox) reset(rev mvcc.Revision) (start bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if rev < x.newest {
		panic(fmt.Sprintf("watch: reset to revision %d after %d", rev, x.newest))
	}
	x.newest, x.lost = rev, rev
	x.chunks = fifo[*chunk]{}
	x.bytes = 0
	return x.start()
}

func (x *inbox) start() bool {
	if x.running || x.closed {
		return false
	}
	x.running = true
	return true
}

// take returns what was lost, if anything, else the oldest chunk. done: that was all, and the next put will ask to start
// dispatching again.
func (x *inbox) take() (c *chunk, lost mvcc.Revision, done bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.closed:
	case x.lost > 0:
		lost, x.lost = x.lost, 0
	case x.chunks.len() > 0:
		c = x.chunks.pop()
		x.bytes -= c.bytes
	}
	done = x.closed || x.chunks.len() == 0 && x.lost == 0
	x.running = !done
	return c, lost, done
}

func (x *inbox) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.chunks = fifo[*chunk]{}
	x.bytes = 0
}
