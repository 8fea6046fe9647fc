package watch

import (
	"fmt"
	"sync"
	"sync/atomic"

	"keelson/internal/fault"
	"keelson/state/mvcc"
)

// Hub hands the events of one member to its watchers.
type Hub struct {
	history History
	options Options

	inbox inbox

	// mu guards what the dispatching task changes: index, ring, streams, and the memberships of groups.
	mu      sync.Mutex
	index   *index
	ring    ring
	streams map[*Stream]struct{}
	closed  bool
	touched []*group // room for dispatch
	waiting []awaiting

	// newest is the last revision dispatched: every watcher that it concerns has been told. Written under mu.
	newest atomic.Int64

	catchUps catchUps
	ticks    ticks
	tasks    sync.WaitGroup
	failed   sync.Once

	watchers, slow, events atomic.Int64
}

// awaiting is a stream that waits until a revision has been dispatched.
type awaiting struct {
	stream   *Stream
	revision mvcc.Revision
}

// NewHub makes a hub for what comes after the newest revision of h.
func NewHub(h History, o Options) *Hub {
	o = o.withDefaults()
	hub := &Hub{history: h, options: o, index: newIndex(), streams: make(map[*Stream]struct{})}
	newest := h.Revision()
	hub.newest.Store(newest)
	hub.ring = ring{limit: o.RingBytes, from: newest + 1}
	hub.inbox.newest = newest
	hub.ticks.hub = hub
	return hub
}

// Stats is what a hub holds.
type Stats struct {
	RingBytes  int
	RingFrom   mvcc.Revision // watchers from here on need not read history
	InboxBytes int           // published, not dispatched yet
	CatchUps   int           // streams with watchers that read history
	Groups     int           // of watchers of the same range
}

// Stats tells what there is at about this moment.
func (h *Hub) Stats() Stats {
	s := Stats{InboxBytes: h.inbox.size()}
	h.mu.Lock()
	s.RingBytes, s.RingFrom, s.Groups = h.ring.bytes, h.ring.from, h.index.len()
	h.mu.Unlock()
	h.catchUps.mu.Lock()
	s.CatchUps = h.catchUps.streams
	h.catchUps.mu.Unlock()
	return s
}

// Publish tells of the events up to rev, the newest published revision of the history: all events since the last call, in
// order, in whole revisions. It keeps the events, which must not change any more.
//
// It waits for no watcher. When the dispatching task lags by as many bytes as the ring holds, Publish takes over from it
// until half of that is left: that takes processor time, but no client can prolong it.
func (h *Hub) Publish(events []mvcc.Event, rev mvcc.Revision) { h.publish(events, rev, false) }

// PublishLight is Publish of events that lack previous pairs, because there were too many to be held: those whom they concern
// read them from history.
func (h *Hub) PublishLight(events []mvcc.Event, rev mvcc.Revision) { h.publish(events, rev, true) }

func (h *Hub) publish(events []mvcc.Event, rev mvcc.Revision, light bool) {
	if len(events) == 0 {
		return
	}
	c := newChunk(events, rev)
	c.light = light
	start, bytes := h.inbox.put(c)
	if start {
		h.startDispatching()
	}
	if bytes > h.options.RingBytes {
		h.help(h.options.RingBytes / 2)
	}
}

// Reset tells that the state was replaced as a whole, by a snapshot, and is now at rev: watchers catch up from history
// with what they missed, those with a start revision beyond rev go on waiting for it.
func (h *Hub) Reset(rev mvcc.Revision) {
	if h.inbox.reset(rev) {
		h.startDispatching()
	}
}

// Review asks anew who may watch what (Request.Permit), and ends the watchers that may not: of what is published after it
// returns they are told nothing. It waits for no client.
func (h *Hub) Review() {
	h.mu.Lock()
	streams := h.openStreams()
	h.mu.Unlock()
	for _, s := range streams {
		s.review()
	}
}

// openStreams lists the streams. The caller holds h.mu.
func (h *Hub) openStreams() []*Stream {
	streams := make([]*Stream, 0, len(h.streams))
	for s := range h.streams {
		streams = append(streams, s)
	}
	return streams
}

// Close closes all streams, and returns when all goroutines of the hub have ended; the senders must return for that.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	streams := h.openStreams()
	h.mu.Unlock()
	for _, s := range streams {
		s.Close()
	}
	h.inbox.close()
	h.catchUps.close()
	h.ticks.close()
	h.tasks.Wait()
}

