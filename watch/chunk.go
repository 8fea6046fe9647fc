package watch

import (
	"sort"
	"sync"
	"sync/atomic"

	"keelson/state/mvcc"
)

// variant is what a watcher wants to see of an event.
type variant uint8

const (
	withPrev variant = 1 << iota
	noPut
	noDelete
	variants = 1 << iota
)

func (v variant) drops(kind mvcc.EventKind) bool {
	if kind == mvcc.Delete {
		return v&noDelete != 0
	}
	return v&noPut != 0
}

// chunk is what one call of Publish brought: whole revisions, immutable, shared by all watchers.
type chunk struct {
	events      []mvcc.Event // in order of (revision, sub)
	first, last mvcc.Revision
	bytes       int  // estimate of the memory, encodings included
	light       bool // the events tell only whom they concern: see Hub.PublishLight

	batches []*batch // who matched; guarded by hub.mu

	// mu guards encoded: the encoding of each event, made when first asked for. The second table is for events with a
	// previous pair; an event without one is only ever in the first.
	mu      sync.Mutex
	encoded [2][]piece
}

// piece is buf[from:to], one encoded event (or, while pieces are joined, several). buf nil: none.
type piece struct {
	buf      []byte
	from, to int
}

func (p piece) precedes(q piece) bool { return p.to == q.from && &p.buf[0] == &q.buf[0] }

// eventOverhead is about what an event occupies besides keys and values.
const eventOverhead = 256

// newChunk makes a chunk of the events, at least one, that lead to revision last.
func newChunk(events []mvcc.Event, last mvcc.Revision) *chunk {
	c := &chunk{events: events, first: events[0].KV.ModRevision, last: last, bytes: eventOverhead}
	for i := range events {
		c.bytes += eventOverhead + 2*eventPayload(&events[i])
	}
	return c
}

func eventPayload(ev *mvcc.Event) int {
	n := len(ev.KV.Key) + len(ev.KV.Value)
	if ev.Prev != nil {
		n += len(ev.Prev.Key) + len(ev.Prev.Value)
	}
	return n
}

// match appends the positions of the events of r from revision from on.
func (c *chunk) match(into []int32, r span, from mvcc.Revision) []int32 {
	skip := 0
	if c.first < from {
		skip = sort.Search(len(c.events), func(i int) bool { return c.events[i].KV.ModRevision >= from })
	}
	for i := skip; i < len(c.events); i++ {
		if r.contains(c.events[i].KV.Key) {
			into = append(into, int32(i))
		}
	}
	return into
}

// parts are encoded events as a response takes them.
type parts struct {
	slices [][]byte
	bytes  int
	events int
	// revisions is the number of distinct ones, of one chunk's events exactly.
	revisions int
	last      mvcc.Revision // of the last event; 0: no events
}

// join appends o.
func (p *parts) join(o parts) {
	if o.events == 0 {
		return
	}
	p.slices = append(p.slices, o.slices...)
	p.bytes += o.bytes
	p.events += o.events
	p.revisions += o.revisions
	p.last = o.last
}

// encode returns the events at the given positions as v wants them. Encodings that lie behind one another in memory
// become one slice.
func (c *chunk) encode(positions []int32, v variant) parts {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.encodeMissing(positions, v)
	var p parts
	var run piece
	for _, i := range positions {
		ev := &c.events[i]
		if v.drops(ev.Kind) {
			continue
		}
		e := *c.slot(i, v)
		p.events++
		p.bytes += e.to - e.from
		if rev := ev.KV.ModRevision; rev != p.last {
			p.revisions++
			p.last = rev
		}
		if run.buf != nil && run.precedes(e) {
			run.to = e.to
			p.slices[len(p.slices)-1] = run.buf[run.from:run.to:run.to]
			continue
		}
		run = e
		p.slices = append(p.slices, e.buf[e.from:e.to:e.to])
	}
	return p
}

