package watch

import (
	"errors"
	"fmt"
	"sync"

	"keelson/internal/sched"
	"keelson/state/mvcc"
)

// catchUps is the queue of streams with watchers that are behind. Each stream is in it once and gets one batch for one
// watcher at a time; the next one is read when that has been sent. So a stream whose client does not read holds one batch,
// and keeps no reader busy.
type catchUps struct {
	mu      sync.Mutex
	queue   fifo[*Stream]
	readers int
	closed  bool
	streams int // that are catching up: queued, being read for, or sending what was read
}

func (c *catchUps) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.streams -= c.queue.len()
	c.queue = fifo[*Stream]{}
}

// fallIn queues w behind the other watchers that are behind. The caller holds s.mu.
func (s *Stream) fallIn(w *watcher) {
	s.behind.push(w)
	if !s.catchingUp {
		s.catchingUp = true
		s.hub.beginCatchUp(s)
	}
}

// catchUpNext goes on after a batch has been dealt with. The caller holds s.mu.
func (s *Stream) catchUpNext() {
	if s.behind.len() > 0 && !s.closed {
		s.hub.queueCatchUp(s)
		return
	}
	s.catchingUp = false
	s.hub.endCatchUp()
}

func (h *Hub) beginCatchUp(s *Stream) {
	h.catchUps.mu.Lock()
	h.catchUps.streams++
	h.catchUps.mu.Unlock()
	h.queueCatchUp(s)
}

func (h *Hub) endCatchUp() {
	h.catchUps.mu.Lock()
	defer h.catchUps.mu.Unlock()
	h.catchUps.streams--
}

// queueCatchUp lets a reader come to s.
func (h *Hub) queueCatchUp(s *Stream) {
	c := &h.catchUps
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.streams--
		return
	}
	c.queue.push(s)
	if c.readers < h.options.CatchUpReaders {
		c.readers++
		h.spawn(h.readAll)
	}
}

// readAll serves the queue until it is empty.
func (h *Hub) readAll() {
	for {
		s, limit := h.nextCatchUp()
		if s == nil {
			return
		}
		if w := s.nextBehind(); w != nil {
			h.read(w, limit)
		}
	}
}

// nextCatchUp returns a stream to read for, and how many bytes.
func (h *Hub) nextCatchUp() (s *Stream, limit int) {
	c := &h.catchUps
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue.len() == 0 {
		c.readers--
		return nil, 0
	}
	share := h.options.CatchUpBytes / max(c.streams, 1)
	return c.queue.pop(), min(max(share, catchUpShareMin), h.options.ResponseBytes)
}

// nextBehind takes the watcher to read for; nil if there is none any more.
func (s *Stream) nextBehind() *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.behind.len() > 0 {
		if w := s.behind.pop(); w.state != gone {
			return w
		}
	}
	s.catchUpNext()
	return nil
}

// read gets the next batch for w, which is behind, and lets its stream send it. When there is nothing left to read w
// becomes a member of its group, in the same step in which that is found out, so that nothing is lost or repeated.
func (h *Hub) read(w *watcher, limit int) {
	floor := h.history.Compacted()
	if w.next < floor {
		w.stream.compact(w, floor)
		return
	}
	chunks, from, how := h.readRing(w, limit)
	switch how {
	case ringJoined:
		w.stream.prepare(w, encodeChunks(chunks, w, from, floor, h.history.Revision(), limit), true)
	case ringRead:
		w.next = chunks[len(chunks)-1].last + 1
		w.stream.prepare(w, encodeChunks(chunks, w, from, floor, h.history.Revision(), limit), false)
	case ringMissed:
		responses, err := h.readHistory(w, limit)
		switch {
		case errors.Is(err, mvcc.ErrCompacted):
			w.stream.compact(w, h.history.Compacted())
		case err != nil:
			h.fail(fmt.Errorf("catch up watcher from revision %d: %w", w.next, err))
			w.stream.abandon()
		default:
			w.stream.prepare(w, responses, false)
		}
	}
}

type ringReading uint8

const (
	ringMissed ringReading = iota // the ring does not reach back far enough
	ringRead                      // some chunks; there are more
	ringJoined                    // the last chunks, and w is a member from there on
)

