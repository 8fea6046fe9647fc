package transport

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// Transport joins this member to its peers. See the package comment.
type Transport struct {
	o        Options
	log      *zap.Logger
	reports  *reports
	refusals *news
	mistakes *news // messages that can't be sent

	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	running sync.WaitGroup // all goroutines, and the accepted streams in those of the HTTP server

	peers atomic.Pointer[map[uint64]*peer] // replaced as a whole, under mu

	sendMu  sync.Mutex // orders calls of Send
	recent  recentBlocks
	touched []*outgoing // scratch of Send

	mu       sync.Mutex
	stopped  bool
	incoming map[streamID]*incoming
	up       map[streamID]bool // accepted streams whose handshake is done
	counters map[uint64]*counters
}

// New makes a transport without peers.
func New(o Options) *Transport {
	o = o.withDefaults()
	o.check()
	t := &Transport{
		o: o, log: o.Logger, reports: newReports(), refusals: newNews(), mistakes: newNews(),
		incoming: make(map[streamID]*incoming), up: make(map[streamID]bool), counters: make(map[uint64]*counters),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.peers.Store(&map[uint64]*peer{})
	t.running.Go(func() { t.reports.run(t.ctx.Done(), o.Handler) })
	return t
}

func (t *Transport) peersNow() map[uint64]*peer { return *t.peers.Load() }

// SetPeers says who the other members are. Streams to new ones are begun, those to members that are not listed any more
// are ended, and those to members with other addresses are begun anew. Streams from members that were removed end, too.
func (t *Transport) SetPeers(list []Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	old := t.peersNow()
	peers := make(map[uint64]*peer, len(list))
	for _, to := range list {
		if to.ID == 0 || to.ID == t.o.MemberID || peers[to.ID] != nil || len(to.URLs) == 0 {
			panic(fmt.Sprintf("transport: member %x has peers %+v", t.o.MemberID, list))
		}
		p := old[to.ID]
		if p == nil || !slices.Equal(p.urls, to.URLs) {
			p = t.newPeer(to)
		}
		peers[to.ID] = p
	}
	for id, p := range old {
		if peers[id] != p {
			p.cancel()
			t.cease(p)
		}
	}
	for id, p := range peers {
		if old[id] != p {
			t.begin(p)
		}
	}
	t.peers.Store(&peers)
	for id, in := range t.incoming {
		if peers[id.from] == nil && t.o.IsRemoved(id.from) {
			in.end(errRemoved)
		}
	}
	t.forget()
}

func (t *Transport) newPeer(to Peer) *peer {
	return &peer{id: to.ID, urls: slices.Clone(to.URLs), counters: t.countersOf(to.ID)}
}

// countersOf finds or makes the counters of a member.
func (t *Transport) countersOf(id uint64) *counters {
	c := t.counters[id]
	if c == nil {
		c = new(counters)
		t.counters[id] = c
	}
	return c
}

// forget drops the counters of those who are no peers and have no streams.
func (t *Transport) forget() {
	peers := t.peersNow()
	maps.DeleteFunc(t.counters, func(id uint64, _ *counters) bool {
		for k := range kind(kinds) {
			if t.incoming[streamID{id, k}] != nil {
				return false
			}
		}
		return peers[id] == nil
	})
}

// begin starts the streams to a peer.
func (t *Transport) begin(p *peer) {
	ctx, cancel := context.WithCancel(t.ctx)
	p.cancel = cancel
	limits := [queueKinds]int{kindMessages: t.o.MessagesBytesMax, kindControl: t.o.ControlBytesMax}
	for k := range kind(queueKinds) {
		p.out[k] = &outgoing{t: t, peer: p, kind: k, queue: newQueue(limits[k]), retry: make(chan struct{}, 1)}
		t.running.Go(func() { p.out[k].run(ctx) })
	}
}

// Send queues messages for their receivers, and writes them if that is little. It never waits. What finds its queue full, or
// its peer down, is dropped.
func (t *Transport) Send(messages []*raftpb.Message) {
	t.sendMu.Lock()
	defer t.sendMu.Unlock()
	peers := t.peersNow()
	for _, m := range messages {
		if p := peers[m.GetTo()]; p != nil {
			t.queue(p, m)
		}
	}
	for _, s := range t.touched {
		s.send()
	}
	clear(t.touched)
	t.touched = t.touched[:0]
}

func (t *Transport) queue(p *peer, m *raftpb.Message) {
	k, _ := route(m.GetType())
	it := item{m: m}
	err := unsendable(m, t.o.MemberID)
	if err == nil && len(m.Entries) > 0 {
		if m.GetType() == raftpb.MsgApp {
			it.block = t.recent.of(m.Entries)
		} else {
			it.block = newBlock(m.Entries)
		}
		if it.block.size > k.tailBytesMax() {
			err = fmt.Errorf("its entries take up to %d bytes", it.block.size)
		}
	}
	dropped, news := err != nil, err != nil
	if err == nil {
		dropped, news = p.out[k].queue.put(it)
	}
	if !dropped {
		if !slices.Contains(t.touched, p.out[k]) {
			t.touched = append(t.touched, p.out[k])
		}
		return
	}
	p.counters.sendFailures.Add(1)
	if news {
		t.reports.unreachable(p.id)
	}
	if err != nil && t.mistakes.isNews(m.GetType().String()+err.Error(), t.o.Clock.Monotonic()) {
		t.log.Error("a message can't be sent", zap.Stringer("type", m.GetType()), zap.String("remote-peer-id", idText(p.id)), zap.Error(err))
	}
}

// OpenBulk opens a bulk stream to a peer. It ends when it is closed, when ctx ends, and with the transport. Reads and
// writes fail when nothing moves for Options.BulkTimeout. A newer one takes its place at the other side.
//
// Errors: ErrStopped, ErrUnknownPeer, *RefusedError; what the network says.
func (t *Transport) OpenBulk(ctx context.Context, id uint64) (io.ReadWriteCloser, error) {
	p := t.peersNow()[id]
	if p == nil {
		return nil, fmt.Errorf("%w %x", ErrUnknownPeer, id)
	}
	return t.open(ctx, p, kindBulk)
}

// OpenFetch opens a bulk stream to a member, which may be no peer yet, on which that one is to send its state. It ends like
// any bulk stream.
//
// Errors: as OpenBulk.
func (t *Transport) OpenFetch(ctx context.Context, from Peer) (io.ReadWriteCloser, error) {
	t.mu.Lock()
	p := t.newPeer(from)
	t.mu.Unlock()
	return t.open(ctx, p, kindFetch)
}

// open opens a stream that serves one purpose.
func (t *Transport) open(ctx context.Context, p *peer, k kind) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	undo := context.AfterFunc(t.ctx, cancel)
	l, r, err := t.dial(ctx, p, k)
	if t.ctx.Err() != nil {
		err = ErrStopped
		if l != nil {
			closeNow(l.conn)
		}
	}
	if err != nil {
		undo()
		cancel()
		return nil, fmt.Errorf("transport: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { closeNow(l.conn) })
	return &bulk{Reader: r, Writer: l, close: func() error {
		undo()
		stop()
		cancel()
		return l.conn.Close()
	}}, nil
}

// bulk is a bulk stream on the side that opened it.
type bulk struct {
	io.Reader
	io.Writer
	close func() error
}

func (b *bulk) Close() error { return b.close() }

// ConnectedSince tells since when (on the monotonic clock) a peer is live: both streams to it and both streams from it
// are up, so that each side can reach the other by the address it has. ok is false if it is not.
func (t *Transport) ConnectedSince(id uint64) (since time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peersNow()[id]
	if p == nil || !p.live {
		return 0, false
	}
	return p.liveSince, true
}

// Stop ends all streams and waits until nothing of the transport runs any more, the handler's calls included.
func (t *Transport) Stop() {
	t.mu.Lock()
	t.stopped = true
	t.cancel()
	for _, in := range t.incoming {
		in.end(ErrStopped)
	}
	t.mu.Unlock()
	t.running.Wait()
}

// pause waits for d, until retry is signalled, or until ctx ends.
func (t *Transport) pause(ctx context.Context, d time.Duration, retry <-chan struct{}) {
	timer := t.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-retry:
	case <-ctx.Done():
	}
}

func (t *Transport) timeoutsOf(k kind) (read, write time.Duration) {
	if k == kindBulk || k == kindFetch {
		return t.o.BulkTimeout, t.o.BulkTimeout
	}
	return t.o.ReadTimeout, t.o.WriteTimeout
}

func (t *Transport) newLine(conn net.Conn, c *counters) *line {
	return &line{conn: conn, clock: t.o.Clock, sent: &c.sentBytes, received: &c.receivedBytes}
}

func idText(id uint64) string { return strconv.FormatUint(id, 16) }
