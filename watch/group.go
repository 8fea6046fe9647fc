package watch

import (
	"sync"

	"keelson/internal/fault"
	"keelson/state/mvcc"
)

// group is the watchers of one range. What a chunk holds for the range is found once and kept in the group's log; a
// member reads the log at its own position. A member that has read everything is parked: only then does a new batch wake
// it, so members that lag cost a writer nothing.
type group struct {
	span span

	// open is the batch being filled while a chunk is dispatched, nil otherwise. Guarded by hub.mu, as is spare.
	open *batch
	// spare is an empty list kept to become parked when the parked are woken.
	spare []*watcher

	mu sync.Mutex
	// log[i] is batch number first+i. Batches before first are forgotten: consumed by all, or fallen off the ring.
	log    []*batch
	first  uint64
	parked []*watcher // each knows its place here
	// members counts the watchers that joined. Written under hub.mu and mu, read under either.
	members int
}

func (g *group) end() uint64 { return g.first + uint64(len(g.log)) }

// join makes w a parked member that wants what comes from revision next on. The caller holds hub.mu.
func (g *group) join(w *watcher, next mvcc.Revision) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.group = g
	w.joined = true
	w.next = next
	g.members++
	g.park(w)
}

// leave ends w's membership, if it is a member. The caller holds hub.mu.
func (g *group) leave(w *watcher) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !w.joined {
		return
	}
	w.joined = false
	g.members--
	if w.parkedAt >= 0 {
		last := len(g.parked) - 1
		moved := g.parked[last]
		g.parked[w.parkedAt] = moved
		moved.parkedAt = w.parkedAt
		g.parked[last] = nil
		g.parked = g.parked[:last]
		w.parkedAt = -1
	}
	g.trim()
}

func (g *group) park(w *watcher) {
	w.parkedAt = len(g.parked)
	g.parked = append(g.parked, w)
	g.trim()
}

// trim forgets the log when everybody has read it.
func (g *group) trim() {
	if len(g.parked) == g.members && len(g.log) > 0 {
		g.first = g.end()
		g.log = nil
	}
}

// append puts b behind the log and returns those it wakes: the parked, except those whose start lies further ahead. The
// caller holds hub.mu, and hands the list back with recycle.
func (g *group) append(b *batch) (woken []*watcher) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b.number = g.end()
	g.log = append(g.log, b)
	woken = g.wake(b.last, b.first, b.number)
	g.trim()
	return woken
}

// lose makes as if a batch had come and been forgotten at once: whoever has not read past it will find its position gone
// and catch up from first on. The caller holds hub.mu.
func (g *group) lose(first, last mvcc.Revision) (woken []*watcher) {
	g.mu.Lock()
	defer g.mu.Unlock()
	lost := g.end()
	g.first = lost + 1
	g.log = nil
	if fault.Mutant("lower-the-future") {
		for _, w := range g.parked {
			w.next = min(w.next, first)
		}
	}
	return g.wake(last, first, lost)
}

// wake takes out the parked who want revisions up to last, and positions them at the batch of the given number, which
// begins with revision first.
func (g *group) wake(last, first mvcc.Revision, number uint64) (woken []*watcher) {
	woken, g.parked = g.parked, g.spare[:0]
	g.spare = nil
	n := 0
	for _, w := range woken {
		if w.next > last {
			w.parkedAt = len(g.parked)
			g.parked = append(g.parked, w)
			continue
		}
		w.parkedAt = -1
		w.number = number
		w.next = max(w.next, first)
		woken[n] = w
		n++
	}
	clear(woken[n:])
	return woken[:n]
}

// recycle takes back the list of the woken. The caller holds hub.mu.
func (g *group) recycle(woken []*watcher) {
	clear(woken)
	g.spare = woken[:0]
}

// forget drops b, the oldest batch, from the log.
func (g *group) forget(b *batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.number < g.first {
		return
	}
	if b.number != g.first {
		panic("watch: a chunk left the ring before an older one")
	}
	g.log[0] = nil
	g.log = g.log[1:]
	g.first++
}

// taking says how a member stands after take.
type taking uint8

const (
	tookAll  taking = iota // it is parked
	tookSome               // there is more in the log
	tookPart               // the one batch returned is too much for a response: see watcher.advance
	tookLost               // its position is no longer in the log
	tookLeft               // it is no member any more
)

// take reads w's next batches into the slice given, about limit bytes of them, at least one, and moves w behind them. from
// is the first revision w wants of them. Batches after the revision through are left for later, even if there are no
// others: through is one that was dispatched, so that no batch lies across it.
func (g *group) take(w *watcher, limit int, through mvcc.Revision, into []*batch) (batches []*batch, from mvcc.Revision, how taking) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from = w.next
	switch {
	case !w.joined:
		return into, from, tookLeft
	case w.number < g.first:
		return into, from, tookLost
	}
	cost, revisions := 0, 0
	for w.number < g.end() {
		b := g.log[w.number-g.first]
		if b.first > through {
			w.next = max(w.next, through+1)
			return into, from, tookSome
		}
		cost += b.cost
		revisions += b.revisions
		if cost > limit || revisions > responseRevisionsMax {
			if len(into) > 0 {
				return into, from, tookSome
			}
			if b.revisions > 1 {
				return append(into, b), from, tookPart
			}
		}
		into = append(into, b)
		w.number++
		w.next = max(w.next, b.last+1)
	}
	if !fault.Mutant("lose-place-in-group") {
		g.park(w)
	}
	return into, from, tookAll
}
