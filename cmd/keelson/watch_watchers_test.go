package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// line is one client, which the watchers on it share: one stream. It can be slow, stalled, cut or replaced.
//
// The official client reads a stream as fast as it can and keeps what its user has not read, so a user that pauses is no
// slow watcher to the member. A line is slow below the client: it lets the stream's messages wait, until no window is left.
type line struct {
	endpoint string
	pauseMax atomic.Int64 // nanoseconds to wait before each message, at most

	mu         sync.Mutex
	client     *clientv3.Client
	generation int           // how many clients came before
	flowing    chan struct{} // closed: messages are read
	conns      map[net.Conn]bool
	fragments  int
	broken     error // of the order of fragments
}

const windowBytes = 64 << 10 // the least that gRPC allows

func newLine(endpoint string) *line {
	l := &line{endpoint: endpoint, flowing: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(l.flowing)
	return l
}

// connected returns the client to use now, and its generation.
func (l *line) connected() (*clientv3.Client, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client == nil {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.endpoint}, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{
			grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: 10 * time.Second}),
			grpc.WithContextDialer(l.dial), grpc.WithChainStreamInterceptor(l.intercept),
		}})
		if err != nil {
			return nil, 0, err
		}
		l.client = c
	}
	return l.client, l.generation, nil
}

func (l *line) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.endpoint)
	if err == nil {
		l.mu.Lock()
		l.conns[c] = true
		l.mu.Unlock()
	}
	return c, err
}

func (l *line) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, opts...)
	if err != nil || method != pb.Watch_Watch_FullMethodName {
		return s, err
	}
	return &lineStream{ClientStream: s, line: l}, nil
}

// lineStream is the wire under the official client's watchers.
type lineStream struct {
	grpc.ClientStream
	line *line
	part *pb.WatchResponse // a piece that has to be continued
}

func (s *lineStream) RecvMsg(m any) error {
	s.line.wait(s.Context())
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	r, ok := m.(*pb.WatchResponse)
	if !ok {
		return fmt.Errorf("a %T on a watch stream", m)
	}
	s.line.saw(s.part, r)
	s.part = nil
	if r.Fragment {
		s.part = &pb.WatchResponse{WatchId: r.WatchId, Header: r.Header}
	}
	return nil
}

// wait lets the next message lie while the line is stalled or slow.
func (l *line) wait(ctx context.Context) {
	l.mu.Lock()
	flowing := l.flowing
	l.mu.Unlock()
	select {
	case <-flowing:
	case <-ctx.Done():
	}
	if pause := l.pauseMax.Load(); pause > 0 {
		time.Sleep(time.Duration(rand.Int64N(pause)))
	}
}

// saw checks the pieces of a response: together, of one watcher, under one header.
func (l *line) saw(part, r *pb.WatchResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Fragment {
		l.fragments++
	}
	if part != nil && (r.WatchId != part.WatchId || r.Created || r.Canceled || len(r.Events) == 0 || r.Header.GetRevision() != part.Header.GetRevision()) {
		l.broken = fmt.Errorf("a response of watcher %d at revision %d (%d events) came between the pieces of one of watcher %d at %d",
			r.WatchId, r.Header.GetRevision(), len(r.Events), part.WatchId, part.Header.GetRevision())
	}
}

// stall stops reading; the returned function goes on.
func (l *line) stall() (flow func()) {
	flowing := make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flowing = flowing
	return func() { close(flowing) }
}

// cut breaks the connection under the client, which then resumes its watches by itself.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

