package watch

import (
	"container/heap"
	"sync"
	"time"
)

// ticks is the timer of progress notifications: the streams that have watchers asking for them, by the time of their next
// tick. Its goroutine exists while there are any.
type ticks struct {
	hub *Hub

	mu      sync.Mutex
	due     tickHeap
	running bool
	closed  bool
	changed chan struct{} // of capacity 1; told when the earliest tick changed or closed was set
}

// tick is a stream's place in the heap.
type tick struct {
	stream *Stream
	at     time.Duration // on the monotonic clock
	place  int           // -1: not in the heap
}

// add schedules the next tick of s, if it is not scheduled yet.
func (t *ticks) add(s *Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || s.tick.place >= 0 {
		return
	}
	s.tick.at = t.hub.options.Clock.Monotonic() + t.period()
	heap.Push(&t.due, &s.tick)
	t.tell()
	if !t.running {
		t.running = true
		t.changed = make(chan struct{}, 1)
		t.hub.tasks.Add(1)
		go t.run()
	}
}

// remove unschedules s.
func (t *ticks) remove(s *Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.tick.place >= 0 {
		heap.Remove(&t.due, s.tick.place)
		t.tell()
	}
}

func (t *ticks) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.tell()
}

func (t *ticks) tell() {
	select {
	case t.changed <- struct{}{}:
	default: // told already, or nobody is listening
	}
}

// period is the configured one, lengthened at random so that streams opened together do not tick together.
func (t *ticks) period() time.Duration {
	d := t.hub.options.ProgressInterval
	return d + time.Duration(t.hub.options.Chance.Uint64()%uint64(d/10+1))
}

func (t *ticks) run() {
	defer t.hub.tasks.Done()
	var timer = t.hub.options.Clock.NewTimer(t.hub.options.ProgressInterval)
	defer timer.Stop()
	for {
		wait, due, ended := t.next()
		if ended {
			return
		}
		for _, s := range due {
			if s.notifyProgress() {
				t.add(s)
			}
		}
		if len(due) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C():
		case <-t.changed:
		}
	}
}

// next takes out the streams whose tick is due; if there are none, wait is the time until one is. ended: the goroutine is
// no longer needed.
func (t *ticks) next() (wait time.Duration, due []*Stream, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.hub.options.Clock.Monotonic()
	for len(t.due) > 0 && t.due[0].at <= now && !t.closed {
		due = append(due, heap.Pop(&t.due).(*tick).stream)
	}
	switch {
	case len(due) > 0:
		return 0, due, false
	case len(t.due) == 0 || t.closed:
		t.running = false
		return 0, nil, true
	}
	return t.due[0].at - now, nil, false
}

// notifyProgress queues a progress response for each watcher that asked for such and had nothing to send since the last
// time; again reports whether the stream still has watchers that ask.
func (s *Stream) notifyProgress() (again bool) {
	// The order matters: who has nothing pending has sent everything up to this revision.
	rev := s.hub.dispatched()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	for _, w := range s.progressing {
		idle := w.state == live && w.pending == 0 && !w.notified && !w.awaitsStart(rev) && rev >= s.sent
		w.notified = false
		if idle && s.control.len() < s.hub.options.StreamQueueLen {
			s.control.push(control{notification: true, response: Response{WatchID: w.id, Revision: rev}})
		}
	}
	s.startDraining()
	return len(s.progressing) > 0
}

// tickHeap orders ticks by time.
type tickHeap []*tick

func (h tickHeap) Len() int           { return len(h) }
func (h tickHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h tickHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *tickHeap) Push(v any) {
	t := v.(*tick)
	t.place = len(*h)
	*h = append(*h, t)
}

func (h *tickHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.place = -1
	return t
}
