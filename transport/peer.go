package transport

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// peer is another member as the list of peers names it: its addresses and the streams to it. With other addresses it is
// another peer, which goes on with the same counters.
type peer struct {
	id       uint64
	urls     []string
	counters *counters
	out      [queueKinds]*outgoing
	cancel   context.CancelFunc // ends the streams
	turn     atomic.Int32       // the address that worked last

	// Guarded by Transport.mu.
	up        [queueKinds]bool // outgoing streams that are up
	live      bool             // these and the two accepted ones
	liveSince time.Duration    // monotonic; if live
}

// counters count what goes to and comes from one member, by all its streams.
type counters struct {
	sentBytes, receivedBytes       atomic.Uint64
	sentMessages, receivedMessages atomic.Uint64
	sendFailures, receiveFailures  atomic.Uint64
	disconnects                    atomic.Uint64
	roundTrip                      atomic.Int64 // nanoseconds
}

// PeerStats tell how it goes with one peer. Counters begin when the peer is first known, and are lost with it.
type PeerStats struct {
	ID uint64
	// Live: see Transport.ConnectedSince.
	Live bool
	// Disconnects counts how often it ceased to be live.
	Disconnects uint64
	// SentBytes and ReceivedBytes count everything on all streams but what encryption adds.
	SentBytes, ReceivedBytes uint64
	// SentMessages were given to the network; ReceivedMessages to the handler.
	SentMessages, ReceivedMessages uint64
	// SendFailures counts messages that were dropped before the network had them whole. ReceiveFailures counts frames
	// and messages that no member may send, and streams that broke off in the middle of a frame.
	SendFailures, ReceiveFailures uint64
	// QueuedBytes wait to be sent.
	QueuedBytes int
	// RoundTrip is how long the newest answer to a ping took. 0: there was none yet.
	RoundTrip time.Duration
}

func (p *peer) stats(live bool) PeerStats {
	c := p.counters
	s := PeerStats{
		ID: p.id, Live: live, Disconnects: c.disconnects.Load(),
		SentBytes: c.sentBytes.Load(), ReceivedBytes: c.receivedBytes.Load(),
		SentMessages: c.sentMessages.Load(), ReceivedMessages: c.receivedMessages.Load(),
		SendFailures: c.sendFailures.Load(), ReceiveFailures: c.receiveFailures.Load(),
		RoundTrip: time.Duration(c.roundTrip.Load()),
	}
	for _, out := range p.out {
		s.QueuedBytes += out.queue.size()
	}
	return s
}

// retry has the streams to a peer tried again at once, because there is reason to think that it can be reached.
func (p *peer) retry() {
	for _, out := range p.out {
		select {
		case out.retry <- struct{}{}:
		default:
		}
	}
}

// Stats tells about all peers, in order of their ids.
func (t *Transport) Stats() []PeerStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []PeerStats
	for _, p := range t.peersNow() {
		all = append(all, p.stats(p.live))
	}
	slices.SortFunc(all, func(a, b PeerStats) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}
