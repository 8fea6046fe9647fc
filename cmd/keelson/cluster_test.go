package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"keelson/internal/testkit"
)

// within is a context for one step of a test, on the slowest machine.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// started is a cluster whose members notice a lost leader soon.
func started(t *testing.T, members int, args ...string) *testkit.Cluster {
	t.Helper()
	c := testkit.NewCluster(t, members, append(append([]string{}, testkit.FastArgs...), args...)...)
	c.Start()
	return c
}

// steady is a cluster of three whose leader stays, for tests that ask who leads and then rely on it.
func steady(t *testing.T, args ...string) *testkit.Cluster {
	t.Helper()
	c := testkit.NewCluster(t, 3, append(append([]string{}, testkit.SteadyArgs...), args...)...)
	c.Start()
	return c
}

func TestClusterAnyMemberAnswers(t *testing.T) {
	c := started(t, 3)
	ctx := within(t)
	for i, p := range c.Members {
		if _, err := p.Client().Put(ctx, "k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		for _, other := range c.Members {
			r, err := other.Client().Get(ctx, "k")
			if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != fmt.Sprint(i) {
				t.Errorf("wrote %d through %s, read %v, %v through %s", i, p.Name, r, err, other.Name)
			}
		}
	}
	c.Agree()
}

// A watch on any member sees what is written through any other, in order.
func TestClusterWatchesThroughOtherMembers(t *testing.T) {
	c := started(t, 3)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var streams []clientv3.WatchChan
	for _, p := range c.Members {
		streams = append(streams, p.Client().Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithRev(1)))
	}
	const writes = 30
	for i := range writes {
		if _, err := c.Members[i%3].Client().Put(ctx, fmt.Sprintf("w/%02d", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	for k, s := range streams {
		for n := 0; n < writes; {
			r, ok := <-s
			if !ok || r.Err() != nil {
				t.Fatalf("watch through %s: %v, %v", c.Members[k].Name, r.Err(), ctx.Err())
			}
			for _, ev := range r.Events {
				if want := fmt.Sprintf("w/%02d", n); string(ev.Kv.Key) != want {
					t.Fatalf("watch through %s: %s, want %s", c.Members[k].Name, ev.Kv.Key, want)
				}
				n++
			}
		}
	}
}

// Leases are served by every member, whoever leads, and live through a failover for as long as they were granted.
func TestClusterLeases(t *testing.T) {
	c := started(t, 3)
	ctx := within(t)
	leader := c.Leader()
	follower := c.Others(leader)[0].Client()
	granted, err := follower.Grant(ctx, 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Put(ctx, "leased", "", clientv3.WithLease(granted.ID)); err != nil {
		t.Fatal(err)
	}
	renewed := time.Now() // or later
	if r, err := follower.KeepAliveOnce(ctx, granted.ID); err != nil || r.TTL != 20 {
		t.Fatalf("renewed through a follower: %v, %v", r, err)
	}
	if r, err := follower.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys()); err != nil || r.GrantedTTL != 20 ||
		r.TTL < 18-int64(time.Since(renewed).Seconds()) || len(r.Keys) != 1 {
		t.Fatalf("time to live through a follower: %+v, %v", r, err)
	}
	if r, err := follower.KeepAliveOnce(ctx, 12345); err != rpctypes.ErrLeaseNotFound {
		t.Errorf("renewed what is not there: %v, %v", r, err)
	}
	leader.Kill()
	rest := c.Others(leader)
	c.Leader(rest...)
	client := rest[1].Client()
	for {
		r, err := client.Get(ctx, "leased")
		if err != nil {
			t.Fatalf("waiting for the lease to run out: %v", err)
		}
		if len(r.Kvs) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if lived := time.Since(renewed); lived < 20*time.Second {
		t.Errorf("the lease ran out %v after its renewal for 20s", lived)
	}
}

// writers write through members until they are stopped, and fail the test for every write that is not acknowledged.
type writers struct {
	t     *testing.T
	stop  atomic.Bool
	all   sync.WaitGroup
	mu    sync.Mutex
	slow  time.Duration // the longest that a write took
	wrote map[string]int
}

func writeThrough(t *testing.T, members ...*testkit.Process) *writers {
	w := &writers{t: t, wrote: map[string]int{}}
	for _, p := range members {
		client := p.Client()
		key := "written through " + p.Name
		w.all.Go(func() {
			for !w.stop.Load() {
				began := time.Now()
				if _, err := client.Put(within(t), key, "v"); err != nil {
					t.Errorf("%s: %v after %v", key, err, time.Since(began))
					return
				}
				w.mu.Lock()
				w.wrote[key]++
				w.slow = max(w.slow, time.Since(began))
				w.mu.Unlock()
			}
		})
	}
	return w
}

// end stops the writers, and checks that what was acknowledged was done, once.
func (w *writers) end(client *clientv3.Client) time.Duration {
	w.t.Helper()
	w.stop.Store(true)
	w.all.Wait()
	for key, n := range w.wrote {
		r, err := client.Get(within(w.t), key)
		if err != nil || len(r.Kvs) != 1 || r.Kvs[0].Version != int64(n) {
			w.t.Errorf("%s: %d writes were acknowledged, and there is %v, %v", key, n, r, err)
		}
	}
	return w.slow
}

// The leader dies: writes through the others wait for the next one, and none fails or is done twice.
func TestClusterLeaderKilled(t *testing.T) {
	c := testkit.NewCluster(t, 3) // at the timeouts that people run with
	c.Start()
	leader := c.Leader()
	rest := c.Others(leader)
	w := writeThrough(t, rest...)
	time.Sleep(300 * time.Millisecond)
	leader.Kill()
	c.Leader(rest...)
	time.Sleep(300 * time.Millisecond)
	t.Logf("the longest write took %v", w.end(rest[0].Client()))
	leader.Start()
	c.Agree()
}

// The leader is asked to stop: it hands over, and writers hardly notice.
func TestClusterLeaderStopped(t *testing.T) {
	c := testkit.NewCluster(t, 3)
	c.Start()
	leader := c.Leader()
	rest := c.Others(leader)
	w := writeThrough(t, rest...)
	time.Sleep(300 * time.Millisecond)
	leader.Stop()
	c.Leader(rest...)
	time.Sleep(300 * time.Millisecond)
	t.Logf("the longest write took %v", w.end(rest[0].Client()))
}

// The leader stands still for longer than an election: the others go on, and when it comes back it tells nothing old.
func TestClusterLeaderPaused(t *testing.T) {
	c := started(t, 3)
	leader := c.Leader()
	rest := c.Others(leader)
	ctx := within(t)
	old := leader.Client()
	if _, err := old.Put(ctx, "k", "before"); err != nil {
		t.Fatal(err)
	}
	leader.Pause()
	c.Leader(rest...)
	if _, err := rest[0].Client().Put(ctx, "k", "after"); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		r, err := old.Get(ctx, "k")
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- string(r.Kvs[0].Value)
	}()
	time.Sleep(100 * time.Millisecond)
	leader.Resume()
	if got := <-answer; got == "before" {
		t.Error("a leader that was replaced has answered a linearizable read with what it had")
	}
	c.Agree()
}

// A lock is never held by two, also while leaders come and go.
func TestClusterMutexOverFailover(t *testing.T) {
	c := steady(t)
	var holders, turns atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		session, err := concurrency.NewSession(c.Client(), concurrency.WithTTL(10))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer session.Close()
			mutex := concurrency.NewMutex(session, "lock")
			for range 4 {
				if err := mutex.Lock(within(t)); err != nil {
					t.Errorf("lock: %v", err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				turns.Add(1)
				time.Sleep(30 * time.Millisecond)
				holders.Add(-1)
				if err := mutex.Unlock(within(t)); err != nil {
					t.Errorf("unlock: %v", err)
					return
				}
			}
		})
	}
	for range 2 {
		time.Sleep(150 * time.Millisecond)
		leader := c.Leader()
		ctx := within(t)
		if _, err := leader.Client().MoveLeader(ctx, memberID(t, c.Others(leader)[0])); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if turns.Load() != 16 {
		t.Errorf("%d turns", turns.Load())
	}
}

func memberID(t *testing.T, p *testkit.Process) uint64 {
	t.Helper()
	return p.AwaitStatus().Header.MemberId
}

func TestClusterMoveLeader(t *testing.T) {
	c := steady(t)
	ctx := within(t)
	leader := c.Leader()
	to := c.Others(leader)[0]
	if _, err := to.Client().MoveLeader(ctx, memberID(t, to)); err == nil || !strings.Contains(err.Error(), "etcdserver: not leader") {
		t.Errorf("asked of a follower: %v", err)
	}
	if _, err := leader.Client().MoveLeader(ctx, 12345); err == nil || !strings.Contains(err.Error(), "etcdserver: bad leader transferee") {
		t.Errorf("to a stranger: %v", err)
	}
	if _, err := leader.Client().MoveLeader(ctx, memberID(t, to)); err != nil {
		t.Fatal(err)
	}
	if got := c.Leader(); got != to {
		t.Errorf("%s leads, want %s", got.Name, to.Name)
	}
}

// All members are killed at any time, alone and together: nothing that was acknowledged is lost, and all come to hold the
// same.
func TestClusterKilledAtRandom(t *testing.T) {
	c := started(t, 3)
	client := c.Client()
	var stop atomic.Bool
	var all sync.WaitGroup
	var acknowledged atomic.Int64
	for k := range 4 {
		all.Go(func() {
			for i := 0; !stop.Load(); i++ {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_, err := client.Put(ctx, fmt.Sprintf("%d/%06d", k, i), "v")
				cancel()
				if err != nil {
					i-- // its outcome is open: done again, which changes nothing
					continue
				}
				acknowledged.Add(1)
			}
		})
	}
	for round := range 6 {
		time.Sleep(200 * time.Millisecond)
		victims := []*testkit.Process{c.Members[round%3]}
		if round == 3 {
			victims = c.Members
		}
		for _, p := range victims {
			p.Kill()
		}
		for _, p := range victims {
			if err := p.Begin(); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range victims {
			if err := p.AwaitReady(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop.Store(true)
	all.Wait()
	c.Agree()
	r, err := client.Get(within(t), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || r.Count < acknowledged.Load() {
		t.Errorf("%d writes were acknowledged, there are %v, %v", acknowledged.Load(), r, err)
	}
}

// eventually does what is refused with a text for a while: connections have to stand, learners have to catch up.
func eventually(t *testing.T, passing string, do func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := do()
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), passing) && !strings.Contains(err.Error(), "leader changed") || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// promote makes a learner a voter, as soon as it has caught up. A promotion that nobody was told of counts.
func promote(ctx context.Context, t *testing.T, client *clientv3.Client, id uint64) {
	t.Helper()
	var failed error // the last
	await(ctx, t, "the promotion", func() bool {
		_, err := client.MemberPromote(ctx, id)
		done := err == nil || failed != nil && errors.Is(err, rpctypes.ErrMemberNotLearner)
		failed = err
		time.Sleep(50 * time.Millisecond)
		return done
	})
}

// A learner is added, follows, is promoted by whichever member is asked, and is removed; then it ends by itself, and when it
// is started again too.
func TestClusterMembership(t *testing.T) {
	c := started(t, 3)
	ctx := within(t)
	client := c.Client()
	if _, err := client.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	p, id := c.Add(true)
	if _, err := client.MemberPromote(ctx, id); err == nil || !strings.Contains(err.Error(), "can only promote a learner member which is in sync with leader") {
		t.Errorf("promote a learner that never ran: %v", err)
	}
	eventually(t, "unhealthy cluster", func() error { // with whoever is asked, connections have to stand for 5 s
		_, err := client.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"})
		if err != nil && strings.Contains(err.Error(), "too many learner members in cluster") {
			return nil
		}
		return fmt.Errorf("a second learner: %w", err)
	})
	p.Start()
	if _, err := p.Client().Get(ctx, "k"); err == nil || !strings.Contains(err.Error(), "rpc not supported for learner") {
		t.Errorf("a linearizable read of a learner: %v", err)
	}
	if r, err := p.Client().Get(ctx, "k", clientv3.WithSerializable()); err != nil || len(r.Kvs) != 1 {
		t.Errorf("a serializable read of a learner: %v, %v", r, err)
	}
	follower := c.Others(c.Leader(c.Members[:3]...))[0]
	if follower == p {
		follower = c.Others(c.Leader(c.Members[:3]...))[1]
	}
	eventually(t, "in sync with leader", func() error {
		_, err := follower.Client().MemberPromote(within(t), id)
		return err
	})
	if _, err := client.MemberPromote(ctx, id); err == nil || !strings.Contains(err.Error(), "can only promote a learner member") {
		t.Errorf("promote a voter: %v", err)
	}
	if _, err := p.Client().Put(ctx, "k", "through the new one"); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	eventually(t, "unhealthy cluster", func() error {
		list, err := c.Members[0].Client().MemberRemove(within(t), id)
		if err == nil && len(list.Members) != 3 {
			t.Errorf("after the removal there are %v", list.Members)
		}
		return err
	})
	for range 2 {
		if state := p.AwaitExit(); state.ExitCode() != 0 {
			t.Errorf("a removed member ends with %v", state)
		}
		if !strings.Contains(p.Log(), "the member has been permanently removed from the cluster") {
			t.Errorf("a removed member does not say so:\n%s", p.Log())
		}
		if err := p.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	p.AwaitExit()
	for _, m := range c.Others(p) { // it needs nobody to tell it
		m.Kill()
	}
	if err := p.Begin(); err != nil {
		t.Fatal(err)
	}
	if state := p.AwaitExit(); state.ExitCode() != 0 || !strings.Contains(p.Log(), "the member has been permanently removed from the cluster") {
		t.Errorf("a removed member, started while all others are gone, ends with %v:\n%s", state, p.Log())
	}
	for _, m := range c.Others(p) {
		if err := m.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.MemberRemove(ctx, id); err == nil || !strings.Contains(err.Error(), "etcdserver: member not found") {
		t.Errorf("remove it again: %v", err)
	}
}

// The leader is removed: the others elect another one.
func TestClusterRemovedLeader(t *testing.T) {
	c := started(t, 3)
	leader := c.Leader()
	rest := c.Others(leader)
	id := memberID(t, leader)
	eventually(t, "unhealthy cluster", func() error { // connections have to stand for 5 s
		_, err := rest[0].Client().MemberRemove(within(t), id)
		return err
	})
	leader.AwaitExit()
	c.Leader(rest...)
	if _, err := rest[1].Client().Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
}

// Two of three are lost for good: the one that is left is made a cluster of its own, with all its data, and grows again.
func TestClusterForceNew(t *testing.T) {
	c := started(t, 3)
	ctx := within(t)
	if _, err := c.Client().Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	for _, p := range c.Members {
		p.Kill()
	}
	left := c.Members[1]
	c.Members = []*testkit.Process{left}
	left.ExtraArgs = append(left.ExtraArgs, "--force-new-cluster")
	left.Start()
	left.Stop()
	left.ExtraArgs = left.ExtraArgs[:len(left.ExtraArgs)-1]
	left.Start()
	client := left.Client()
	list, err := client.MemberList(ctx)
	if err != nil || len(list.Members) != 1 {
		t.Fatalf("members %v, %v", list, err)
	}
	if r, err := client.Get(ctx, "k"); err != nil || len(r.Kvs) != 1 {
		t.Errorf("k is %v, %v", r, err)
	}
	p, _ := c.Add(false)
	p.Start()
	if _, err := p.Client().Put(ctx, "k", "grown"); err != nil {
		t.Fatal(err)
	}
	c.Agree()
}

// Without a quorum, a member answers serializable reads, and refuses the rest with the errors of the API; when the others
// come back it heals without help.
func TestClusterMinority(t *testing.T) {
	c := started(t, 3)
	ctx := within(t)
	alone := c.Members[0]
	client := alone.Client()
	if _, err := client.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	stream := client.Watch(clientv3.WithRequireLeader(ctx), "k")
	for _, p := range c.Others(alone) {
		p.Kill()
	}
	if r, err := client.Get(ctx, "k", clientv3.WithSerializable()); err != nil || len(r.Kvs) != 1 {
		t.Errorf("serializable read: %v, %v", r, err)
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	if r, err := client.Get(short, "k"); err == nil {
		t.Errorf("linearizable read: %v", r)
	}
	cancel()
	if _, err := client.Put(ctx, "k", "lost"); err == nil || !strings.Contains(err.Error(), "etcdserver: request timed out") {
		t.Errorf("write: %v", err)
	}
	r := <-stream
	if !r.Canceled || r.Err() != rpctypes.ErrNoLeader {
		t.Errorf("watch that needs a leader: %v", r.Err())
	}
	if s := alone.AwaitStatus(); len(s.Errors) == 0 || s.Errors[0] != "etcdserver: no leader" {
		t.Errorf("status: %v", s)
	}
	var all sync.WaitGroup
	for _, p := range c.Others(alone) {
		all.Go(func() {
			if err := p.TryStart(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := client.Put(within(t), "k", "healed"); err != nil {
		t.Error(err)
	}
	c.Agree()
}
