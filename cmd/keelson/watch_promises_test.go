package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

var (
	watchRounds = flag.Int("watch-rounds", 1, "how many members TestWatchPromises tries, one after the other")
	watchWrites = flag.Int64("watch-writes", 1500, "how many requests write in a round of TestWatchPromises")
	watchSeed   = flag.Uint64("watch-seed", 0, "seed of TestWatchPromises' choices; 0: from the clock")
)

const (
	stormWriters = 5
	// stormPatience is how long a round may take before it counts as stuck.
	stormPatience = 4 * time.Minute
)

// TestWatchPromises lets many watchers of many kinds watch what many writers do, while revisions are compacted and the
// member is stopped once and killed once. At the end every watcher's recording must agree with what happened: ordered,
// unique, complete, whole revisions, right previous pairs, progress never early, and a compacted revision never skipped
// in silence.
func TestWatchPromises(t *testing.T) {
	seed := seedOrClock(*watchSeed)
	for round := range *watchRounds {
		t.Logf("replay the choices with -watch-seed=%d", seed+uint64(round))
		watchRound(t, seed+uint64(round))
		if t.Failed() {
			return
		}
	}
}

func watchRound(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), stormPatience)
	defer cancel()
	// Small requests, so that a transaction of several large pairs is fragmented once its previous pairs are added.
	p := testkit.NewProcess(t, "--watch-progress-notify-interval=150ms", "--max-request-bytes=786432")
	p.Start()
	s := &storm{process: p, seed: seed, outages: newOutages()}
	s.floor.Store(-1)
	s.proposedFloor.Store(-1)
	s.crew(t)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	recording, stopRecording := context.WithCancel(ctx)
	defer stopRecording()
	s.start(t, watching, recording)

	s.writeThroughOutages(t, ctx)
	c := p.Client()
	s.finale(t, ctx, c)
	final := s.drain(t, ctx, c)
	stopWatching()
	s.watching.Wait()
	s.awaitRecorder(t, ctx, c)
	stopRecording()
	s.recording.Wait()
	s.verify(t, ctx, c, final)
}

// storm is one member with writers, watchers and what they all know.
type storm struct {
	process *testkit.Process
	seed    uint64
	outages *outages

	watchers  []*watcher
	recorder  *watcher // of all keys, from the first revision on; nothing is compacted that it has not seen
	lines     []*line
	stalling  *line
	watching  sync.WaitGroup // all but the recorder
	recording sync.WaitGroup

	floor         atomic.Int64 // the highest compaction that succeeded
	proposedFloor atomic.Int64 // the highest that was asked for
	draining      atomic.Bool
	written       atomic.Int64
	toldCompacted atomic.Int64
	progress      atomic.Int64

	mu       sync.Mutex
	proposal map[int64]bool // all floors asked for
	acks     []ack
	audits   []audit
}

// audit is what a read of the past showed.
type audit struct {
	keyRange
	revision int64
	pairs    []*mvccpb.KeyValue
}

