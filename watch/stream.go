package watch

import (
	"cmp"
	"slices"
	"sync"

	"keelson/internal/fault"
	"keelson/state/mvcc"
)

// Stream is one client's watchers and the queue of what they send. While there is nothing to send it costs no goroutine.
type Stream struct {
	hub    *Hub
	sender Sender

	closing sync.Once // of Close

	mu       sync.Mutex
	changed  sync.Cond // control got shorter, draining ended, or the stream closed
	closed   bool
	watchers map[int64]*watcher
	nextID   int64
	// progressing are those of the watchers that asked for progress notifications, oldest first.
	progressing []*watcher

	// What there is to send; Stream.next says in which order.
	control  fifo[control]
	ready    fifo[*watcher] // woken, not held
	inHand   *watcher       // whose events are being sent; nil: none
	prepared *prepared      // the next batch of a watcher that is behind
	turn     bool           // it is the turn of the ready, not of prepared
	sent     mvcc.Revision  // newest revision in a header of events or of progress
	draining bool           // a goroutine (or task) sends
	awaiting bool           // the hub will wake the stream when it has dispatched what the control's front waits for

	// behind are the announced watchers that catch up, except the one that is being read for. catchingUp: the stream is in
	// the hub's queue for that, or being read for, or has a batch prepared or under way.
	behind     fifo[*watcher]
	catchingUp bool

	tick tick // guarded by ticks.mu
}

// control is a reply that keeps its place among the others.
type control struct {
	response Response
	// announces, if set, is the watcher that may send events from here on.
	announces *watcher
	// progress: the response is stream-wide progress, and waits for the events up to its revision. armed: all of those
	// have been dispatched, and what is ready before number barrier leaves first. void: a watcher fell behind meanwhile,
	// nothing is to be sent.
	// notification: it is progress of one watcher, and was true when it was queued.
	progress, armed, void, notification bool
	barrier                             uint64
}

// prepared is what was read for a watcher that is behind.
type prepared struct {
	watcher   *watcher
	responses []Response
	// final: with this it has caught up.
	final bool
}

// NewStream opens a stream whose responses go to sender. The caller must Close it.
func (h *Hub) NewStream(sender Sender) *Stream {
	s := &Stream{hub: h, sender: sender, watchers: make(map[int64]*watcher)}
	s.changed.L = &s.mu
	s.tick.stream = s
	s.tick.place = -1
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed = h.closed; !s.closed {
		h.streams[s] = struct{}{}
	}
	return s
}

// Create adds a watcher and replies Created, or replies Created and Canceled with the reason for refusing. The reply's
// revision is the newest one; without Start the watcher gets what comes after it. Create waits while too many replies
// of the stream are unsent. On a closed stream nothing happens.
//
// Source: etcd v3 API, Watch, create_request.
func (s *Stream) Create(r Request) {
	span, reason := r.span()
	w := &watcher{
		stream: s, span: span, variant: r.variant(), progress: r.ProgressNotify, fragment: r.Fragment, asked: r.Start,
		parkedAt: -1, held: true, permit: r.Permit,
	}
	if !s.awaitRoom() {
		return
	}
	h := s.hub
	h.mu.Lock()
	current := h.history.Revision()
	entered, isLive := s.enter(w, r.WatchID, reason, current)
	if isLive {
		h.join(w, w.next)
	}
	h.mu.Unlock()
	if entered && w.progress {
		h.ticks.add(s)
	}
}

// enter replies to a create request made at revision current, and registers the watcher unless it is refused.
func (s *Stream) enter(w *watcher, id int64, reason string, current mvcc.Revision) (entered, isLive bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, false
	}
	defer s.startDraining()
	if reason == "" {
		reason = w.forbidden() // a review may have come and gone since it was asked for
	}
	if reason == "" && id != 0 && s.watchers[id] != nil {
		reason = ReasonDuplicateID
	}
	if reason != "" {
		s.control.push(control{response: Response{
			WatchID: NoWatcher, Revision: current, Created: true, Canceled: true, CancelReason: reason,
		}})
		return false, false
	}
	w.id = s.pickID(id)
	s.watchers[w.id] = w
	s.hub.watchers.Add(1)
	if w.progress {
		s.progressing = append(s.progressing, w)
	}
	switch {
	case w.asked == 0, w.asked > current && fault.Mutant("begin-before-the-future"):
		w.next, w.state = current+1, live
	case w.asked > current:
		w.next, w.state = w.asked, live
	default:
		w.next, w.state = w.asked, behind
		s.hub.slow.Add(1)
	}
	s.control.push(control{response: Response{WatchID: w.id, Revision: current, Created: true}, announces: w})
	return true, w.state == live
}

func (s *Stream) pickID(wanted int64) int64 {
	if wanted != 0 {
		return wanted
	}
	for s.watchers[s.nextID] != nil {
		s.nextID++
	}
	s.nextID++
	return s.nextID - 1
}

