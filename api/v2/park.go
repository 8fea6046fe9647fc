package v2

import (
	"sync"

	"keelson/http1"
	"keelson/state/tree"
)

// parked is a long poll that waits without anything that serving a request takes: there may be very many of them, and
// nearly all do nothing.
type parked struct {
	h         *Handler
	conn      *http1.Poll
	path      string
	recursive bool

	mu     sync.Mutex
	waiter *waiter
	left   bool // by the client
}

// leave is called when the client has gone.
func (p *parked) leave() {
	p.mu.Lock()
	p.left = true
	w := p.waiter
	p.mu.Unlock()
	p.h.hub.leave(w)
}

// answer writes what has come, and the end of the body. It is called once for each time that the poll is registered.
func (p *parked) answer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	events, ended := p.h.hub.take(p.waiter)
	if ended == endedReset && len(events) == 0 && !p.left {
		if next := p.h.again(&request{path: p.path, recursive: p.recursive}, p.waiter, nil); next != nil {
			p.waiter = next
			p.h.hub.park(next, p.answer)
			return
		}
	}
	p.conn.Finish(appendEvents(nil, events))
}

func appendEvents(dst []byte, events []*tree.Event) []byte {
	for _, e := range events {
		dst = appendEvent(dst, e)
	}
	return dst
}
