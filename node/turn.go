package node

import "sync"

// turn is the right to make a move. Each move has a goroutine of its own that makes it whenever there is something to do;
// but a request that comes when nobody is at a move makes it itself, so that it need not wait until another goroutine
// runs: on an idle member that is most of a write's time apart from the disk's.
type turn struct {
	mu     sync.Mutex
	closed bool // guarded by mu
}

// take waits for the turn, then makes the move.
func (t *turn) take(move func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		move()
	}
}

// try makes the move unless another is at it.
func (t *turn) try(move func()) (made bool) {
	if !t.mu.TryLock() {
		return false
	}
	defer t.mu.Unlock()
	if !t.closed {
		move()
	}
	return true
}

// close waits until nobody is at the move; from then on nobody makes it.
func (t *turn) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}
