package v3

import (
	"container/list"
	"context"
	"sync"
)

// budget bounds the memory of the replies that are being built or sent. A reader takes a turn, and takes bytes as its
// reply grows; over the limit it waits. The bytes come back when they have been sent, which a slow client may delay for
// long; so the reader whose turn began first never waits: there is always one that gets on, whatever the others hold.
//
// Invariant: used <= limit, but for what the turns that were first in line took beyond it.
type budget struct {
	limit int64

	mu    sync.Mutex
	used  int64
	turns *list.List // of *turn, from the oldest
	waits int        // turns that wait
}

// turn is one reader's place in line. It belongs to the reader.
type turn struct {
	b     *budget
	at    *list.Element
	want  int64         // bytes it waits for; 0: it does not wait. Guarded by b.mu
	ready chan struct{} // capacity 1; signalled when want was granted
}

func newBudget(limit int64) *budget { return &budget{limit: limit, turns: list.New()} }

// begin takes a place in line.
func (b *budget) begin() *turn {
	t := &turn{b: b}
	b.mu.Lock()
	t.at = b.turns.PushBack(t)
	b.mu.Unlock()
	return t
}

// take takes n bytes and may wait for them until ctx ends.
func (t *turn) take(ctx context.Context, n int64) error {
	b := t.b
	b.mu.Lock()
	if b.grants(t, n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	if t.ready == nil {
		t.ready = make(chan struct{}, 1)
	}
	t.want = n
	b.waits++
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
		b.used -= n
	} else {
		t.want = 0
		b.waits--
	}
	b.settle()
	return ctx.Err()
}

// grants reports whether t may have n bytes at once: it is the first in line, or there is room and nobody waits.
func (b *budget) grants(t *turn, n int64) bool {
	return b.turns.Front() == t.at || b.waits == 0 && b.used+n <= b.limit
}

// end gives up the place in line, not the bytes.
func (t *turn) end() {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	t.b.turns.Remove(t.at)
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

// settle lets those go on who need not wait any more, in the order of the line.
func (b *budget) settle() {
	if b.waits == 0 {
		return
	}
	for e := b.turns.Front(); e != nil; e = e.Next() {
		t := e.Value.(*turn)
		if t.want == 0 {
			continue
		}
		if e != b.turns.Front() && b.used+t.want > b.limit {
			return
		}
		b.used += t.want
		t.want = 0
		b.waits--
		t.ready <- struct{}{}
	}
}
