package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

var (
	chaosRounds   = flag.Int("chaos-rounds", 2, "how many clusters TestChaos tries at least, one after the other")
	chaosSeed     = flag.Uint64("chaos-seed", 0, "seed of TestChaos's choices; 0: from the clock")
	chaosFaults   = flag.Int("chaos-faults", 8, "faults in a round of TestChaos")
	chaosDuration = flag.Duration("chaos-duration", 0, "how long TestChaos goes on with new rounds")
)

const (
	chaosWatchers = 3
	chaosLessees  = 2
)

// TestChaos puts clients on every member of a cluster while its members are killed, paused, cut off, slowed down, moved from
// the lead, added, replaced and removed. Then one order of all operations has to explain every answer, every acknowledged
// write has to be there, every watcher has to have seen every event once and in order, no lease may have run out early
// and all have to have run out in the end, and all members have to hold the same.
func TestChaos(t *testing.T) {
	seed, began := seedOrClock(*chaosSeed), time.Now()
	var sum tally
	for round := 0; round < *chaosRounds || time.Since(began) < *chaosDuration; round++ {
		seed := seed + uint64(round)
		ok := t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) { // members end with their round
			c := newChaos(t, seed)
			c.run()
			c.judge()
			sum.add(c)
			if !t.Failed() {
				os.RemoveAll(c.logs)
			}
		})
		t.Logf("after %v: %v", time.Since(began).Round(time.Second), sum)
		if !ok {
			t.Fatalf("replay the choices with -chaos-seed=%d -chaos-rounds=1 -chaos-faults=%d", seed, *chaosFaults)
		}
	}
}

// tally is what all rounds have gone through.
type tally struct {
	histories, operations, unanswered, events, leases int
	faults                                            map[string]int
}

func (s *tally) add(c *chaos) {
	if s.faults == nil {
		s.faults = map[string]int{}
	}
	s.histories++
	s.operations += len(c.world.history)
	s.unanswered += c.world.unanswered
	s.events += len(c.reference)
	s.leases += int(c.leases.Load())
	for name, n := range c.done {
		s.faults[name] += n
	}
}

func (s tally) String() string {
	text := fmt.Sprintf("%d histories, %d operations, %d of them without an answer, %d events, %d leases; faults:",
		s.histories, s.operations, s.unanswered, s.events, s.leases)
	for i, name := range slices.Sorted(maps.Keys(s.faults)) {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(" %s %d", name, s.faults[name])
	}
	return text
}

// chaos is one cluster in trouble.
type chaos struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand // of the faults alone: they are the same for the same seed
	lab   *testkit.Lab
	logs  string // a directory with all that the members have logged
	world *registerWorld
	watchLog
	leaseLog

	done   map[string]int     // faults, by name
	draw   uint64             // a number that a fault may use
	down   []*testkit.Process // to be started when a fault ends
	paused []*testkit.Process // to be resumed then

	mu      sync.Mutex
	serving []*testkit.Process // members that clients may turn to
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0xc4a05)), done: map[string]int{}}
	c.logs = filepath.Join(t.ArtifactDir(), "logs")
	if err := os.MkdirAll(c.logs, 0o755); err != nil {
		t.Fatal(err)
	}
	members := 3
	if c.rng.IntN(4) == 0 {
		members = 5
	}
	c.lab = testkit.NewLab(t, members, append([]string{"--snapshot-catchup-entries=10", "--strict-reconfig-check=false"}, testkit.FastArgs...)...)
	for _, p := range c.lab.Members {
		c.keepLog(p)
	}
	c.lab.Start()
	c.serve(c.lab.Members)
	c.world = &registerWorld{t: t, connect: c.anybody, outages: newOutages(), began: time.Now()}
	return c
}

// keepLog lets a member log to a file as well, which outlives its restarts.
func (c *chaos) keepLog(p *testkit.Process) {
	p.ExtraArgs = append(slices.Clone(p.ExtraArgs), "--log-outputs=stderr,"+filepath.Join(c.logs, p.Name+".log"))
}

// serve says which members clients may turn to from now on.
func (c *chaos) serve(members []*testkit.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = slices.Clone(members)
}

// anybody connects to one of the members that there are now.
func (c *chaos) anybody(rng *rand.Rand) *clientv3.Client {
	c.mu.Lock()
	p := c.serving[rng.IntN(len(c.serving))]
	c.mu.Unlock()
	return p.Client()
}

func (c *chaos) run() {
	var clients, watchers sync.WaitGroup
	defer watchers.Wait()
	defer clients.Wait()
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range linClients {
		clients.Go(func() { c.world.newClient(i, c.seed).run(ctx) })
	}
	for i := range chaosWatchers {
		watchers.Go(func() { c.watch(watching, i, rand.New(rand.NewPCG(c.seed, uint64(100+i)))) })
	}
	for i := range chaosLessees {
		clients.Go(func() { c.keepLeases(ctx, i, rand.New(rand.NewPCG(c.seed, uint64(200+i)))) })
	}
	for range *chaosFaults {
		time.Sleep(time.Duration(100+c.rng.IntN(300)) * time.Millisecond)
		c.fault()
	}
	c.awaitProgress()
	cancel()
	clients.Wait()
	c.readAll()
	c.lab.Agree()
	c.finishWatches(stopWatching, &watchers)
	c.awaitExpiry()
	c.lab.Agree()
}

// awaitProgress waits until clients get answers again, as they must once nothing is wrong any more.
func (c *chaos) awaitProgress() {
	c.world.await(within(c.t), c.world.succeeded.Load()+20)
}

// readAll ends the history with what is there.
func (c *chaos) readAll() {
	last := c.world.newClient(linClients, c.seed)
	for key := range linKeys {
		if !last.do(within(c.t), registerInput{kind: registerGet, key: registerKey(key)}) {
			c.t.Fatalf("the last read of %s got no answer", registerKey(key))
		}
	}
}

// judge looks at what everybody has seen.
func (c *chaos) judge() {
	c.judgeWatches()
	for _, op := range c.world.history {
		in, out := op.Input.(registerInput), op.Output.(registerOutput)
		if !out.answered || !out.succeeded || in.kind == registerGet || out.revision <= c.compacted {
			continue
		}
		if got, ok := c.changes[out.revision]; !ok || got != (change{in.key, in.value}) {
			c.t.Errorf("revision %d was acknowledged as %s=%q, and changed %s=%q", out.revision, in.key, in.value, got.key, got.value)
		}
	}
	result, info := porcupine.CheckOperationsVerbose(registers, c.world.history, linConclude)
	if result == porcupine.Ok {
		return
	}
	picture := filepath.Join(c.t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(registers, info, picture); err != nil {
		c.t.Error(err)
	}
	c.t.Errorf("%d operations: %v, want %v (run with -artifacts to keep %s)", len(c.world.history), result, porcupine.Ok, picture)
}
