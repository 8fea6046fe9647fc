package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

var (
	linRounds = flag.Int("lin-rounds", 1, "how many members TestLinearizability tries, one after the other")
	linSeed   = flag.Uint64("lin-seed", 0, "seed of TestLinearizability's choices; 0: from the clock")
)

const (
	linClients = 6
	linKeys    = 3
	linKills   = 4
	// linBetween is how many operations succeed between two kills, at least.
	linBetween = 200
	// linConclude is how long the search for an order may take. Not to conclude is a failure.
	linConclude = 2 * time.Minute
)

// TestLinearizability lets clients read and write a few keys while the member is killed and restarted, and looks for one
// order of all operations that explains every answer. An operation that got no answer may have taken effect at any time
// after it was sent, or never.
func TestLinearizability(t *testing.T) {
	seed := seedOrClock(*linSeed)
	for round := range *linRounds {
		seed := seed + uint64(round)
		t.Logf("replay the choices with -lin-seed=%d", seed)
		history := observeRegisters(t, seed)
		result, info := porcupine.CheckOperationsVerbose(registers, history, linConclude)
		if result == porcupine.Ok {
			continue
		}
		picture := filepath.Join(t.ArtifactDir(), fmt.Sprintf("history-%d.html", seed))
		if err := porcupine.VisualizePath(registers, info, picture); err != nil {
			t.Error(err)
		}
		t.Fatalf("%d operations: %v, want %v (run with -artifacts to keep %s)", len(history), result, porcupine.Ok, picture)
	}
}

func seedOrClock(seed uint64) uint64 {
	if seed == 0 {
		return uint64(time.Now().UnixNano())
	}
	return seed
}

// observeRegisters runs one member under clients and kills, and returns what the clients saw.
func observeRegisters(t *testing.T, seed uint64) []porcupine.Operation {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rng := rand.New(rand.NewPCG(seed, 0))
	p := testkit.NewProcess(t)
	p.Start()
	w := &registerWorld{t: t, connect: func(*rand.Rand) *clientv3.Client { return p.Client() }, outages: newOutages(), began: time.Now()}
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for i := range linClients {
		all.Go(func() { w.newClient(i, seed).run(running) })
	}
	for range linKills {
		w.await(ctx, w.succeeded.Load()+linBetween)
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		w.outages.begin()
		p.Kill()
		p.Start()
		w.outages.end()
	}
	w.await(ctx, w.succeeded.Load()+linBetween)
	stop()
	all.Wait()
	last := w.newClient(linClients, seed)
	for key := range linKeys {
		if !last.do(ctx, registerInput{kind: registerGet, key: registerKey(key)}) {
			t.Fatalf("the last read of %s got no answer", registerKey(key))
		}
	}
	t.Logf("%d operations, %d of them without an answer", len(w.history), w.unanswered)
	return w.history
}

// registerWorld is a member or a cluster, and all that its clients have seen of it.
type registerWorld struct {
	t         *testing.T
	connect   func(*rand.Rand) *clientv3.Client
	outages   *outages
	began     time.Time // history counts nanoseconds since then, by the monotonic clock
	succeeded atomic.Int64

	mu         sync.Mutex
	history    []porcupine.Operation
	unanswered int
}

// await returns when n operations have succeeded.
func (w *registerWorld) await(ctx context.Context, n int64) {
	w.t.Helper()
	for w.succeeded.Load() < n {
		if ctx.Err() != nil {
			w.t.Fatalf("%d operations succeeded, want %d: %v", w.succeeded.Load(), n, ctx.Err())
		}
		time.Sleep(time.Millisecond)
	}
}

func registerKey(n int) string { return fmt.Sprint("register/", n) }

// registerClient is one sequential client with a connection of its own.
type registerClient struct {
	world *registerWorld
	id    int
	rng   *rand.Rand
	etcd  *clientv3.Client
	wrote int
	known map[string]registerOutput // the last it saw of a key, by a read
}

func (w *registerWorld) newClient(id int, seed uint64) *registerClient {
	rng := rand.New(rand.NewPCG(seed, uint64(id)+1))
	return &registerClient{world: w, id: id, rng: rng, etcd: w.connect(rng), known: map[string]registerOutput{}}
}

