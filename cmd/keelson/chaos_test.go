package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

var (
	chaosRounds = flag.Int("chaos-rounds", 1, "how many clusters TestChaos tries, one after the other")
	chaosSeed   = flag.Uint64("chaos-seed", 0, "seed of TestChaos's choices; 0: from the clock")
	chaosFaults = flag.Int("chaos-faults", 8, "faults in a round")
)

// TestChaos puts clients on every member of a cluster while its members are killed, paused, cut off, slowed down, moved from
// the lead, added and removed. Then one order of all operations has to explain every answer, every watcher has to have
// seen every event once and in order, no lease may have run out early, and all members have to hold the same.
func TestChaos(t *testing.T) {
	seed := seedOrClock(*chaosSeed)
	faults := map[string]int{}
	operations, events := 0, 0
	for round := range *chaosRounds {
		seed := seed + uint64(round)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { // its cluster ends with it
			t.Logf("replay the choices with -chaos-seed=%d -chaos-rounds=1", seed)
			c := newChaos(t, seed)
			c.run()
			c.judge()
			operations += len(c.world.history)
			events += len(c.reference)
			for f, n := range c.done {
				faults[f] += n
			}
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rounds, %d operations, %d events; faults: %v", *chaosRounds, operations, events, faults)
}

// chaos is one cluster in trouble.
type chaos struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand
	lab   *testkit.Lab
	world *registerWorld
	done  map[string]int // faults, by name

	mu        sync.Mutex
	watched   map[string][]string // what each watcher has seen
	reference []string
	compacted int64
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0xc4a05)), done: map[string]int{}, watched: map[string][]string{}}
	c.lab = testkit.NewLab(t, 3, append([]string{"--snapshot-catchup-entries=10", "--strict-reconfig-check=false"}, testkit.FastArgs...)...)
	c.lab.Start()
	c.world = &registerWorld{t: t, connect: c.anybody, outages: newOutages(), began: time.Now()}
	return c
}

// anybody connects to one of the members that there are now.
func (c *chaos) anybody(rng *rand.Rand) *clientv3.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lab.AnyClient(rng)
}

func (c *chaos) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	for i := range linClients {
		all.Go(func() { c.world.newClient(i, c.seed).run(ctx) })
	}
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	var watchers sync.WaitGroup
	for i := range 3 {
		watchers.Go(func() { c.watch(watching, fmt.Sprint("watcher ", i), rand.New(rand.NewPCG(c.seed, uint64(100+i)))) })
	}
	all.Go(func() { c.keepLease(ctx, rand.New(rand.NewPCG(c.seed, 200))) })
	for range *chaosFaults {
		time.Sleep(time.Duration(100+c.rng.IntN(300)) * time.Millisecond)
		c.fault()
	}
	c.lab.Heal()
	time.Sleep(300 * time.Millisecond)
	cancel()
	all.Wait()
	c.lab.Agree()
	c.finishWatches(stopWatching, &watchers)
}

// fault does one thing to the cluster, and has it end again.
func (c *chaos) fault() {
	type fault struct {
		name string
		do   func(p *testkit.Process)
	}
	hold := func(max int) { time.Sleep(time.Duration(200+c.rng.IntN(max)) * time.Millisecond) }
	members := c.lab.Members
	victim := members[c.rng.IntN(len(members))]
	faults := []fault{
		{"kill", func(p *testkit.Process) { p.Kill(); hold(500); c.start(p) }},
		{"kill the leader", func(*testkit.Process) { l := c.lab.Leader(); l.Kill(); hold(500); c.start(l) }},
		{"kill all", func(*testkit.Process) {
			for _, p := range members {
				p.Kill()
			}
			c.start(members...)
		}},
		{"stop", func(p *testkit.Process) { p.Stop(); c.start(p) }},
		{"pause", func(p *testkit.Process) { p.Pause(); hold(1500); p.Resume() }},
		{"pause the leader", func(*testkit.Process) { l := c.lab.Leader(); l.Pause(); hold(1500); l.Resume() }},
		{"isolate", func(p *testkit.Process) { c.lab.Isolate(p); hold(1500); c.lab.Heal() }},
		{"isolate the leader", func(*testkit.Process) { c.lab.Isolate(c.lab.Leader()); hold(1500); c.lab.Heal() }},
		{"cut one way", func(p *testkit.Process) {
			for _, other := range c.lab.Others(p) {
				c.lab.Cut(p, other)
			}
			hold(1500)
			c.lab.Heal()
		}},
		{"cut a pair", func(p *testkit.Process) {
			other := c.lab.Others(p)[0]
			c.lab.Cut(p, other)
			c.lab.Cut(other, p)
			hold(1500)
			c.lab.Heal()
		}},
		{"lossy", func(p *testkit.Process) { c.lab.Lossy(p, 5+c.rng.IntN(30)); hold(1500); c.lab.Heal() }},
		{"slow", func(p *testkit.Process) { c.lab.Slow(p, 200+c.rng.IntN(2000)); hold(1500); c.lab.Heal() }},
		{"move the leader", func(p *testkit.Process) { c.moveLeader(p) }},
		{"compact", func(*testkit.Process) { c.compact() }},
		{"grow", func(*testkit.Process) { c.grow() }},
		{"remove", func(p *testkit.Process) { c.remove(p) }},
	}
	f := faults[c.rng.IntN(len(faults))]
	c.done[f.name]++
	f.do(victim)
}

