package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/status"
)

// readThrough reads through a client until it is stopped; every read has to be answered.
func readThrough(t *testing.T, client *clientv3.Client, key string) (stop func() int64) {
	var done atomic.Bool
	var reads atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for !done.Load() {
			if r, err := client.Get(within(t), key); err != nil || len(r.Kvs) != 1 {
				t.Errorf("read %d: %v, %v", reads.Load(), r, err)
				return
			}
			reads.Add(1)
		}
	})
	return func() int64 {
		done.Store(true)
		all.Wait()
		return reads.Load()
	}
}

// The leader dies, twice, while a lock is held and an election is won: no read fails, the sessions live on, whoever held
// still holds, and whoever waits gets it when it is let go.
func TestClusterLocksOutliveLeaders(t *testing.T) {
	c := started(t, 3)
	client := c.Client()
	if _, err := client.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	session := func() *concurrency.Session {
		s, err := concurrency.NewSession(c.Client(), concurrency.WithTTL(10))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	holder, waiter := session(), session()
	lock := concurrency.NewMutex(holder, "lock")
	if err := lock.Lock(within(t)); err != nil {
		t.Fatal(err)
	}
	won := concurrency.NewElection(holder, "election")
	if err := won.Campaign(within(t), "first"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 2)
	var let atomic.Bool
	wait := func(what string, f func(context.Context) error) {
		err := f(within(t))
		if err == nil && !let.Load() {
			err = fmt.Errorf("the %s was given away while it was held", what)
		}
		got <- err
	}
	next := concurrency.NewElection(waiter, "election")
	go wait("lock", concurrency.NewMutex(waiter, "lock").Lock)
	go wait("lead", func(ctx context.Context) error { return next.Campaign(ctx, "second") })
	for _, queue := range []string{"lock/", "election/"} { // only reads are tried again by the client
		for n := int64(0); n < 2; {
			r, err := client.Get(within(t), queue, clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil {
				t.Fatal(err)
			}
			n = r.Count
		}
	}
	reads := readThrough(t, client, "k")
	for range 2 {
		leader := c.Leader()
		leader.Kill()
		c.Leader(c.Others(leader)...)
		leader.Start()
	}
	select {
	case <-holder.Done():
		t.Error("the session ended, and its client was there all the time")
	case err := <-got:
		t.Fatal(err)
	default:
	}
	if r, err := client.Txn(within(t)).If(lock.IsOwner()).Commit(); err != nil || !r.Succeeded {
		t.Errorf("does the holder own the lock: %v, %v", r, err)
	}
	if r, err := next.Leader(within(t)); err != nil || string(r.Kvs[0].Value) != "first" {
		t.Errorf("elected is %v, %v", r, err)
	}
	let.Store(true)
	if err := lock.Unlock(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := won.Resign(within(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d reads, none failed", reads())
}

// The leader is paused for longer than a lease lives, which is kept alive through the others meanwhile. When it goes on, its
// clock says that the lease has run out: it must not revoke it, and what it reads must be the newest.
func TestClusterPausedLeaderRevokesNothing(t *testing.T) {
	t.Parallel() // it mostly waits

	const ttl = 5 // seconds
	c := started(t, 3)
	ctx := within(t)
	leader := c.Leader()
	old := leader.Client()
	rest := c.Others(leader)
	client := rest[0].Client()
	granted, err := old.Grant(ctx, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Put(ctx, "leased", "", clientv3.WithLease(granted.ID)); err != nil {
		t.Fatal(err)
	}
	before := term(t, leader)
	keeping, stopKeeping := context.WithCancel(ctx)
	defer stopKeeping()
	alive, err := client.KeepAlive(keeping, granted.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := <-alive; !ok {
		t.Fatal("not kept alive")
	}
	leader.Pause()
	c.Leader(rest...)
	for paused := time.Now(); time.Since(paused) < (ttl+3)*time.Second; time.Sleep(20 * time.Millisecond) {
		if _, err := client.Put(ctx, "n", fmt.Sprint(time.Since(paused).Nanoseconds())); err != nil {
			t.Fatal(err)
		}
	}
	newest, err := client.Get(ctx, "n")
	if err != nil {
		t.Fatal(err)
	}
	want, err := strconv.ParseInt(string(newest.Kvs[0].Value), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	leader.Resume()
	for resumed := time.Now(); time.Since(resumed) < 3*time.Second; time.Sleep(5 * time.Millisecond) {
		r, err := old.Get(ctx, "n")
		if err != nil {
			t.Fatalf("%v after it went on: %v", time.Since(resumed), err)
		}
		if n, err := strconv.ParseInt(string(r.Kvs[0].Value), 10, 64); err != nil || n < want {
			t.Fatalf("the old leader read %d after %d was written, %v", n, want, err)
		}
		if r, err = old.Get(ctx, "leased"); err != nil || r.Count == 0 {
			t.Fatalf("the key of a lease that is kept alive: %v, %v", r, err)
		}
	}
	if got := c.Leader(); got == leader && term(t, got) == before {
		t.Error("a leader that was replaced still leads, in its old term")
	}
	stopKeeping()
	for range alive {
	}
	for {
		r, err := client.Get(ctx, "leased")
		if err != nil {
			t.Fatalf("waiting for the lease to run out: %v", err)
		}
		if r.Count == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.Agree()
}

// Without a leader, streams that insist on one end and say why; the others stay, and go on when there is one again.
func TestClusterStreamsWithoutALeader(t *testing.T) {
	c := started(t, 3)
	ctx := within(t)
	alone := c.Members[0]
	client := alone.Client()
	granted, err := client.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	conn := client.ActiveConnection()
	insisting := clientv3.WithRequireLeader(ctx)
	alive, err := pb.NewLeaseClient(conn).LeaseKeepAlive(insisting)
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: int64(granted.ID)}); err != nil {
		t.Fatal(err)
	}
	if r, err := alive.Recv(); err != nil || r.TTL != 600 {
		t.Fatal(r, err)
	}
	watch := func(ctx context.Context) pb.Watch_WatchClient {
		s, err := pb.NewWatchClient(conn).Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); err != nil || !r.Created {
			t.Fatal(r, err)
		}
		return s
	}
	needy, patient := watch(insisting), watch(ctx)
	others := c.Others(alone)
	for _, p := range others {
		p.Kill()
	}
	want := status.Convert(rpctypes.ErrGRPCNoLeader)
	for what, recv := range map[string]func() error{
		"watch":      func() error { _, err := needy.Recv(); return err },
		"keep-alive": func() error { _, err := alive.Recv(); return err },
	} {
		got := status.Convert(recv())
		if got.Code() != want.Code() || got.Message() != want.Message() {
			t.Errorf("%s ends with %v %q, want %v %q", what, got.Code(), got.Message(), want.Code(), want.Message())
		}
	}
	for _, p := range others {
		if err := p.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range others {
		if err := p.AwaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := others[0].Client().Put(ctx, "k", "healed"); err != nil {
		t.Fatal(err)
	}
	if r, err := patient.Recv(); err != nil || len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "healed" {
		t.Errorf("a watch that does not insist on a leader: %v, %v", r, err)
	}
}