// spawn starts a task that ends by itself.
func (h *Hub) spawn(task func()) {
	h.tasks.Add(1)
	if h.options.Spawn != nil {
		h.options.Spawn(func() { h.perform(task) })
		return
	}
	go h.perform(task)
}

func (h *Hub) perform(task func()) {
	defer h.tasks.Done()
	task()
}

// startDispatching is called when something was put into the inbox and nobody is dispatching.
func (h *Hub) startDispatching() {
	// With nobody to tell, which is the usual case on a member without watchers, there is no need for another goroutine.
	if h.watchers.Load() == 0 && h.mu.TryLock() {
		done := h.dispatchNext()
		h.mu.Unlock()
		if done {
			return
		}
	}
	h.spawn(h.dispatchAll)
}

func (h *Hub) dispatchAll() {
	for done := false; !done; {
		// The lock is given up between chunks, for Create and Cancel.
		h.mu.Lock()
		done = h.dispatchNext()
		h.mu.Unlock()
	}
}

// help dispatches until no more than so many bytes are left in the inbox.
func (h *Hub) help(leaveBytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.inbox.size() > leaveBytes {
		h.dispatchNext()
	}
}

// dispatchNext dispatches one item of the inbox; done reports that the inbox is empty and will start dispatching anew. The
// caller holds h.mu.
func (h *Hub) dispatchNext() (done bool) {
	c, lost, done := h.inbox.take()
	if lost > 0 {
		h.lose(lost)
	}
	if c != nil {
		h.dispatch(c)
	}
	h.wakeAwaiting()
	return done
}

// dispatch finds out whom c concerns and wakes them.
func (h *Hub) dispatch(c *chunk) {
	h.touched = h.touched[:0]
	for i := range c.events {
		h.index.each(c.events[i].KV.Key, func(g *group) {
			if g.open == nil {
				g.open = newBatch(c, g)
				h.touched = append(h.touched, g)
			}
			if !c.light {
				g.open.add(int32(i))
			}
		})
	}
	if c.light {
		h.ring.clear(c.last + 1)
	}
	for _, g := range h.touched {
		b := g.open
		g.open = nil
		if c.light {
			h.wake(g, g.lose(c.first, c.last))
			continue
		}
		c.batches = append(c.batches, b)
		h.wake(g, g.append(b))
	}
	clear(h.touched)
	if !c.light {
		h.ring.add(c)
	}
	h.newest.Store(c.last)
}

// lose marks the revisions after the newest, up to last, as to be read from history.
func (h *Hub) lose(last mvcc.Revision) {
	first := h.newest.Load() + 1
	h.ring.clear(last + 1)
	if !fault.Mutant("forget-what-was-lost") {
		h.index.all(func(g *group) { h.wake(g, g.lose(first, last)) })
	}
	h.newest.Store(last)
}

func (h *Hub) wake(g *group, woken []*watcher) {
	for _, w := range woken {
		w.stream.wake(w)
	}
	g.recycle(woken)
}

// join makes w a member of the group of its span. The caller holds h.mu.
func (h *Hub) join(w *watcher, next mvcc.Revision) {
	g := h.index.find(w.span)
	if g == nil {
		g = &group{span: w.span}
		h.index.insert(g)
	}
	w.span = g.span // shares the memory of the bounds
	g.join(w, next)
}

// leave undoes join, if w joined.
func (h *Hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quit(w)
}

// quit is leave for a caller who holds h.mu.
func (h *Hub) quit(w *watcher) {
	if !w.joined {
		return
	}
	w.group.leave(w)
	if w.group.members == 0 {
		h.index.remove(w.group)
	}
}

// dispatched is the newest revision whose events are in the ready queues of all streams concerned, or have left them.
func (h *Hub) dispatched() mvcc.Revision { return h.newest.Load() }

// await wakes s when rev has been dispatched.
func (h *Hub) await(s *Stream, rev mvcc.Revision) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = append(h.waiting, awaiting{s, rev})
	h.wakeAwaiting()
}

func (h *Hub) wakeAwaiting() {
	if len(h.waiting) == 0 {
		return
	}
	newest := h.newest.Load()
	kept := h.waiting[:0]
	for _, a := range h.waiting {
		if a.revision > newest && !h.closed {
			kept = append(kept, a)
			continue
		}
		a.stream.wakeAwaiting()
	}
	clear(h.waiting[len(kept):])
	h.waiting = kept
}

// fail reports a failure of history, which the member cannot survive.
func (h *Hub) fail(err error) {
	h.failed.Do(func() { h.options.Failed(fmt.Errorf("watch: %w", err)) })
}
