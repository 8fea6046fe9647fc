package node

import "sync"

// inbox is a queue that many fill and one at a time empties, all at once. It is unbounded by itself: each user says in
// its own comment what bounds it.
type inbox[T any] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{} // capacity 1: something may be there
}

func newInbox[T any]() *inbox[T] { return &inbox[T]{wake: make(chan struct{}, 1)} }

// put wakes nobody: whoever puts sees to it that the queue is emptied, by itself or by signal.
func (q *inbox[T]) put(items ...T) {
	q.mu.Lock()
	q.items = append(q.items, items...)
	q.mu.Unlock()
}

// nudge wakes the goroutine that empties the queue, if there is something in it.
func (q *inbox[T]) nudge() {
	q.mu.Lock()
	something := len(q.items) > 0
	q.mu.Unlock()
	if something {
		q.signal()
	}
}

// signal wakes the goroutine that empties the queue, even if there is nothing.
func (q *inbox[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// are reports whether a condition holds for what is in the queue.
func (q *inbox[T]) are(condition func([]T) bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return condition(q.items)
}

func (q *inbox[T]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// take returns everything in the queue; spare, cleared, is used for what comes next.
func (q *inbox[T]) take(spare []T) []T { return q.takeIf(func([]T) bool { return true }, spare) }

// takeIf is take if a condition holds for all of it, and takes nothing otherwise.
func (q *inbox[T]) takeIf(condition func([]T) bool, spare []T) []T {
	clear(spare[:cap(spare)])
	q.mu.Lock()
	defer q.mu.Unlock()
	if !condition(q.items) {
		return spare[:0]
	}
	items := q.items
	q.items = spare[:0]
	return items
}