// replace closes the client; the next call of connected makes a new one.
func (l *line) replace() {
	l.mu.Lock()
	old := l.client
	l.client = nil
	l.generation++
	l.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// habit is how a watcher's sessions end, and where the next one starts.
type habit int

const (
	stays      habit = iota // never ends one by itself
	leaves                  // cancels, and comes back after its last event
	reconnects              // closes the client of its line, and comes back after its last event
	cuts                    // breaks the connection of its line, and stays
	wanders                 // cancels, and starts anew from a revision of the past, the floor, the future, or now
)

// watcher asks for a selection again and again, and records all it is told.
type watcher struct {
	recording
	storm    *storm
	line     *line
	rng      *rand.Rand
	habit    habit
	notify   bool
	fragment bool
	next     int64        // where to come back to
	seen     atomic.Int64 // everything up to this revision was told
}

func (w *watcher) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.session(ctx); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// session is one watch, from its start until the watcher leaves or is told to.
func (w *watcher) session(ctx context.Context) error {
	client, generation, err := w.line.connected()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if w.habit == wanders {
		w.next = w.wander()
	}
	start := note{kind: noteStarted, revision: w.next, floor: w.storm.floor.Load(), outages: w.storm.outages.ended(), fromNow: w.next == 0}
	options := w.options()
	channel := client.Watch(ctx, w.key, options...)
	if !start.fromNow {
		w.notes = append(w.notes, start)
	}
	patience := 3 + w.rng.IntN(40)
	for r := range channel {
		switch {
		case r.Created:
			start.revision = r.Header.Revision + 1
			w.notes = append(w.notes, start)
			continue
		case r.CompactRevision != 0:
			if !errors.Is(r.Err(), rpctypes.ErrCompacted) {
				return fmt.Errorf("compacted at %d: %w", r.CompactRevision, r.Err())
			}
			w.told(noteCompacted, r.CompactRevision, nil)
			w.next = r.CompactRevision
			w.storm.toldCompacted.Add(1)
			return nil
		case r.Err() != nil:
			if _, now, _ := w.line.connected(); now != generation || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("ended: %w", r.Err())
		case r.IsProgressNotify():
			w.told(noteProgress, r.Header.Revision, nil)
			w.seen.Store(max(w.seen.Load(), r.Header.Revision))
			w.storm.progress.Add(1)
		default:
			w.told(noteEvents, r.Header.Revision, r.Events)
			last := r.Events[len(r.Events)-1].Kv.ModRevision
			w.next = last + 1
			w.seen.Store(max(w.seen.Load(), last))
		}
		if patience--; patience > 0 || w.storm.draining.Load() {
			continue
		}
		patience = 3 + w.rng.IntN(40)
		switch w.habit {
		case leaves, wanders:
			return nil
		case reconnects:
			w.line.replace()
			return nil
		case cuts:
			w.line.cut()
		}
	}
	if _, now, _ := w.line.connected(); now != generation || ctx.Err() != nil {
		return nil
	}
	return errors.New("the channel was closed")
}

func (w *watcher) options() []clientv3.OpOption {
	options := []clientv3.OpOption{clientv3.WithRev(w.next)}
	add := func(wanted bool, o clientv3.OpOption) {
		if wanted {
			options = append(options, o)
		}
	}
	add(w.end == "\x00", clientv3.WithFromKey())
	add(w.end != "" && w.end != "\x00", clientv3.WithRange(w.end))
	add(w.noPut, clientv3.WithFilterPut())
	add(w.noDelete, clientv3.WithFilterDelete())
	add(w.previous, clientv3.WithPrevKV())
	add(w.fragment, clientv3.WithFragment())
	add(w.notify, clientv3.WithProgressNotify())
	add(w.next == 0, clientv3.WithCreatedNotify())
	return options
}

// wander chooses a start. Everything up to it has to be seen again before the watcher counts as having arrived.
func (w *watcher) wander() int64 {
	w.seen.Store(0)
	floor, last := w.storm.floor.Load(), w.storm.recorder.seen.Load()
	switch n := w.rng.IntN(10); {
	case n < 1:
		return 0
	case n < 3:
		return max(1, floor)
	case n < 4:
		return last + 1 + w.rng.Int64N(30)
	case n < 5:
		return 1 + w.rng.Int64N(max(1, last))
	default:
		return max(1, floor) + w.rng.Int64N(max(1, last-floor))
	}
}

func (w *watcher) told(kind noteKind, revision int64, events []*clientv3.Event) {
	n := note{kind: kind, revision: revision, events: events, outages: w.storm.outages.begun(), floor: w.storm.proposedFloor.Load()}
	if kind == noteCompacted {
		n.wasProposed = w.storm.proposed(revision)
	}
	w.notes = append(w.notes, n)
}

// crew makes the lines and the watchers of a storm.
func (s *storm) crew(t *testing.T) {
	add := func(l *line, h habit, name string, what selection, more func(*watcher)) *watcher {
		w := &watcher{recording: recording{name: name, selection: what}, storm: s, line: l, habit: h, next: 1}
		w.rng = rand.New(rand.NewPCG(s.seed, uint64(100+len(s.watchers))))
		if more != nil {
			more(w)
		}
		s.watchers = append(s.watchers, w)
		return w
	}
	fresh := func() *line {
		l := newLine(s.process.Endpoint)
		s.lines = append(s.lines, l)
		t.Cleanup(l.replace)
		return l
	}
	all, letter, single := keyRange{"\x00", "\x00"}, keyRange{"b/", "b0"}, keyRange{key: "a/03"}
	inPieces := func(w *watcher) { w.fragment = true }
	notified := func(w *watcher) { w.notify = true }
	full := func(w *watcher) { w.fragment, w.notify = true, true }
	s.recorder = add(fresh(), stays, "recorder", selection{keyRange: all}, nil)

	steady := fresh()
	add(steady, stays, "steady, all, previous, fragments", selection{keyRange: all, previous: true}, full)
	add(steady, stays, "steady, prefix", selection{keyRange: letter}, notified)
	add(steady, stays, "steady, range, previous", selection{keyRange: keyRange{"a/05", "b/05"}, previous: true}, nil)
	add(steady, stays, "steady, one key, previous", selection{keyRange: single, previous: true}, notified)
	add(steady, stays, "steady, from a key, no puts", selection{keyRange: keyRange{"b/", "\x00"}, noPut: true, previous: true}, notified)
	add(steady, stays, "steady, prefix, no deletes", selection{keyRange: letter, noDelete: true}, nil)
	add(steady, stays, "steady, nothing", selection{keyRange: all, noPut: true, noDelete: true}, notified)
	add(steady, stays, "steady, no such key", selection{keyRange: keyRange{key: "m"}}, notified)
	add(steady, stays, "steady, prefix, from now", selection{keyRange: letter}, func(w *watcher) { w.next = 0 })

	slow := fresh()
	slow.pauseMax.Store(int64(20 * time.Millisecond))
	add(slow, stays, "slow, all", selection{keyRange: all}, inPieces)
	add(slow, stays, "slow, prefix, previous", selection{keyRange: letter, previous: true}, notified)
	add(slow, stays, "slow, one key", selection{keyRange: single}, nil)
	s.stalling = fresh()
	add(s.stalling, stays, "stalled, all, previous", selection{keyRange: all, previous: true}, full)
	add(s.stalling, stays, "stalled, range", selection{keyRange: keyRange{"a/05", "b/05"}}, notified)

	leaving := fresh()
	add(leaving, leaves, "leaving, all, previous", selection{keyRange: all, previous: true}, inPieces)
	add(leaving, leaves, "leaving, prefix", selection{keyRange: letter}, notified)
	reconnecting := fresh()
	add(reconnecting, reconnects, "reconnecting, all", selection{keyRange: all}, full)
	add(reconnecting, stays, "reconnected, prefix, previous", selection{keyRange: letter, previous: true}, nil)
	cutting := fresh()
	add(cutting, cuts, "cut, all, previous", selection{keyRange: all, previous: true}, inPieces)
	add(cutting, stays, "cut, one key", selection{keyRange: single}, notified)
	wandering := fresh()
	add(wandering, wanders, "wandering, all, previous", selection{keyRange: all, previous: true}, inPieces)
	add(wandering, wanders, "wandering, prefix", selection{keyRange: letter}, nil)
	add(wandering, wanders, "wandering, range, no puts", selection{keyRange: keyRange{"a/05", "b/05"}, noPut: true}, notified)
}
