package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

// alive says on an accepted stream that its end is there: in answer to pings, at times while bytes arrive, so that a long queue on a slow
// line is not taken for silence, and at times while a handler takes its time.
type alive struct {
	line  *line
	every time.Duration
	busy  atomic.Bool // a handler is at work

	mu    sync.Mutex // of what follows, and of writes to the line
	said  time.Duration
	frame []byte
}

func newAlive(l *line, every time.Duration) *alive {
	return &alive{line: l, every: every, said: l.clock.Monotonic()}
}

// answer answers a ping.
func (a *alive) answer(token uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = a.line.clock.Monotonic()
	a.frame = appendPing(a.frame[:0], framePong, token)
	_, err := a.line.Write(a.frame)
	return err
}

// remind says something if nothing was said for a while.
func (a *alive) remind() error {
	a.mu.Lock()
	due := a.line.clock.Monotonic()-a.said >= a.every
	a.mu.Unlock()
	if !due {
		return nil
	}
	return a.answer(0)
}

// watch reminds while a handler is at work, until ended is closed. An error is the reader's to find.
func (a *alive) watch(ended <-chan struct{}) {
	ticker := a.line.clock.NewTicker(a.every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C():
			if a.busy.Load() {
				a.remind()
			}
		case <-ended:
			return
		}
	}
}
