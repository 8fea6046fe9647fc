package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const leasedPrefix = "leased/"

// leaseLog counts the leases of a cluster in trouble.
type leaseLog struct{ leases atomic.Int64 }

// keepLeases keeps a lease alive for a while and leaves it alone then, again and again.
func (c *chaos) keepLeases(ctx context.Context, lessee int, rng *rand.Rand) {
	h := &leaseHolder{chaos: c, rng: rng, client: c.anybody(rng)}
	defer func() { h.client.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		h.hold(ctx, fmt.Sprintf("%s%d/%d", leasedPrefix, lessee, n))
	}
}

// leaseHolder is a client that asks one member, and another one after each operation without an answer.
type leaseHolder struct {
	*chaos
	rng    *rand.Rand
	client *clientv3.Client
}

func (h *leaseHolder) again() {
	h.client.Close()
	h.client = h.anybody(h.rng)
}

// hold has a key with a lease, renews it some times, and looks whether the key is there as long as it has to be.
func (h *leaseHolder) hold(ctx context.Context, key string) {
	const ttl = 2 * time.Second
	began := time.Now()
	id, err := h.grant(ctx, key, ttl)
	if err != nil {
		h.again()
		return
	}
	h.leases.Add(1)
	sure := began.Add(ttl) // it was granted after that, so it lives at least until then
	for range 3 + h.rng.IntN(10) {
		op, cancel := context.WithTimeout(ctx, 3*time.Second)
		r, err := h.client.Get(op, key)
		if seen := time.Now(); err == nil && len(r.Kvs) == 0 {
			cancel()
			if early := sure.Sub(seen); early > 0 {
				h.t.Errorf("%s went %v before its lease of %v could have run out", key, early, ttl)
			}
			return
		}
		began := time.Now()
		if _, err = h.client.KeepAliveOnce(op, id); err == nil {
			sure = began.Add(ttl)
		}
		cancel()
		if err != nil {
			h.again()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (h *leaseHolder) grant(ctx context.Context, key string, ttl time.Duration) (clientv3.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := h.client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return 0, err
	}
	_, err = h.client.Put(ctx, key, "", clientv3.WithLease(r.ID))
	return r.ID, err
}

// awaitExpiry waits until all leases that nobody renews any more are gone, and their keys with them.
func (c *chaos) awaitExpiry() {
	client := c.lab.Client()
	defer client.Close()
	ctx := within(c.t)
	for {
		keys, err := client.Get(ctx, leasedPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			c.t.Fatal(err)
		}
		list, err := client.Leases(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		if keys.Count == 0 && len(list.Leases) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