func (s *storm) start(t *testing.T, watching, recording context.Context) {
	for _, w := range s.watchers {
		group, ctx := &s.watching, watching
		if w == s.recorder {
			group, ctx = &s.recording, recording
		}
		group.Go(func() {
			if err := w.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// writeThroughOutages runs writers, compactions, audits and progress requests until enough is written; after a third the
// member is stopped, after two thirds it is killed.
func (s *storm) writeThroughOutages(t *testing.T, ctx context.Context) {
	working, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for i := range stormWriters {
		all.Go(func() { newStormWriter(s, i).run(working) })
	}
	for i, work := range []func(context.Context, *clientv3.Client, *rand.Rand){s.compact, s.audit, s.requestProgress} {
		all.Go(func() { s.repeat(working, uint64(50+i), work) })
	}
	s.awaitWritten(t, ctx, *watchWrites/3)
	s.outage(func() { s.process.Stop() })
	flow := s.stalling.stall()
	s.awaitWritten(t, ctx, 2**watchWrites/3)
	flow()
	s.outage(s.process.Kill)
	s.awaitWritten(t, ctx, *watchWrites)
}

func (s *storm) outage(end func()) {
	s.outages.begin()
	end()
	s.process.Start()
	s.outages.end()
}

func (s *storm) awaitWritten(t *testing.T, ctx context.Context, n int64) {
	t.Helper()
	for s.written.Load() < n {
		if ctx.Err() != nil {
			t.Fatalf("%d writes succeeded, want %d", s.written.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// repeat does a piece of work over and over, with pauses, and with a new connection after each outage.
func (s *storm) repeat(ctx context.Context, stream uint64, work func(context.Context, *clientv3.Client, *rand.Rand)) {
	rng := rand.New(rand.NewPCG(s.seed, stream))
	for ctx.Err() == nil {
		s.outages.await(ctx)
		c, begun := s.process.Client(), s.outages.begun()
		for ctx.Err() == nil && s.outages.begun() == begun {
			work(ctx, c, rng)
			time.Sleep(time.Duration(20+rng.IntN(60)) * time.Millisecond)
		}
		c.Close()
	}
}

// compact moves the floor: often far behind the newest revision, sometimes to the newest that the recorder has seen.
func (s *storm) compact(ctx context.Context, c *clientv3.Client, rng *rand.Rand) {
	floor := s.recorder.seen.Load()
	if rng.IntN(4) > 0 {
		floor -= rng.Int64N(300)
	}
	if floor <= s.proposedFloor.Load() || floor < 2 {
		return
	}
	s.compactTo(ctx, c, floor, rng.IntN(2) == 0)
}

func (s *storm) compactTo(ctx context.Context, c *clientv3.Client, floor int64, physical bool) error {
	s.mu.Lock()
	if s.proposal == nil {
		s.proposal = map[int64]bool{}
	}
	s.proposal[floor] = true
	s.mu.Unlock()
	s.proposedFloor.Store(floor)
	var options []clientv3.CompactOption
	if physical {
		options = append(options, clientv3.WithCompactPhysical())
	}
	_, err := c.Compact(ctx, floor, options...)
	if err == nil {
		s.floor.Store(floor)
	}
	return err
}

func (s *storm) proposed(floor int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proposal[floor]
}

// audit reads a prefix as it stood at some revision, to be compared with what the watchers told.
func (s *storm) audit(ctx context.Context, c *clientv3.Client, rng *rand.Rand) {
	floor, last := max(2, s.floor.Load()), s.recorder.seen.Load()
	if last < floor {
		return
	}
	a := audit{keyRange: keyRange{"a/", "c0"}, revision: floor + rng.Int64N(last-floor+1)}
	r, err := c.Get(ctx, a.key, clientv3.WithRange(a.end), clientv3.WithRev(a.revision))
	if err != nil {
		return // compacted meanwhile, or an outage
	}
	a.pairs = r.Kvs
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audits = append(s.audits, a)
}

// requestProgress asks on a line's own stream, so that the answer has to queue behind the line's events.
func (s *storm) requestProgress(ctx context.Context, _ *clientv3.Client, rng *rand.Rand) {
	s.askProgress(ctx, s.lines[rng.IntN(len(s.lines))])
}

func (s *storm) askProgress(ctx context.Context, l *line) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c, _, err := l.connected(); err == nil {
		c.RequestProgress(ctx) // an error is an outage; that answers come is checked at the end
	}
}

// finale does once what chance may have left out: two large transactions, the second of which is fragmented for those
// that see its previous pairs, and starts below, at and above a floor.
func (s *storm) finale(t *testing.T, ctx context.Context, c *clientv3.Client) {
	for range 2 {
		if err := s.large(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitRecorder(t, ctx, c)
	if floor := s.recorder.seen.Load() - 3; floor > s.proposedFloor.Load() {
		if err := s.compactTo(ctx, c, floor, true); err != nil {
			t.Fatal(err)
		}
	}
	floor := s.floor.Load()
	for _, start := range []int64{1, floor - 1, floor, floor + 1} {
		ctx, cancel := context.WithCancel(ctx)
		r := <-c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(start))
		cancel()
		if compacted := start < floor; compacted != errors.Is(r.Err(), rpctypes.ErrCompacted) || compacted && r.CompactRevision != floor {
			t.Errorf("start at %d with floor %d: %v, compact revision %d", start, floor, r.Err(), r.CompactRevision)
		} else if !compacted && (len(r.Events) == 0 || r.Events[0].Kv.ModRevision != start) {
			t.Errorf("start at %d with floor %d: %d events", start, floor, len(r.Events))
		}
	}
}

// drain lets everybody catch up with the newest revision, which is returned: by events, or by being told of progress.
func (s *storm) drain(t *testing.T, ctx context.Context, c *clientv3.Client) int64 {
	s.draining.Store(true)
	for _, l := range s.lines {
		l.pauseMax.Store(0)
	}
	final := s.bump(t, ctx, c)
	for i := 1; ; i++ {
		var late []string
		for _, w := range s.watchers {
			if w.seen.Load() < final {
				late = append(late, w.name)
			}
		}
		if len(late) == 0 {
			return final
		}
		if t.Failed() || ctx.Err() != nil {
			t.Fatalf("revision %d was not reached by %s", final, strings.Join(late, "; "))
		}
		if i%10 == 0 {
			s.bump(t, ctx, c) // a watcher that has come back after the newest revision gets no answer before the next one
		}
		for _, l := range s.lines {
			s.askProgress(ctx, l)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *storm) bump(t *testing.T, ctx context.Context, c *clientv3.Client) int64 {
	t.Helper()
	r, err := c.Put(ctx, "z", "")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// awaitRecorder waits until the recorder has seen the newest revision.
func (s *storm) awaitRecorder(t *testing.T, ctx context.Context, c *clientv3.Client) {
	t.Helper()
	newest := s.bump(t, ctx, c)
	for s.recorder.seen.Load() < newest {
		if t.Failed() || ctx.Err() != nil {
			t.Fatalf("the recorder has seen revision %d, want %d", s.recorder.seen.Load(), newest)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *storm) verify(t *testing.T, ctx context.Context, c *clientv3.Client, final int64) {
	var events []*clientv3.Event
	for _, n := range s.recorder.notes {
		if n.kind == noteCompacted {
			t.Fatalf("the recorder was told that %d is compacted", n.revision)
		}
		events = append(events, n.events...)
	}
	history, err := newChronicle(events)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range s.watchers {
		if err := w.check(history, final); err != nil {
			t.Error(err)
		}
	}
	for _, a := range s.acks {
		if err := a.check(history); err != nil {
			t.Error(err)
		}
	}
	floor := s.floor.Load()
	for i := range int64(10) {
		s.audits = append(s.audits, s.read(t, ctx, c, floor+(final-floor)*i/9))
	}
	for _, a := range s.audits {
		a.check(t, history)
	}
	fragments := 0
	for _, l := range s.lines {
		fragments += l.fragments
		if l.broken != nil {
			t.Error(l.broken)
		}
	}
	if fragments == 0 || s.progress.Load() == 0 || len(s.acks) == 0 {
		t.Errorf("%d fragments, %d notices of progress, %d acknowledged changes: none missing", fragments, s.progress.Load(), len(s.acks))
	}
	t.Logf("%d revisions, floor %d, %d acknowledged changes, %d audits, told compacted %d times, progress %d times, %d fragments",
		history.last(), floor, len(s.acks), len(s.audits), s.toldCompacted.Load(), s.progress.Load(), fragments)
}

// read is an audit of all keys.
func (s *storm) read(t *testing.T, ctx context.Context, c *clientv3.Client, revision int64) audit {
	t.Helper()
	a := audit{keyRange: keyRange{"\x00", "\x00"}, revision: revision}
	r, err := c.Get(ctx, a.key, clientv3.WithRange(a.end), clientv3.WithRev(revision))
	if err != nil {
		t.Fatalf("read at %d: %v", revision, err)
	}
	a.pairs = r.Kvs
	return a
}

func (a audit) check(t *testing.T, history *chronicle) {
	t.Helper()
	want := history.state(a.keyRange, a.revision)
	for i := range max(len(want), len(a.pairs)) {
		var got, expected *mvccpb.KeyValue
		if i < len(a.pairs) {
			got = a.pairs[i]
		}
		if i < len(want) {
			expected = want[i]
		}
		if !samePair(got, expected) {
			t.Errorf("at revision %d, pair %d of [%q, %q): read %s, the events say %s", a.revision, i, a.key, a.end, show(got), show(expected))
			return
		}
	}
}

// large puts pairs of nearly as many bytes as one request may have.
func (s *storm) large(ctx context.Context, c *clientv3.Client) error {
	var ops []clientv3.Op
	for _, key := range []string{"x/0", "x/1", "x/2", "x/3", "x/4", "x/5"} {
		ops = append(ops, clientv3.OpPut(key, string(bytes.Repeat([]byte{'x'}, 120_000))))
	}
	r, err := c.Txn(ctx).Then(ops...).Commit()
	if err == nil {
		s.acknowledge(ack{revision: r.Header.Revision, ops: ops})
	}
	return err
}

func (s *storm) acknowledge(a ack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks = append(s.acks, a)
}