// run works until ctx ends. After an operation without an answer it comes back with a new connection and reads first, so
// that few writes stay open.
func (c *registerClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		if c.do(ctx, c.choose()) {
			continue
		}
		for ctx.Err() == nil {
			c.etcd.Close()
			c.world.outages.await(ctx)
			c.etcd = c.world.connect(c.rng)
			if c.do(ctx, registerInput{kind: registerGet, key: registerKey(c.rng.IntN(linKeys))}) {
				break
			}
		}
	}
}

func (c *registerClient) choose() registerInput {
	in := registerInput{key: registerKey(c.rng.IntN(linKeys))}
	switch n := c.rng.IntN(100); {
	case n < 35:
		in.kind = registerGet
		return in
	case n < 42:
		in.kind = registerDelete
		return in
	case n < 65:
		in.kind = registerPut
	default:
		seen := c.known[in.key]
		in.kind, in.expect, in.expectRevision, in.byRevision = registerSwap, seen.value, seen.modified, c.rng.IntN(2) == 0
	}
	c.wrote++
	in.value = fmt.Sprintf("%d.%d", c.id, c.wrote) // nobody else writes it, ever
	return in
}

// do does one operation, records it, and reports whether it was answered.
func (c *registerClient) do(ctx context.Context, in registerInput) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	w := c.world
	call := time.Since(w.began)
	out, err := c.send(ctx, in)
	done := time.Since(w.began)
	op := porcupine.Operation{ClientId: c.id, Input: in, Output: out, Call: int64(call), Return: int64(done)}
	if err != nil {
		op.Output, op.Return = registerOutput{}, math.MaxInt64
	} else {
		w.succeeded.Add(1)
		c.known[in.key] = out
		if in.kind != registerGet && in.kind != registerSwap || out.succeeded {
			delete(c.known, in.key)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.unanswered++
		if in.kind == registerGet {
			return false // says nothing and did nothing
		}
	}
	w.history = append(w.history, op)
	return err == nil
}

func (c *registerClient) send(ctx context.Context, in registerInput) (registerOutput, error) {
	out := registerOutput{answered: true}
	switch in.kind {
	case registerGet:
		r, err := c.etcd.Get(ctx, in.key)
		if err != nil {
			return out, err
		}
		out.revision = r.Header.Revision
		out.read(r.Kvs)
	case registerPut:
		r, err := c.etcd.Put(ctx, in.key, in.value, clientv3.WithPrevKV())
		if err != nil {
			return out, err
		}
		out.revision, out.succeeded = r.Header.Revision, true
		if r.PrevKv != nil {
			out.value, out.modified = string(r.PrevKv.Value), r.PrevKv.ModRevision
		}
	case registerDelete:
		r, err := c.etcd.Delete(ctx, in.key, clientv3.WithPrevKV())
		if err != nil {
			return out, err
		}
		out.revision, out.succeeded = r.Header.Revision, r.Deleted == 1
		out.read(r.PrevKvs)
	case registerSwap:
		r, err := c.etcd.Txn(ctx).If(in.compare()).Then(clientv3.OpPut(in.key, in.value)).Else(clientv3.OpGet(in.key)).Commit()
		if err != nil {
			return out, err
		}
		out.revision, out.succeeded = r.Header.Revision, r.Succeeded
		if !r.Succeeded {
			out.read(r.Responses[0].GetResponseRange().Kvs)
		}
	}
	return out, nil
}

// outages tells clients when to come back.
type outages struct {
	mu    sync.Mutex
	count int64         // how many have begun
	past  int64         // how many of them have ended
	over  chan struct{} // closed while the member serves
}

func newOutages() *outages {
	o := &outages{over: make(chan struct{})}
	close(o.over)
	return o
}

func (o *outages) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	o.over = make(chan struct{})
}

func (o *outages) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.past++
	close(o.over)
}

// await returns when the member serves, or ctx has ended.
func (o *outages) await(ctx context.Context) {
	o.mu.Lock()
	over := o.over
	o.mu.Unlock()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

func (o *outages) begun() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}

func (o *outages) ended() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.past
}
