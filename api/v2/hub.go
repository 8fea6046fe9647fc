package v2

import (
	"strings"
	"sync"
	"sync/atomic"

	"keelson/state"
	"keelson/state/tree"
)

// Source is where a Hub finds the state.
type Source interface{ View() *state.View }

// Hub hands the events of the tree to those who wait for them. It is fed by Publish, in order.
//
// Waits are found by path, in a tree of spots with a spot for every component that is waited at or below. A spot knows
// whether there is a node at its path, because a removed directory concerns exactly those who wait at what was in it.
//
// Everything is under one lock, which Publish holds for as long as it takes to find whom its events concern.
type Hub struct {
	source Source

	mu        sync.Mutex
	published uint64 // index up to which events have been handed out
	root      *spot
	closed    bool
	counts    Counts
	gets      struct{ done, refused atomic.Uint64 }
	parked    sync.WaitGroup // polls that nobody's goroutine waits for
}

// Counts are what /v2/stats/store shows, and how many waits there have been.
type Counts struct {
	state.TreeCounts
	GetsDone, GetsRefused uint64
	Waiting               uint64 // at the moment
	Waits                 uint64
}

// NewHub makes a hub for the state in source, as it is now. Nothing may be applied before Publish is told.
func NewHub(source Source) *Hub {
	h := &Hub{source: source, root: &spot{}}
	h.published = h.index()
	return h
}

func (h *Hub) index() uint64 {
	view := h.source.View()
	defer view.Close()
	return view.TreeState().Index
}

// spot is a component of a path that somebody waits at, or below.
type spot struct {
	parent   *spot
	name     string
	children map[string]*spot
	first    *waiter // of a list
	// exists tells whether there is a node here as of Hub.published, if known. It is known where somebody waits.
	exists, known bool
}

// waiter is one wait. Its fields belong to the hub's lock unless they say otherwise.
type waiter struct {
	at         *spot // nil: not registered any more
	prev, next *waiter
	recursive  bool
	stream     bool
	since      uint64 // the lowest index that counts
	limit      int    // of a stream: how many events may be in the queue

	queue []*tree.Event
	ended ending
	ready chan struct{} // capacity 1: something has changed; anybody's
	// notify, if set, is called once instead, in a goroutine of its own.
	notify func()
}

// ending says why a waiter is not registered any more.
type ending uint8

const (
	notEnded ending = iota
	endedServed
	endedSlow   // a stream that does not read
	endedReset  // the state was replaced: register again
	endedClosed // the hub is
)

// streamQueueMax is how many events a stream may be behind before it is ended.
const streamQueueMax = 100

// Publish hands out events, in order, and takes note of the index that they lead to.
func (h *Hub) Publish(out *state.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.add(&out.Counts.Tree)
	for _, e := range out.Tree {
		h.dispatch(e)
	}
	h.published = out.TreeIndex
}

func (c *Counts) add(n *state.TreeCounts) {
	for _, p := range [...]struct{ sum, more *state.TreeCount }{
		{&c.Set, &n.Set}, {&c.Create, &n.Create}, {&c.Update, &n.Update}, {&c.CompareAndSwap, &n.CompareAndSwap},
		{&c.Delete, &n.Delete}, {&c.CompareAndDelete, &n.CompareAndDelete},
	} {
		p.sum.Done += p.more.Done
		p.sum.Refused += p.more.Refused
	}
	c.Expired += n.Expired
}

// noteGet counts a read.
func (h *Hub) noteGet(done bool) {
	if done {
		h.gets.done.Add(1)
	} else {
		h.gets.refused.Add(1)
	}
}

// Counts tells what was counted so far. What was applied counts as this member has applied it.
func (h *Hub) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.counts
	c.GetsDone, c.GetsRefused = h.gets.done.Load(), h.gets.refused.Load()
	return c
}

// Reset ends all waits: the state was replaced by another one, of which not every event was published. They register
// again, and find in the window what they have missed.
func (h *Hub) Reset() {
	index := h.index()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.published = index
	h.root.endAll(h, endedReset)
	h.root = &spot{}
}

