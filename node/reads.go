package node

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// reads lets linearizable reads share rounds: all that arrive while a round is being asked for go with the next one.
//
// A group gathers (readers join the newest), then is asked about under a ticket, then waits for an index to be applied, then is
// settled. Safe for concurrent use. Invariant: readers is how many readers the groups have.
type reads struct {
	mu        sync.Mutex
	tickets   uint64
	gathering []*readGroup // readers join the last one
	asked     []*readGroup // by ticket, ascending
	waiting   []*readGroup // have an index that is not applied yet
	readers   int
	refusal   error

	slow, failed atomic.Uint64 // groups that waited for longer than readsSlow, and that got no answer, in total
}

// LateReader is a caller of ReadLater.
type LateReader interface {
	// Ready is called once: everything acknowledged before the call of ReadLater is applied here, or err says why that is not
	// known. It may wait for no more than a look into the store.
	Ready(err error)
	Runner
}

type readGroup struct {
	ticket  uint64
	index   uint64
	opened  time.Duration // monotonic: when its first reader joined
	slow    bool          // it was counted as such
	waiters []*waiter
	late    []LateReader
}

// readersMax is how many readers may wait, beyond which they are refused.
const readersMax = 1 << 17

// readsSlow is how long the question after an index may take before it is counted as slow. It is as long as etcd waits
// before it asks again.
const readsSlow = 500 * time.Millisecond

func newReads() *reads { return &reads{} }

// join adds a reader who waits. first reports that the mover has to be told.
func (r *reads) join(now time.Duration) (w *waiter, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, first, err := r.open(now)
	if err == nil {
		w = waiterPool.Get().(*waiter)
		g.waiters = append(g.waiters, w)
	}
	return w, first, err
}

// joinLate adds a reader who does not wait.
func (r *reads) joinLate(late LateReader, now time.Duration) (first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, first, err := r.open(now)
	if err == nil {
		g.late = append(g.late, late)
	}
	return first, err
}

// open returns the group that gathers. The lock must be held.
func (r *reads) open(now time.Duration) (g *readGroup, first bool, err error) {
	if r.refusal != nil {
		return nil, false, r.refusal
	}
	if r.readers >= readersMax {
		return nil, false, ErrTooManyRequests
	}
	r.readers++
	n := len(r.gathering)
	if n == 0 || now-r.gathering[n-1].opened >= joinableFor { // there is no leader to ask: a group does not wait too long as a whole
		r.gathering = append(r.gathering, &readGroup{opened: now})
	}
	return r.gathering[len(r.gathering)-1], n == 0, nil
}

// begin closes the gathering groups and returns the ticket to ask about; ok is false if nobody gathered.
func (r *reads) begin() (ticket uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.gathering) == 0 {
		return 0, false
	}
	r.tickets++
	for _, g := range r.gathering {
		g.ticket = r.tickets
	}
	r.asked = append(r.asked, r.gathering...)
	clear(r.gathering)
	r.gathering = r.gathering[:0]
	return r.tickets, true
}

// ready gives all groups up to a ticket the index they have to wait for.
func (r *reads) ready(through, index, applied uint64) {
	for _, g := range r.answered(through) {
		g.index = index
		r.mu.Lock()
		r.waiting = append(r.waiting, g)
		r.mu.Unlock()
	}
	r.applied(applied)
}

// drop refuses all groups up to a ticket.
func (r *reads) drop(through uint64, err error) {
	for _, g := range r.answered(through) {
		r.failed.Add(1)
		r.settle(g, err)
	}
}

// noteSlow counts the groups that were opened before the given moment and have no index yet, each of them once.
func (r *reads) noteSlow(before time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.gathering {
		r.countSlow(g, before)
	}
	for _, g := range r.asked {
		r.countSlow(g, before)
	}
}

func (r *reads) countSlow(g *readGroup, before time.Duration) {
	if !g.slow && g.opened < before {
		g.slow = true
		r.slow.Add(1)
	}
}

func (r *reads) answered(through uint64) []*readGroup {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.asked) && r.asked[n].ticket <= through {
		n++
	}
	groups := append([]*readGroup(nil), r.asked[:n]...)
	r.asked = append(r.asked[:0], r.asked[n:]...)
	return groups
}

// applied lets go all who wait for an index up to this one.
func (r *reads) applied(index uint64) {
	for _, g := range r.pick(&r.waiting, func(g *readGroup) bool { return g.index <= index }) {
		r.settle(g, nil)
	}
}

// expire fails every group that was opened before the given moment.
func (r *reads) expire(before time.Duration, err error) {
	old := func(g *readGroup) bool { return g.opened < before }
	unanswered := append(r.pick(&r.gathering, old), r.pick(&r.asked, old)...)
	r.failed.Add(uint64(len(unanswered)))
	for _, g := range append(unanswered, r.pick(&r.waiting, old)...) {
		r.settle(g, err)
	}
}

// pick takes the groups out of a list that a condition holds for.
func (r *reads) pick(list *[]*readGroup, want func(*readGroup) bool) (picked []*readGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(*list) == 0 {
		return nil
	}
	kept := (*list)[:0]
	for _, g := range *list {
		if want(g) {
			picked = append(picked, g)
		} else {
			kept = append(kept, g)
		}
	}
	clear((*list)[len(kept):])
	*list = kept
	return picked
}

// close refuses all further readers with err, and fails those that wait with it.
func (r *reads) close(err error) {
	r.mu.Lock()
	r.refusal = err
	r.mu.Unlock()
	r.expire(1<<63-1, err)
}

// settle tells the readers of a group that is in no list any more.
func (r *reads) settle(g *readGroup, err error) {
	r.mu.Lock()
	r.readers -= len(g.waiters) + len(g.late)
	r.mu.Unlock()
	for _, w := range g.waiters {
		w.err = err
		w.done <- struct{}{}
	}
	for late := range slices.Chunk(g.late, lateChunk) {
		late[0].Go(func() {
			for _, l := range late {
				l.Ready(err)
			}
		})
	}
}

// lateChunk is how many late readers share a goroutine: whoever settles them has other things to do, and starting one for each
// costs more than to answer most of them.
const lateChunk = 64
