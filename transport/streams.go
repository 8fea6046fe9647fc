package transport

import (
	"context"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// admit makes a stream the one of its kind from its member, in place of an older one, which it ends. A reason that is not
// empty refuses it; otherwise running counts it until leave.
func (t *Transport) admit(id streamID) (in *incoming, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.incoming[id]
	switch {
	case t.stopped:
		return nil, reasonStopping
	case old == nil && t.peersNow()[id.from] == nil && t.strangers() >= strangersMax:
		return nil, reasonTooMany
	}
	in = &incoming{streamID: id, counters: t.countersOf(id.from), before: old, done: make(chan struct{})}
	in.ctx, in.cancel = context.WithCancelCause(t.ctx)
	t.incoming[id] = in
	if old != nil {
		old.end(errReplaced)
	}
	t.running.Add(1)
	return in, ""
}

// strangers counts the accepted streams of members that are not in the list of peers.
func (t *Transport) strangers() (n int) {
	for id := range t.incoming {
		if t.peersNow()[id.from] == nil {
			n++
		}
	}
	return n
}

// attach gives an admitted stream its connection, and waits until nothing of an older stream reaches the handler any
// more. It is false if the stream has been ended meanwhile.
func (t *Transport) attach(in *incoming, conn net.Conn) bool {
	t.mu.Lock()
	in.conn = conn
	before := in.before
	in.before = nil
	t.mu.Unlock()
	if before != nil {
		<-before.done
	}
	return in.ctx.Err() == nil
}

// leave ends what admit and setAccepted began.
func (t *Transport) leave(in *incoming) {
	defer t.running.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	in.cancel(nil)
	close(in.done)
	if t.incoming[in.streamID] != in {
		return // replaced: its successor is up, or about to be
	}
	delete(t.incoming, in.streamID)
	delete(t.up, in.streamID)
	t.judgeLive(in.from)
	t.forget()
}

// setAccepted notes that the handshake of a stream is done.
func (t *Transport) setAccepted(in *incoming) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.incoming[in.streamID] == in {
		t.up[in.streamID] = true
		t.judgeLive(in.from)
		if p := t.peersNow()[in.from]; p != nil {
			p.retry()
		}
	}
}

// setUp notes that an outgoing stream is up or not.
func (t *Transport) setUp(p *peer, k kind, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.up[k] = up
	t.judgeLive(p.id)
}

// judgeLive finds out whether a peer is live.
func (t *Transport) judgeLive(id uint64) {
	p := t.peersNow()[id]
	if p == nil {
		return
	}
	live := true
	for k := range kind(queueKinds) {
		live = live && p.up[k] && t.up[streamID{id, k}]
	}
	switch {
	case live && !p.live:
		p.live, p.liveSince = true, t.o.Clock.Monotonic()
		t.log.Info("peer became active", zap.String("peer-id", idText(id)))
	case !live:
		t.cease(p)
	}
}

// cease notes that a peer is not live.
func (t *Transport) cease(p *peer) {
	if p.live {
		p.live = false
		p.counters.disconnects.Add(1)
		t.log.Warn("peer became inactive", zap.String("peer-id", idText(p.id)))
	}
}

// news remembers what was said a short while ago, so that it is not said all the time. It is bounded: whoever makes up
// new things to say gets the rest forgotten, and is heard once a minute at most for each.
type news struct {
	mu   sync.Mutex
	said map[string]time.Duration // monotonic
}

const (
	newsAgainAfter = time.Minute
	newsMax        = 64
)

func newNews() *news { return &news{said: make(map[string]time.Duration)} }

func (n *news) isNews(what string, now time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, known := n.said[what]; known && now-at < newsAgainAfter {
		return false
	}
	if len(n.said) >= newsMax {
		for old, at := range n.said {
			if now-at >= newsAgainAfter {
				delete(n.said, old)
			}
		}
		if len(n.said) >= newsMax {
			return false
		}
	}
	n.said[what] = now
	return true
}