// start starts members together; nobody waits for one that has to wait for another.
func (c *chaos) start(members ...*testkit.Process) {
	for _, p := range members {
		if err := p.Begin(); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, p := range members {
		if err := p.AwaitReady(); err != nil {
			c.t.Fatalf("%s: %v", p.Name, err)
		}
	}
}

func (c *chaos) moveLeader(p *testkit.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	leader := c.lab.Leader()
	if s, err := p.Status(); err == nil && !s.IsLearner {
		_, _ = leader.Client().MoveLeader(ctx, s.Header.MemberId) // it may have been overtaken
	}
}

// compact drops the history that all watchers are sure to have seen.
func (c *chaos) compact() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client := c.lab.Client()
	r, err := client.Get(ctx, "x")
	if err != nil {
		return
	}
	to := r.Header.Revision / 4
	if _, err := client.Compact(ctx, to); err == nil {
		c.compacted = max(c.compacted, to)
	}
}

// grow adds a learner, lets it catch up and vote.
func (c *chaos) grow() {
	if !c.lab.Roomy() {
		return
	}
	p, id := c.lab.Add(true)
	c.lab.Members = c.lab.Members[:len(c.lab.Members)-1] // clients come when it votes
	c.start(p)
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err := c.lab.Client().MemberPromote(ctx, id)
		cancel()
		if err == nil || strings.Contains(err.Error(), "can only promote a learner member") && !strings.Contains(err.Error(), "in sync") {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("promote %s: %v", p.Name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.mu.Lock()
	c.lab.Members = append(c.lab.Members, p)
	c.mu.Unlock()
}

// remove removes a member for ever, if three are left.
func (c *chaos) remove(p *testkit.Process) {
	if len(c.lab.Members) < 4 {
		return
	}
	s, err := p.Status()
	if err != nil {
		c.t.Fatal(err)
	}
	rest := c.lab.Others(p)
	c.mu.Lock()
	c.lab.Members = rest
	c.mu.Unlock()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := rest[0].Client().MemberRemove(ctx, s.Header.MemberId)
		cancel()
		if err == nil || strings.Contains(err.Error(), "member not found") {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("remove %s: %v", p.Name, err)
		}
	}
	if state := p.AwaitExit(); state.ExitCode() != 0 {
		c.t.Errorf("a removed member ends with %v", state)
	}
}

// watch follows all registers through one member after the other, from where it has come to.
func (c *chaos) watch(ctx context.Context, name string, rng *rand.Rand) {
	next := int64(1)
	for ctx.Err() == nil {
		client := c.anybody(rng)
		some, cancel := context.WithTimeout(ctx, time.Duration(300+rng.IntN(2000))*time.Millisecond)
		for r := range client.Watch(some, "register/", clientv3.WithPrefix(), clientv3.WithRev(next), clientv3.WithProgressNotify()) {
			if r.CompactRevision > 0 {
				next = max(next, r.CompactRevision)
				break
			}
			if r.Err() != nil {
				break
			}
			for _, ev := range r.Events {
				if ev.Kv.ModRevision < next {
					c.t.Errorf("%s asked for events from %d on and got %v", name, next, ev)
				}
				c.see(name, ev)
			}
			next = max(next, r.Header.Revision+1)
			if len(r.Events) > 0 {
				next = r.Events[len(r.Events)-1].Kv.ModRevision + 1
			}
		}
		cancel()
		client.Close()
	}
}

func (c *chaos) see(name string, ev *clientv3.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched[name] = append(c.watched[name], fmt.Sprintf("%012d %s %s=%s", ev.Kv.ModRevision, ev.Type, ev.Kv.Key, ev.Kv.Value))
}

// finishWatches writes a last event, reads the whole history that is left, and waits until all watchers have come to its end.
func (c *chaos) finishWatches(stop func(), watchers *sync.WaitGroup) {
	client := c.lab.Client()
	last, err := client.Put(within(c.t), "register/end", "")
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(c.t))
	defer cancel()
	from := c.compacted + 1
	for r := range client.Watch(ctx, "register/", clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if r.Err() != nil {
			c.t.Fatal(r.Err())
		}
		for _, ev := range r.Events {
			c.reference = append(c.reference, fmt.Sprintf("%012d %s %s=%s", ev.Kv.ModRevision, ev.Type, ev.Kv.Key, ev.Kv.Value))
			if ev.Kv.ModRevision == last.Header.Revision {
				cancel()
			}
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for !c.allSaw(c.reference[len(c.reference)-1]) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	watchers.Wait()
}

func (c *chaos) allSaw(event string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, seen := range c.watched {
		if len(seen) == 0 || seen[len(seen)-1] < event {
			return false
		}
	}
	return len(c.watched) == 3
}

// keepLease keeps a lease alive for a while, then lets it run out, again and again.
func (c *chaos) keepLease(ctx context.Context, rng *rand.Rand) {
	const ttl = 2
	client := c.anybody(rng)
	defer func() { client.Close() }()
	again := func() {
		client.Close()
		client = c.anybody(rng)
	}
	for n := 0; ctx.Err() == nil; n++ {
		op, cancel := context.WithTimeout(ctx, 5*time.Second)
		granted, err := client.Grant(op, ttl)
		key := fmt.Sprint("leased/", n)
		sure := time.Now() // it lives at least until ttl after this
		if err == nil {
			sure = time.Now().Add(-time.Millisecond)
			_, err = client.Put(op, key, "", clientv3.WithLease(granted.ID))
		}
		cancel()
		if err != nil {
			again()
			continue
		}
		for range 3 + rng.IntN(10) {
			op, cancel := context.WithTimeout(ctx, 3*time.Second)
			r, err := client.Get(op, key)
			seen := time.Now()
			if err == nil && len(r.Kvs) == 0 {
				if early := sure.Add(ttl * time.Second).Sub(seen); early > 0 {
					c.t.Errorf("%s went %v before its lease of %ds could have run out", key, early, ttl)
				}
				cancel()
				break
			}
			began := time.Now()
			if _, err = client.KeepAliveOnce(op, granted.ID); err == nil {
				sure = began
			}
			cancel()
			if err != nil {
				again()
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// judge looks at what everybody has seen.
func (c *chaos) judge() {
	for name, seen := range c.watched {
		if !sort.StringsAreSorted(seen) {
			c.t.Errorf("%s has not seen the events in order", name)
		}
		seen = seen[sort.SearchStrings(seen, fmt.Sprintf("%012d", c.compacted+1)):]
		// A write that its client has given up may have come after the end.
		seen = seen[:min(len(seen), len(c.reference))]
		if got, want := strings.Join(seen, "\n"), strings.Join(c.reference, "\n"); got != want {
			c.t.Errorf("%s has seen %d events from %d on, and there were %d; the first difference: %s",
				name, len(seen), c.compacted+1, len(c.reference), difference(seen, c.reference))
		}
	}
	result, info := porcupine.CheckOperationsVerbose(registers, c.world.history, linConclude)
	if result != porcupine.Ok {
		picture := filepath.Join(c.t.ArtifactDir(), fmt.Sprintf("chaos-%d.html", c.seed))
		if err := porcupine.VisualizePath(registers, info, picture); err != nil {
			c.t.Error(err)
		}
		c.t.Errorf("%d operations: %v, want %v (run with -artifacts to keep %s)", len(c.world.history), result, porcupine.Ok, picture)
	}
}

func difference(got, want []string) string {
	for i := range want {
		if i >= len(got) {
			return "missing " + want[i]
		}
		if got[i] != want[i] {
			return fmt.Sprintf("got %q, want %q", got[i], want[i])
		}
	}
	return "none"
}
