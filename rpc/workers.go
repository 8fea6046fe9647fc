package rpc

import "sync"

// workers runs calls on goroutines that live on: their stacks have grown already. The one that finished last is the first
// to be used again, whose stack is still in the processor's caches. There are always enough: a call never waits for
// another to end.
type workers struct {
	idleMax int

	mu     sync.Mutex
	idle   []*worker // the last is used next
	closed bool
}

// task is the handler of a stream, or else a function.
type task struct {
	s *stream
	f func()
}

func (t task) run() {
	if t.s != nil {
		t.s.run()
	} else {
		t.f()
	}
}

// worker is one goroutine.
type worker struct {
	next chan task // capacity 1; closed: end
	done int
}

// workerCalls is after how many calls a worker ends, so that a stack that grew large once does not stay for ever.
const workerCalls = 1 << 16

func newWorkers(idleMax int) *workers { return &workers{idleMax: idleMax} }

// run has a task carried out.
func (w *workers) run(t task) {
	w.mu.Lock()
	n := len(w.idle)
	if n == 0 {
		w.mu.Unlock()
		go w.work(&worker{next: make(chan task, 1)}, t)
		return
	}
	k := w.idle[n-1]
	w.idle[n-1] = nil
	w.idle = w.idle[:n-1]
	w.mu.Unlock()
	k.next <- t
}

func (w *workers) work(k *worker, t task) {
	for more := true; more; {
		t.run()
		k.done++
		if k.done >= workerCalls || !w.rest(k) {
			return
		}
		t, more = <-k.next
	}
}

// rest puts a worker among the idle ones, if there is room.
func (w *workers) rest(k *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= w.idleMax {
		return false
	}
	w.idle = append(w.idle, k)
	return true
}

// close ends the idle workers, and the others when they have done what they do.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, k := range w.idle {
		close(k.next)
	}
	w.idle = nil
}