// Cancel ends a watcher and replies Canceled; nothing of it is sent after that. An unknown id gets no reply.
//
// Source: etcd v3 API, Watch, cancel_request.
func (s *Stream) Cancel(id int64) {
	if !s.awaitRoom() {
		return
	}
	w := s.cancel(id)
	if w == nil {
		return
	}
	s.hub.leave(w)
}

func (s *Stream) cancel(id int64) *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watchers[id]
	if w == nil {
		return nil
	}
	s.end(w, "")
	return w
}

// end drops w and replies Canceled, for a reason if it is not the client's wish. The caller holds s.mu.
func (s *Stream) end(w *watcher, reason string) {
	s.drop(w)
	if w.progress {
		s.progressing = slices.DeleteFunc(s.progressing, func(o *watcher) bool { return o == w })
		if len(s.progressing) == 0 {
			s.progressing = nil
			s.hub.ticks.remove(s)
		}
	}
	s.control.push(control{response: Response{WatchID: w.id, Revision: s.hub.history.Revision(), Canceled: true, CancelReason: reason}})
	s.startDraining()
}

// review ends the watchers that are not permitted any more.
func (s *Stream) review() {
	for _, w := range s.endForbidden() {
		s.hub.leave(w)
	}
}

func (s *Stream) endForbidden() (ended []*watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reasons := map[*watcher]string{}
	for _, w := range s.watchers {
		if reason := w.forbidden(); reason != "" {
			reasons[w] = reason
			ended = append(ended, w)
		}
	}
	slices.SortFunc(ended, func(a, b *watcher) int { return cmp.Compare(a.id, b.id) })
	for _, w := range ended {
		s.end(w, reasons[w])
	}
	return ended
}

// drop ends w as far as the stream is concerned.
func (s *Stream) drop(w *watcher) {
	delete(s.watchers, w.id)
	s.hub.watchers.Add(-1)
	if w.state == behind {
		s.hub.slow.Add(-1)
	}
	w.state = gone
}

// Progress replies with the newest revision when everything up to it has been sent, unless some watcher of the stream is
// behind, cancelled for compaction or waiting for a start revision that is yet to come, or there is none: then there is
// no reply. The reply does not speak for watchers that are created or cancelled after the request.
//
// Source: etcd v3 API, Watch, progress_request.
func (s *Stream) Progress() {
	current := s.hub.history.Revision()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.watchers) == 0 || s.control.len() >= s.hub.options.StreamQueueLen {
		return
	}
	for _, w := range s.watchers {
		if w.state != live || w.awaitsStart(current) {
			return
		}
	}
	s.control.push(control{response: Response{WatchID: NoWatcher, Revision: current}, progress: true})
	s.startDraining()
}

// Close ends all watchers. No response is handed to the sender any more, but one may be under way: see Wait. Whoever calls it,
// also while somebody else does, finds the stream gone from the hub when it returns.
func (s *Stream) Close() { s.closing.Do(s.leave) }

// leave takes the stream out of the hub.
func (s *Stream) leave() {
	ended, ok := s.close()
	if !ok {
		return
	}
	h := s.hub
	h.ticks.remove(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, s)
	for _, w := range ended {
		h.quit(w)
	}
}

func (s *Stream) close() (ended []*watcher, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	s.closed = true
	for _, w := range s.watchers {
		ended = append(ended, w)
		s.drop(w)
	}
	s.control, s.ready, s.behind = fifo[control]{}, fifo[*watcher]{}, fifo[*watcher]{}
	s.progressing = nil
	if s.prepared != nil {
		s.prepared = nil
		s.catchUpNext()
	}
	s.changed.Broadcast()
	return ended, true
}

// Wait returns when the stream is closed and the sender has been left.
func (s *Stream) Wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed || s.draining {
		s.changed.Wait()
	}
}

// awaitRoom waits until another reply may be queued; ok is false if the stream closed.
func (s *Stream) awaitRoom() (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && s.control.len() >= s.hub.options.StreamQueueLen {
		s.changed.Wait()
	}
	return !s.closed
}

// wake tells that the group of w has a batch for it.
func (s *Stream) wake(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state == gone {
		return
	}
	w.pending++
	if w.held {
		w.waiting = true
		return
	}
	s.ready.push(w)
	s.startDraining()
}

// release lets w send, now that what had to precede its events has left.
func (s *Stream) release(w *watcher) {
	w.held = false
	if w.waiting {
		w.waiting = false
		s.ready.push(w)
	}
}

// wakeAwaiting tells that the hub has dispatched what the stream awaited.
func (s *Stream) wakeAwaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaiting = false
	s.startDraining()
}

// startDraining makes sure that what is queued gets sent. The caller holds s.mu.
func (s *Stream) startDraining() {
	if s.draining || s.closed {
		return
	}
	s.draining = true
	s.hub.spawn(s.drain)
}
