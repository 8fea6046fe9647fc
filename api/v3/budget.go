package v3

import (
	"container/list"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"keelson/internal/sched"
	"keelson/node"
)

// budget bounds the memory of the replies that are being built or sent, and how many are built at a time. A reader takes a turn, and
// takes bytes as its reply grows; who has bytes, works. Over the limits it waits. The bytes come back when they have been sent, which
// a slow client may delay for long; so the reader whose turn began first never waits for bytes: there is always one that gets on,
// whatever the others hold.
//
// Those who wait go on flow by flow (node.WithFlow), and who works lets others work after some bytes. So a small reply does not wait
// for large ones, nor a client for the many readers of another.
//
// Invariants: used <= limit, but for what the turns that were first in line took beyond it; working <= workers.
type budget struct {
	limit   int64
	workers int

	mu      sync.Mutex
	used    int64
	working int
	turns   *list.List  // of *turn, from the oldest
	waiting []*readers  // the flows that wait, the next one first
	timer   *time.Timer // calls overtake as long as somebody waits; nil: nobody ever has
}

// readers are the turns of a flow that wait, the longest waiting first.
type readers struct {
	flow  any
	turns []*turn
}

const (
	// shareBytes is how much a turn may take before others that wait have theirs.
	shareBytes = 16 * pieceBytes
	// shareTime is how long a turn may take nothing until others that wait have theirs: a reader may look through much of which it has
	// nothing to tell. It goes on beside them.
	shareTime = 100 * time.Millisecond
)

// turn is one reader's place in line. It belongs to the reader.
type turn struct {
	b    *budget
	flow any

	batch sched.Batch // of the work between two pieces

	// Guarded by b.mu.
	at    *list.Element
	works bool          // it counts among the working
	since time.Time     // when it has taken bytes last
	share int64         // bytes taken since it began to work
	want  int64         // bytes it waits for; 0: it does not wait
	ready chan struct{} // capacity 1; signalled when want was granted
}

// newBudget makes a budget for so many bytes, and so many that work at a time; 0: half as many as there are processors, which leaves
// the others to the requests that somebody waits for, and keeps a network busy.
func newBudget(limit int64, workers int) *budget {
	if workers == 0 {
		workers = max(1, min(runtime.NumCPU(), runtime.GOMAXPROCS(0))/2)
	}
	return &budget{limit: limit, workers: workers, turns: list.New()}
}

// begin takes a place in line for the flow of ctx.
func (b *budget) begin(ctx context.Context) *turn {
	t := &turn{b: b, flow: node.FlowOf(ctx)}
	b.mu.Lock()
	t.at = b.turns.PushBack(t)
	b.mu.Unlock()
	return t
}

// take takes n bytes and may wait for them, and for others to let it work, until ctx ends. What the reader does after it is long.
func (t *turn) take(ctx context.Context, n int64) error {
	t.batch.End()
	err := t.wait(ctx, n)
	if err == nil {
		t.batch = sched.Begin()
	}
	return err
}

// wait is take without saying what comes then.
func (t *turn) wait(ctx context.Context, n int64) error {
	b := t.b
	b.mu.Lock()
	if t.works && (t.share < shareBytes || len(b.waiting) == 0) && b.fits(t, n) {
		t.share += n
		t.since = time.Now()
		b.used += n
		b.mu.Unlock()
		runtime.Gosched() // a list is many of these: what somebody waits for goes between
		return nil
	}
	b.rest(t)
	t.want = n
	b.wait(t)
	b.settle()
	if t.want == 0 { // granted at once
		<-t.ready
		b.mu.Unlock()
		return nil
	}
	b.mu.Unlock()

	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.want == 0 { // granted in the same moment
		<-t.ready
		b.rest(t)
		b.used -= n
	} else {
		t.want = 0
		b.remove(b.find(t))
	}
	b.settle()
	return ctx.Err()
}

// fits reports whether t may have n bytes: it is the first in line, or there is room.
func (b *budget) fits(t *turn, n int64) bool { return b.turns.Front() == t.at || b.used+n <= b.limit }

// rest has t work no longer.
func (b *budget) rest(t *turn) {
	if t.works {
		t.works = false
		b.working--
	}
}

// wait puts t behind those of its flow that wait.
func (b *budget) wait(t *turn) {
	if t.ready == nil {
		t.ready = make(chan struct{}, 1)
	}
	for _, r := range b.waiting {
		if r.flow == t.flow {
			r.turns = append(r.turns, t)
			return
		}
	}
	b.waiting = append(b.waiting, &readers{flow: t.flow, turns: []*turn{t}})
	if len(b.waiting) > 1 {
		return
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(shareTime, b.overtake)
	} else {
		b.timer.Reset(shareTime)
	}
}

// overtake lets others work beside those who have taken nothing for long.
func (b *budget) overtake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := b.turns.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*turn); t.works && time.Since(t.since) >= shareTime {
			b.rest(t)
		}
	}
	b.settle()
	if len(b.waiting) > 0 {
		b.timer.Reset(shareTime)
	}
}

// find is where t waits.
func (b *budget) find(t *turn) (flow, at int) {
	for flow, r := range b.waiting {
		if r.flow == t.flow {
			return flow, slices.Index(r.turns, t)
		}
	}
	panic("v3: nobody waits for this turn")
}

// remove takes out the turn that waits at a place of a flow.
func (b *budget) remove(flow, at int) *turn {
	r := b.waiting[flow]
	t := r.turns[at]
	r.turns = slices.Delete(r.turns, at, at+1)
	if len(r.turns) == 0 {
		b.waiting = slices.Delete(b.waiting, flow, flow+1)
	}
	return t
}

// end gives up the place in line, not the bytes.
func (t *turn) end() {
	t.batch.End()
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	t.b.turns.Remove(t.at)
	t.b.rest(t)
	t.b.settle()
}

// release gives n bytes back.
func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.used < 0 {
		panic("v3: read budget released twice")
	}
	b.settle()
}

// settle lets those go on who need not wait any more.
func (b *budget) settle() {
	for b.working < b.workers && len(b.waiting) > 0 {
		flow, at := 0, 0
		if !b.fits(b.waiting[0].turns[0], b.waiting[0].turns[0].want) {
			first := b.turns.Front().Value.(*turn)
			if first.want == 0 {
				return
			}
			flow, at = b.find(first)
		}
		r := b.waiting[flow]
		t := b.remove(flow, at)
		if len(r.turns) > 0 { // its flow goes behind the others
			b.waiting = append(slices.Delete(b.waiting, flow, flow+1), r)
		}
		b.used += t.want
		b.working++
		t.works, t.since, t.share, t.want = true, time.Now(), t.want, 0
		t.ready <- struct{}{}
	}
}