// Close ends all waits, those that come later too, and waits until parked polls have been told.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.root.endAll(h, endedClosed)
	h.root = &spot{}
	h.mu.Unlock()
	h.parked.Wait()
}

func (s *spot) endAll(h *Hub, why ending) {
	for s.first != nil {
		w := s.first
		s.drop(w)
		h.counts.Waiting--
		w.end(why)
	}
	for _, child := range s.children {
		child.endAll(h, why)
	}
}

// dispatch hands out one event.
//
// Source: v2 API specification, 9.3.
func (h *Hub) dispatch(e *tree.Event) {
	path := e.Node.Path
	at, rest := h.root, path[1:]
	for {
		if !e.Refresh && !hiddenBelow(rest) {
			at.serve(h, e, true)
		}
		name, tail, more := strings.Cut(rest, "/")
		child := at.children[name]
		if !e.Action.Removes() {
			at.exists, at.known = true, true
		}
		if child == nil {
			at.prune()
			return
		}
		at, rest = child, tail
		if !more {
			break
		}
	}
	at.exists, at.known = !e.Action.Removes(), true
	if !e.Refresh {
		at.serve(h, e, false)
	}
	if e.Action.Removes() && e.Node.Dir {
		for _, child := range at.children {
			child.serveRemoved(h, e)
		}
	}
	at.prune()
}

// hiddenBelow reports whether any component of what follows on a path is hidden.
func hiddenBelow(rest string) bool {
	return strings.HasPrefix(rest, "_") || strings.Contains(rest, "/_")
}

// serve gives an event to those who wait here, or only to those who wait for everything below.
func (s *spot) serve(h *Hub, e *tree.Event, recursiveOnly bool) {
	for w := s.first; w != nil; {
		next := w.next
		if w.recursive || !recursiveOnly {
			h.deliver(w, e)
		}
		w = next
	}
}

// serveRemoved tells those who wait at what was in a removed directory.
func (s *spot) serveRemoved(h *Hub, e *tree.Event) {
	if s.exists {
		s.serve(h, e, false)
	}
	s.exists, s.known = false, true
	for _, child := range s.children {
		child.serveRemoved(h, e)
	}
	s.prune()
}

func (h *Hub) deliver(w *waiter, e *tree.Event) {
	if e.Index() < w.since {
		return
	}
	w.queue = append(w.queue, e)
	switch {
	case !w.stream:
		h.retire(w, endedServed)
	case len(w.queue) > w.limit:
		h.retire(w, endedSlow)
	default:
		w.wake()
	}
}

// retire ends a registered waiter.
func (h *Hub) retire(w *waiter, why ending) {
	w.at.drop(w)
	h.counts.Waiting--
	w.end(why)
}

func (w *waiter) end(why ending) {
	w.ended = why
	w.wake()
}