// slot is where the encoding of event i for v is kept.
func (c *chunk) slot(i int32, v variant) *piece {
	table := 0
	if v&withPrev != 0 && c.events[i].Prev != nil {
		table = 1
	}
	if c.encoded[table] == nil {
		c.encoded[table] = make([]piece, len(c.events))
	}
	return &c.encoded[table][i]
}

// encodeMissing encodes those of the events that v wants and nobody wanted before, into one buffer.
func (c *chunk) encodeMissing(positions []int32, v variant) {
	size := 0
	for _, i := range positions {
		if !v.drops(c.events[i].Kind) && c.slot(i, v).buf == nil {
			size += eventSize(&c.events[i], v&withPrev != 0)
		}
	}
	if size == 0 {
		return
	}
	buf := make([]byte, 0, size)
	for _, i := range positions {
		if v.drops(c.events[i].Kind) {
			continue
		}
		if s := c.slot(i, v); s.buf == nil {
			from := len(buf)
			buf = appendEvent(buf, &c.events[i], v&withPrev != 0)
			*s = piece{buf: buf[:size], from: from, to: len(buf)}
		}
	}
}

// batch is what a chunk holds for one group. Immutable once it is in the group's log.
type batch struct {
	chunk       *chunk
	group       *group
	number      uint64        // in the group's log
	events      []int32       // positions in the chunk
	one         [1]int32      // room for the usual case
	first, last mvcc.Revision // of the events
	revisions   int           // distinct ones
	cost        int           // estimate of the encoded bytes, not too low

	// shared holds, for each variant asked for so far, the encoding of all events.
	shared [variants]atomic.Pointer[parts]
}

func newBatch(c *chunk, g *group) *batch {
	b := &batch{chunk: c, group: g}
	b.events = b.one[:0]
	return b
}

// add appends the event at position i; positions ascend.
func (b *batch) add(i int32) {
	ev := &b.chunk.events[i]
	if rev := ev.KV.ModRevision; rev != b.last {
		b.revisions++
		b.last = rev
	}
	if len(b.events) == 0 {
		b.first = b.last
	}
	b.events = append(b.events, i)
	b.cost += eventOverhead + eventPayload(ev)
}

// encode returns what v wants of the events from revision from on.
func (b *batch) encode(v variant, from mvcc.Revision) parts {
	if from > b.first {
		return b.chunk.encode(b.events[b.search(from):], v)
	}
	if p := b.shared[v].Load(); p != nil {
		return *p
	}
	p := b.chunk.encode(b.events, v)
	b.shared[v].Store(&p)
	return p
}

// encodeSome is encode for a batch that is too much for one response: it takes whole revisions up to about limit bytes,
// at least one, and returns the revision to go on from, beyond b.last if none is left.
func (b *batch) encodeSome(v variant, from mvcc.Revision, limit int) (parts, mvcc.Revision) {
	start := b.search(from)
	end := start + b.chunk.wholeRevisions(b.events[start:], limit, responseRevisionsMax)
	next := b.last + 1
	if end < len(b.events) {
		next = b.chunk.events[b.events[end]].KV.ModRevision
	}
	return b.chunk.encode(b.events[start:end], v), next
}

func (b *batch) search(from mvcc.Revision) int {
	return sort.Search(len(b.events), func(i int) bool { return b.chunk.events[b.events[i]].KV.ModRevision >= from })
}

// wholeRevisions is how many of the positions, at least one, make whole revisions of up to about limit bytes, and no more
// revisions than max, or one.
func (c *chunk) wholeRevisions(positions []int32, limit, max int) int {
	cost, revisions := 0, 1
	for n, i := range positions {
		ev := &c.events[i]
		if n > 0 && ev.KV.ModRevision != c.events[positions[n-1]].KV.ModRevision {
			if cost >= limit || revisions >= max {
				return n
			}
			revisions++
		}
		cost += eventPayload(ev) + eventOverhead
	}
	return len(positions)
}
