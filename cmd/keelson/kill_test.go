package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

var (
	kills    = flag.Int("kills", 12, "how often TestKillUnderLoad kills the member")
	killSeed = flag.Uint64("kill-seed", 0, "seed of TestKillUnderLoad's moments; 0: from the clock")
)

// TestKillUnderLoad kills the process with SIGKILL, again and again, while clients write, and checks after each restart
// that everything that was acknowledged is there, that nothing is there that nobody wrote, and that revisions only grow.
func TestKillUnderLoad(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -kill-seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	p := testkit.NewProcess(t)
	h := newHistory(8)
	for i := range *kills {
		p.Start()
		h.check(t, p, i)
		h.writeUntilKilled(p, time.Duration(20+rng.IntN(180))*time.Millisecond)
	}
	p.Start()
	h.check(t, p, *kills)
	t.Logf("%d kills, %d acknowledged writes", *kills, h.acknowledged.Load())
}

// history is what a few writers know: each counts up in a key of its own, and keeps a log of one key for each write.
type history struct {
	writers      []*writer
	acknowledged atomic.Int64
	revision     atomic.Int64 // the highest one seen in a reply
}

type writer struct {
	id        int
	attempted int          // the highest value sent
	acked     map[int]bool // the values acknowledged
}

func newHistory(writers int) *history {
	h := &history{}
	for i := range writers {
		h.writers = append(h.writers, &writer{id: i, acked: map[int]bool{}})
	}
	return h
}

func (w *writer) counter() string     { return fmt.Sprintf("counter/%02d", w.id) }
func (w *writer) record(n int) string { return fmt.Sprintf("record/%02d/%08d", w.id, n) }
func (w *writer) records() string     { return fmt.Sprintf("record/%02d/", w.id) }
func (w *writer) number(key string) int {
	n, _ := strconv.Atoi(key[len(w.records()):])
	return n
}

// writeUntilKilled lets all writers write for a while, then kills the member under them.
func (h *history) writeUntilKilled(p *testkit.Process, after time.Duration) {
	c := p.Client()
	defer c.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, w := range h.writers {
		running.Add(1)
		go func() {
			defer running.Done()
			for ctx.Err() == nil && w.write(ctx, c, h) {
			}
		}()
	}
	time.Sleep(after)
	p.Kill()
	cancel()
	running.Wait()
}

// write writes the next value: the counter and a record of it in one transaction, so that they can be compared later.
func (w *writer) write(ctx context.Context, c *clientv3.Client, h *history) bool {
	w.attempted++
	n := w.attempted
	r, err := c.Txn(ctx).Then(
		clientv3.OpPut(w.counter(), strconv.Itoa(n)),
		clientv3.OpPut(w.record(n), "x"),
	).Commit()
	if err != nil {
		return false
	}
	w.acked[n] = true
	h.acknowledged.Add(1)
	for {
		old := h.revision.Load()
		if r.Header.Revision <= old || h.revision.CompareAndSwap(old, r.Header.Revision) {
			return true
		}
	}
}

func (h *history) check(t *testing.T, p *testkit.Process, round int) {
	t.Helper()
	c := p.Client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, w := range h.writers {
		if err := w.check(ctx, c, h.revision.Load()); err != nil {
			t.Fatalf("after kill %d, writer %d (acknowledged %d, attempted %d): %v", round, w.id, len(w.acked), w.attempted, err)
		}
	}
}

func (w *writer) check(ctx context.Context, c *clientv3.Client, revision int64) error {
	r, err := c.Get(ctx, w.records(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	if r.Header.Revision < revision {
		return fmt.Errorf("revision went back from %d to %d", revision, r.Header.Revision)
	}
	present := make(map[int]bool, len(r.Kvs))
	highest := 0
	for _, kv := range r.Kvs {
		n := w.number(string(kv.Key))
		if n < 1 || n > w.attempted {
			return fmt.Errorf("%s was never written", kv.Key)
		}
		present[n] = true
		highest = max(highest, n)
	}
	counter, err := w.readCounter(ctx, c)
	if err != nil {
		return err
	}
	if counter != highest {
		return fmt.Errorf("counter says %d, the last record is %d: half a transaction", counter, highest)
	}
	for n := range w.acked {
		if !present[n] {
			return fmt.Errorf("%d was acknowledged and is not there", n)
		}
	}
	return nil
}

func (w *writer) readCounter(ctx context.Context, c *clientv3.Client) (int, error) {
	r, err := c.Get(ctx, w.counter())
	if err != nil || len(r.Kvs) == 0 {
		return 0, err
	}
	n, err := strconv.Atoi(string(r.Kvs[0].Value))
	if err != nil {
		return 0, errors.New("counter is " + string(r.Kvs[0].Value))
	}
	return n, nil
}