func (w *waiter) wake() {
	if f := w.notify; f != nil {
		w.notify = nil
		go f()
		return
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// place returns the spot of a path, made if need be.
func (s *spot) place(path string) *spot {
	if path == tree.Root {
		return s
	}
	for name := range strings.SplitSeq(path[1:], "/") {
		child := s.children[name]
		if child == nil {
			child = &spot{parent: s, name: strings.Clone(name)}
			if s.children == nil {
				s.children = map[string]*spot{}
			}
			s.children[child.name] = child
		}
		s = child
	}
	return s
}

func (s *spot) hold(w *waiter) {
	w.at, w.next = s, s.first
	if w.next != nil {
		w.next.prev = w
	}
	s.first = w
}

// drop takes a waiter out of its list.
func (s *spot) drop(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		s.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.at, w.prev, w.next = nil, nil, nil
}

// prune removes spots that nobody waits at or below, from here up.
func (s *spot) prune() {
	for s.parent != nil && s.first == nil && len(s.children) == 0 {
		delete(s.parent.children, s.name)
		s = s.parent
	}
}

// leave ends a wait that nobody is interested in any more.
func (h *Hub) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := w.at; at != nil {
		h.retire(w, endedServed)
		at.prune()
	}
}

// park has f called, once, when something has come for a waiter or it has ended; at once if that is so already.
func (h *Hub) park(w *waiter, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.notify = f
	if !h.closed { // Close waits only for those that were there before
		h.parked.Add(1)
		w.notify = func() {
			defer h.parked.Done()
			f()
		}
	}
	if w.ended != notEnded || len(w.queue) > 0 {
		w.wake()
	}
}

// takeServed is take if a wait has ended; otherwise ended is false.
func (h *Hub) takeServed(w *waiter) (events []*tree.Event, ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.ended == notEnded {
		return nil, false
	}
	return w.queue, true
}

// take returns what has come for a waiter.
func (h *Hub) take(w *waiter) ([]*tree.Event, ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := w.queue
	w.queue = nil
	return events, w.ended
}

// await registers a wait for events at path from an index on (0: from now on), which may be past. The events of the past
// that count are in its queue at once: one or, for a stream, all. The index is that of the tree at registration. An
// index before the window is refused.
//
// Source: v2 API specification, 9.2 and 9.4.
func (h *Hub) await(path string, recursive, stream bool, from uint64) (w *waiter, index uint64, refusal *tree.Error, err error) {
	w = &waiter{recursive: recursive, stream: stream, ready: make(chan struct{}, 1)}
	for next, locked := from, false; ; {
		s, refusal, err := h.look(w, path, next, from != 0)
		if err != nil || refusal != nil {
			if locked {
				h.mu.Unlock()
			}
			return nil, 0, refusal, err
		}
		if !locked {
			h.mu.Lock()
		}
		if s.index < h.published && !locked { // something came meanwhile: look again, and let nothing more come
			locked = true
			next = max(from, s.index+1)
			continue
		}
		w.since = max(from, s.index+1)
		h.register(w, path, s.exists)
		h.mu.Unlock()
		return w, s.index, nil, nil
	}
}

// sight is what a look at the state has shown.
type sight struct {
	index  uint64
	exists bool
}

// look puts into the queue of a waiter the events of the past that count for it, if history is asked for.
func (h *Hub) look(w *waiter, path string, from uint64, history bool) (s sight, refusal *tree.Error, err error) {
	view := h.source.View()
	defer view.Close()
	t, err := view.Tree()
	if err != nil {
		return s, nil, err
	}
	defer t.Close()
	s.index = t.Position().Index
	if history && from <= s.index && (w.stream || len(w.queue) == 0) {
		refusal, err = t.Events(from, func(e *tree.Event) bool {
			if matchesPast(e, path, w.recursive) {
				w.queue = append(w.queue, e)
			}
			return w.stream || len(w.queue) == 0
		})
		if refusal != nil || err != nil {
			return s, refusal, err
		}
	}
	s.exists, err = t.Exists(path)
	return s, nil, err
}

// matchesPast reports whether an event of the past counts for a wait at path: other than those that come later, also if it
// is hidden, and a removed directory counts for every path below it.
func matchesPast(e *tree.Event, path string, recursive bool) bool {
	switch {
	case e.Refresh:
		return false
	case e.Node.Path == path, recursive && tree.Covers(path, e.Node.Path):
		return true
	}
	return e.Action.Removes() && e.Node.Dir && tree.Covers(e.Node.Path, path)
}

// register lets a waiter wait, unless it has what it wants.
func (h *Hub) register(w *waiter, path string, exists bool) {
	h.counts.Waits++
	switch {
	case h.closed:
		w.end(endedClosed)
		return
	case !w.stream && len(w.queue) > 0:
		w.end(endedServed)
		return
	}
	at := h.root.place(path)
	if !at.known {
		at.exists, at.known = exists, true
	}
	w.limit = len(w.queue) + streamQueueMax
	at.hold(w)
	h.counts.Waiting++
	if len(w.queue) > 0 {
		w.wake()
	}
}
