package watch

import "slices"

// Streams is the number of open streams.
func (h *Hub) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// Watchers is the number of watchers, those included that were cancelled for compaction and that their client has not
// cancelled yet.
func (h *Hub) Watchers() int { return int(h.watchers.Load()) }

// SlowWatchers is the number of watchers that are catching up.
func (h *Hub) SlowWatchers() int { return int(h.slow.Load()) }

// EventsSent is the number of events handed to senders so far.
func (h *Hub) EventsSent() int64 { return h.events.Load() }

// PendingEvents is the number of events that wait in memory for a sender: of watchers that are live, filters not considered, and
// of prepared batches. For a watcher that the ring has outrun, and that has not come to notice yet, more wait on disk. It looks
// at every stream that has something to send.
func (h *Hub) PendingEvents() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		n += s.pendingEvents()
	}
	return n
}

func (s *Stream) pendingEvents() (n int) {
	s.mu.Lock()
	ready := append([]*watcher(nil), s.ready.rest()...)
	if s.inHand != nil && !slices.Contains(ready, s.inHand) {
		ready = append(ready, s.inHand)
	}
	if s.prepared != nil {
		for i := range s.prepared.responses {
			n += s.prepared.responses[i].count
		}
	}
	s.mu.Unlock()
	for _, w := range ready {
		n += w.group.pendingEvents(w)
	}
	return n
}

func (g *group) pendingEvents(w *watcher) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !w.joined || w.parkedAt >= 0 {
		return 0
	}
	for _, b := range g.log[max(w.number, g.first)-g.first:] {
		n += len(b.events)
	}
	return n
}