// readRing takes chunks from the ring for w, with the events from its position on.
func (h *Hub) readRing(w *watcher, limit int) (chunks []*chunk, from mvcc.Revision, how ringReading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from = w.next
	next := max(from, h.newest.Load()+1)
	if from < next {
		chunks, all, ok := h.ring.since(from, limit)
		if !ok {
			return nil, from, ringMissed
		}
		if !all {
			return chunks, from, ringRead
		}
		if !w.stream.isGone(w) {
			h.join(w, next)
		}
		return chunks, from, ringJoined
	}
	if !w.stream.isGone(w) {
		h.join(w, next)
	}
	return nil, from, ringJoined
}

// isGone reports whether w must not join any more. Who makes it gone later calls Hub.leave after that, which waits for
// hub.mu.
func (s *Stream) isGone(w *watcher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w.state == gone
}

// encodeChunks makes responses of the events that w wants from revision from on. A previous pair that lies below the
// compaction floor is left out, as if it had been read from history.
func encodeChunks(chunks []*chunk, w *watcher, from, floor, header mvcc.Revision, limit int) (responses []Response) {
	var p parts
	var positions []int32
	flush := func() {
		if p.events > 0 {
			responses = append(responses, Response{WatchID: w.id, Revision: header, Events: p.slices, count: p.events})
		}
		p = parts{}
	}
	for _, c := range chunks {
		positions = c.match(positions[:0], w.span, from)
		for len(positions) > 0 {
			n := c.wholeRevisions(positions, limit-p.bytes, responseRevisionsMax-p.revisions)
			v := w.variant
			if c.events[positions[0]].KV.ModRevision <= floor {
				n = c.wholeRevisions(positions, 0, 1)
				v &^= withPrev
			}
			p.join(c.encode(positions[:n], v))
			positions = positions[n:]
			if p.bytes >= limit || p.revisions >= responseRevisionsMax {
				flush()
			}
		}
	}
	flush()
	return responses
}

// readHistory reads what w wants next from the history, at most about limit bytes, and moves w behind it.
func (h *Hub) readHistory(w *watcher, limit int) ([]Response, error) {
	batch := sched.Begin()
	defer batch.End()
	current := h.history.Revision()
	lower, upper := w.span.bounds()
	var buf []byte
	count, revisions := 0, 0
	var last mvcc.Revision
	next, err := h.history.Changes(w.next, current, lower, upper, limit, func(ev *mvcc.Event) error {
		if rev := ev.KV.ModRevision; rev != last {
			if revisions == responseRevisionsMax {
				last = rev
				return errEnough
			}
			last = rev
			revisions++
		}
		if !w.variant.drops(ev.Kind) {
			buf = appendEvent(buf, ev, w.variant&withPrev != 0)
			count++
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		next, err = last, nil
	}
	if err != nil {
		return nil, err
	}
	if next <= w.next {
		panic(fmt.Sprintf("watch: history from %d to %d goes on at %d", w.next, current, next))
	}
	w.next = next
	if count == 0 {
		return nil, nil
	}
	return []Response{{WatchID: w.id, Revision: current, Events: [][]byte{buf}, count: count}}, nil
}

// errEnough ends a reading of history that has as many revisions as fit into a response.
var errEnough = errors.New("enough")

// prepare queues what was read for w.
func (s *Stream) prepare(w *watcher, responses []Response, final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(responses) > 0 && !s.closed {
		s.prepared = &prepared{watcher: w, responses: responses, final: final}
	} else {
		s.bookCatchUp(w, final)
	}
	s.startDraining()
}

// abandon leaves the watcher last read for as it is.
func (s *Stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUpNext()
}

// compact cancels w, whose next revision is below the compaction floor. It keeps its id until the client cancels it.
func (s *Stream) compact(w *watcher, floor mvcc.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state != gone {
		w.state = compacted
		s.hub.slow.Add(-1)
		s.control.push(control{response: Response{WatchID: w.id, Canceled: true, CompactRevision: floor}})
	}
	s.catchUpNext()
	s.startDraining()
}
