package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"keelson/internal/testkit"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestMutex lets several sessions fight for one lock, and counts under it.
func TestMutex(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	const contenders, rounds = 5, 10
	inside, total := 0, 0
	var all sync.WaitGroup
	for range contenders {
		c := p.Client()
		all.Add(1)
		go func() {
			defer all.Done()
			s, err := concurrency.NewSession(c, concurrency.WithTTL(30))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			m := concurrency.NewMutex(s, "/lock")
			for range rounds {
				if err := m.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				inside++
				if inside != 1 {
					t.Errorf("%d hold the lock", inside)
				}
				total++
				inside--
				if err := m.Unlock(ctx); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if total != contenders*rounds {
		t.Errorf("%d rounds, want %d", total, contenders*rounds)
	}
}

func TestElection(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	session := func() *concurrency.Session {
		s, err := concurrency.NewSession(p.Client(), concurrency.WithTTL(30))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first, second := concurrency.NewElection(session(), "/leader"), concurrency.NewElection(session(), "/leader")
	if err := first.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(ctx, "two") }()
	observed := concurrency.NewElection(session(), "/leader").Observe(ctx)
	if r := <-observed; string(r.Kvs[0].Value) != "one" {
		t.Errorf("observed %s", r.Kvs[0].Value)
	}
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-elected; err != nil {
		t.Fatal(err)
	}
	for r := range observed {
		if string(r.Kvs[0].Value) == "two" {
			break
		}
	}
}

// TestSTM moves money between accounts from many goroutines: the sum stays.
func TestSTM(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	c := p.Client()
	const accounts, workers, transfers = 5, 4, 20
	for i := range accounts {
		if _, err := c.Put(ctx, fmt.Sprint("account/", i), "100"); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range transfers {
				from, to := fmt.Sprint("account/", (w+i)%accounts), fmt.Sprint("account/", (w*3+i*2+1)%accounts)
				if from == to {
					continue
				}
				if _, err := concurrency.NewSTM(c, transfer(from, to)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	r, err := c.Get(ctx, "account/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, kv := range r.Kvs {
		var n int
		fmt.Sscan(string(kv.Value), &n)
		sum += n
	}
	if sum != accounts*100 {
		t.Errorf("sum is %d, want %d", sum, accounts*100)
	}
}

func transfer(from, to string) func(concurrency.STM) error {
	return func(s concurrency.STM) error {
		var a, b int
		fmt.Sscan(s.Get(from), &a)
		fmt.Sscan(s.Get(to), &b)
		s.Put(from, fmt.Sprint(a-1))
		s.Put(to, fmt.Sprint(b+1))
		return nil
	}
}

// TestLeaseExpiryAndKeepAlive sees a lease that is kept alive outlive one that is not.
func TestLeaseExpiryAndKeepAlive(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	c := p.Client()
	kept, lost := grantWithKey(t, c, "kept"), grantWithKey(t, c, "lost")
	alive, err := c.KeepAlive(ctx, kept)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := <-alive; !ok {
		t.Fatal("not kept alive")
	}
	for r := range c.Watch(ctx, "lost", clientv3.WithRev(1)) {
		if len(r.Events) > 0 && r.Events[0].Type == clientv3.EventTypeDelete {
			break
		}
	}
	if _, err := c.TimeToLive(ctx, lost); err != nil {
		t.Error(err)
	}
	if r, err := c.Get(ctx, "kept"); err != nil || len(r.Kvs) != 1 {
		t.Errorf("the key of the lease that was kept alive: %v, %v", r, err)
	}
	if _, err := c.KeepAliveOnce(ctx, lost); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("renewing the expired lease: %v", err)
	}
}

func grantWithKey(t *testing.T, c *clientv3.Client, key string) clientv3.LeaseID {
	t.Helper()
	ctx := testContext(t)
	g, err := c.Grant(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, key, "x", clientv3.WithLease(g.ID)); err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// TestRestartKeepsEverything stops the member cleanly and looks for pairs, history, leases and the watch's past.
func TestRestartKeepsEverything(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	c := p.Client()
	g, err := c.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if _, err := c.Put(ctx, fmt.Sprint("k", i%10), fmt.Sprint(i), clientv3.WithLease(g.ID)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := c.HashKV(ctx, p.Endpoint, 0)
	if err != nil {
		t.Fatal(err)
	}
	if state := p.Stop(); !strings.Contains(state.String(), "terminated") {
		t.Errorf("ended by %v, want by the signal", state)
	}
	p.Start()
	after, err := c.HashKV(ctx, p.Endpoint, 0)
	if err != nil || after.Hash != before.Hash || after.Header.Revision != before.Header.Revision {
		t.Errorf("hash before %v, after %v, %v", before, after, err)
	}
	if r, err := c.Get(ctx, "k3", clientv3.WithRev(6)); err != nil || string(r.Kvs[0].Value) != "3" {
		t.Errorf("history: %v, %v", r, err)
	}
	if r, err := c.TimeToLive(ctx, g.ID, clientv3.WithAttachedKeys()); err != nil || len(r.Keys) != 10 || r.GrantedTTL != 600 {
		t.Errorf("lease: %v, %v", r, err)
	}
	events := 0
	for r := range c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(2)) {
		if events += len(r.Events); events >= 50 {
			break
		}
	}
	if _, err := c.Revoke(ctx, g.ID); err != nil {
		t.Error(err)
	}
	if r, err := c.Get(ctx, "k", clientv3.WithPrefix()); err != nil || r.Count != 0 {
		t.Errorf("keys of a revoked lease: %v, %v", r, err)
	}
}

// TestWatchRidesThroughARestart lets the official client resume its watch: every event once, in order.
func TestWatchRidesThroughARestart(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	c := p.Client()
	events := c.Watch(ctx, "w")
	seen := 0
	next := func(until int) {
		for seen < until {
			r, ok := <-events
			if !ok || r.Err() != nil {
				t.Fatalf("watch ended after %d events: %v", seen, r.Err())
			}
			for _, e := range r.Events {
				if want := fmt.Sprint(seen); string(e.Kv.Value) != want {
					t.Fatalf("got %s, want %s", e.Kv.Value, want)
				}
				seen++
			}
		}
	}
	for i := range 60 {
		if i%20 == 10 {
			next(i)
			if i%40 == 10 {
				p.Kill()
			} else {
				p.Stop()
			}
			p.Start()
		}
		if _, err := c.Put(ctx, "w", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	next(60)
}
