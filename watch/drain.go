package watch

import (
	"math"
	"sync"

	"keelson/internal/fault"
	"keelson/state/mvcc"
)

// job is what the draining goroutine does next.
type job struct {
	kind     jobKind
	response Response      // reply
	revision mvcc.Revision // await; deliver: nothing after it
	watcher  *watcher      // deliver
	prepared *prepared     // catchUp

	// What became of it, filled in while it is done.
	how  taking        // deliver
	sent mvcc.Revision // newest revision in a header of events; 0: no events sent
}

type jobKind uint8

const (
	idle    jobKind = iota
	reply           // send a control reply
	await           // ask the hub to tell when it has dispatched a revision
	deliver         // send what a ready watcher has
	catchUp         // send what was prepared
)

// drainage is the room that draining needs, lent to it by a pool.
type drainage struct {
	job     job
	batches []*batch
}

var drainages = sync.Pool{New: func() any { return &drainage{batches: make([]*batch, 0, 8)} }}

// drain sends until nothing is left.
func (s *Stream) drain() {
	d := drainages.Get().(*drainage)
	for s.next(&d.job); d.job.kind != idle; s.next(&d.job) {
		if err := s.do(d); err != nil {
			s.Close()
		}
	}
	drainages.Put(d)
}

func (s *Stream) do(d *drainage) (err error) {
	j := &d.job
	switch j.kind {
	case reply:
		return s.sender.Send(&j.response)
	case await:
		s.hub.await(s, j.revision)
	case deliver:
		return s.deliver(d)
	case catchUp:
		for i := range j.prepared.responses {
			r := &j.prepared.responses[i]
			j.sent = r.Revision
			if err := s.send(j.watcher, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// next books the job done and replaces it by the next one: control replies first, in order; then the batch of a watcher that is
// behind and a ready watcher by turns. A progress reply that still waits for events keeps the replies behind it waiting too.
func (s *Stream) next(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book(j)
	s.inHand = nil
	for !s.closed {
		if *j = s.nextReply(); j.kind != idle {
			return
		}
		if s.prepared == nil && s.ready.len() == 0 {
			break
		}
		if *j = s.nextEvents(); j.kind != idle {
			if j.kind == deliver {
				s.inHand = j.watcher
			}
			return
		}
	}
	*j = job{}
	s.draining = false
	s.changed.Broadcast()
}

// nextReply takes the control reply that is due, if any.
func (s *Stream) nextReply() job {
	for s.control.len() > 0 {
		c := s.control.front()
		if c.progress && !c.void && !fault.Mutant("progress-overtakes-events") {
			if need := max(c.response.Revision, s.sent); !c.armed && s.hub.dispatched() < need {
				if s.awaiting {
					return job{}
				}
				s.awaiting = true
				return job{kind: await, revision: need}
			}
			if !s.progressIsDue(c) {
				return job{}
			}
		}
		sent := s.control.pop()
		s.changed.Broadcast()
		if sent.announces != nil {
			s.announce(sent.announces)
		}
		if sent.void || (sent.progress || sent.notification) && !s.advances(sent.response.Revision) {
			continue
		}
		return job{kind: reply, response: sent.response}
	}
	return job{}
}

// advances reports whether progress up to rev may still be told: not after events or progress beyond it, because a client
// that comes back later asks for what follows the last revision it was told. It is dropped then, as if a watcher had been
// behind. What may be told is taken as sent.
func (s *Stream) advances(rev mvcc.Revision) bool {
	if rev < s.sent {
		return false
	}
	s.sent = rev
	return true
}

// progressIsDue reports whether everything up to the revision of c, which the hub has dispatched, has been sent. When
// nothing at all is left to send, that revision is raised to the newest dispatched.
func (s *Stream) progressIsDue(c *control) bool {
	// The order matters: what was dispatched up to this revision is in the ready queue by the time that is looked at.
	dispatched := s.hub.dispatched()
	if s.ready.len() == 0 {
		c.response.Revision = max(c.response.Revision, dispatched)
		return true
	}
	if !c.armed {
		c.armed = true
		c.response.Revision = dispatched
		c.barrier = s.ready.tail()
	}
	return s.ready.taken >= c.barrier
}

func (s *Stream) announce(w *watcher) {
	switch w.state {
	case live:
		s.release(w)
	case behind:
		s.fallIn(w)
	}
}

// nextEvents takes something from the prepared batch or the ready queue, one of which is not empty.
func (s *Stream) nextEvents() job {
	if s.prepared != nil && !(s.turn && s.ready.len() > 0) {
		p := s.prepared
		s.prepared = nil
		s.turn = true
		if p.watcher.state == gone {
			s.catchUpNext()
			return job{}
		}
		return job{kind: catchUp, watcher: p.watcher, prepared: p}
	}
	s.turn = false
	w := s.ready.pop()
	if w.state == gone {
		return job{}
	}
	return job{kind: deliver, watcher: w, revision: s.through()}
}

// through is the revision after which nothing may be sent for now, because a progress reply up to it is waiting: it comes
// soon, however much happens, and does not lead the client back.
func (s *Stream) through() mvcc.Revision {
	if s.control.len() > 0 {
		if c := s.control.front(); c.armed && !c.void {
			return c.response.Revision
		}
	}
	return math.MaxInt64
}

// book takes note of what a job has led to.
func (s *Stream) book(done *job) {
	w := done.watcher
	if w == nil {
		return
	}
	if done.sent > 0 {
		s.sent = max(s.sent, done.sent)
		w.notified = true
	}
	switch {
	case done.kind == catchUp:
		s.bookCatchUp(w, done.prepared.final)
	case w.state == gone:
	case done.how == tookAll:
		w.pending--
	case done.how == tookLost:
		w.pending--
		s.loseSync(w)
	default:
		s.ready.push(w)
		if s.control.len() > 0 {
			// What is left of w may belong to the revisions that a waiting progress reply speaks for.
			if c := s.control.front(); c.armed && w.next <= c.response.Revision {
				c.barrier = s.ready.tail()
			}
		}
	}
}

// loseSync turns a live watcher whose position is lost, and which has left its group, into one that is behind.
func (s *Stream) loseSync(w *watcher) {
	w.state = behind
	w.held = true
	s.hub.slow.Add(1)
	for i := range s.control.rest() {
		if c := &s.control.rest()[i]; c.progress {
			c.void = true
		}
	}
	s.fallIn(w)
}

func (s *Stream) bookCatchUp(w *watcher, final bool) {
	switch {
	case w.state == gone:
	case final:
		s.becomeLive(w)
	default:
		s.behind.push(w)
	}
	s.catchUpNext()
}

// becomeLive ends the catching up of a watcher that has joined its group.
func (s *Stream) becomeLive(w *watcher) {
	w.state = live
	s.hub.slow.Add(-1)
	s.release(w)
}

// deliver sends what the job's watcher has, one response at most.
func (s *Stream) deliver(d *drainage) error {
	j, w := &d.job, d.job.watcher
	limit := s.hub.options.ResponseBytes
	batches, from, how := w.group.take(w, limit, j.revision, d.batches[:0])
	j.how = how
	var p parts
	switch {
	case how == tookLost:
		s.hub.leave(w)
	case how == tookPart:
		p, w.next = batches[0].encodeSome(w.variant, from, limit)
		if w.next > batches[0].last {
			w.number++
		}
	case len(batches) == 1:
		p = batches[0].encode(w.variant, from)
	default:
		for _, b := range batches {
			p.join(b.encode(w.variant, from))
		}
	}
	clear(batches)
	d.batches = batches
	if p.events == 0 {
		return nil
	}
	j.sent = p.last
	j.response = Response{WatchID: w.id, Revision: p.last, Events: p.slices, count: p.events}
	return s.send(w, &j.response)
}

// send hands a response with events to the sender, in fragments if it is too large and w allows that.
func (s *Stream) send(w *watcher, r *Response) error {
	s.hub.events.Add(int64(r.count))
	if !w.fragment || r.size() < s.hub.options.FragmentBytes {
		return s.sender.Send(r)
	}
	for _, piece := range fragments(r, s.hub.options.FragmentBytes) {
		if err := s.sender.Send(&piece); err != nil {
			return err
		}
	}
	return nil
}
