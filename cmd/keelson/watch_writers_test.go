package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// stormWriter writes one request after the other and keeps what was acknowledged.
type stormWriter struct {
	storm  *storm
	id     int
	rng    *rand.Rand
	client *clientv3.Client
	count  int
}

func newStormWriter(s *storm, id int) *stormWriter {
	return &stormWriter{storm: s, id: id, rng: rand.New(rand.NewPCG(s.seed, uint64(id))), client: s.process.Client()}
}

func (w *stormWriter) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.write(ctx); err == nil {
			w.storm.written.Add(1)
			continue
		}
		w.client.Close()
		w.storm.outages.await(ctx)
		w.client = w.storm.process.Client()
	}
	w.client.Close()
}

func (w *stormWriter) write(ctx context.Context) error {
	if w.count++; w.id == 0 && w.count%100 == 50 {
		return w.storm.large(ctx, w.client)
	}
	switch n := w.rng.IntN(100); {
	case n < 40:
		return w.put(ctx)
	case n < 52:
		return w.remove(ctx, keyRange{key: w.key()})
	case n < 62:
		prefix := w.key()[:2]
		return w.remove(ctx, keyRange{prefix + "03", prefix + "08"})
	case n < 90:
		return w.txn(ctx)
	default:
		return w.lease(ctx)
	}
}

func (w *stormWriter) key() string { return fmt.Sprintf("%c/%02d", 'a'+w.rng.IntN(3), w.rng.IntN(10)) }

// value is never written twice.
func (w *stormWriter) value() string {
	return fmt.Sprintf("%d.%d%s", w.id, w.count, strings.Repeat(".", w.rng.IntN(1200)))
}

func (w *stormWriter) put(ctx context.Context) error {
	op := clientv3.OpPut(w.key(), w.value())
	r, err := w.client.Do(ctx, op)
	if err == nil {
		w.storm.acknowledge(ack{revision: r.Put().Header.Revision, ops: []clientv3.Op{op}})
	}
	return err
}

func (w *stormWriter) remove(ctx context.Context, what keyRange) error {
	r, err := w.client.Delete(ctx, what.key, clientv3.WithRange(what.end))
	if err == nil {
		w.storm.acknowledge(ack{revision: r.Header.Revision, removed: &what, count: int(r.Deleted)})
	}
	return err
}

// txn puts and deletes several keys, each at most once, and nests another transaction for the last of them.
func (w *stormWriter) txn(ctx context.Context) error {
	var ops []clientv3.Op
	first, letter := w.rng.IntN(10), 'a'+w.rng.IntN(3)
	for i := range 1 + w.rng.IntN(5) {
		// Downwards half of the time, so that the order of operations differs from that of keys.
		n := first + i
		if w.count%2 == 0 {
			n = first - i + 10
		}
		key := fmt.Sprintf("%c/%02d", letter, n%10)
		if i > 0 && w.rng.IntN(3) == 0 {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, w.value()))
		}
	}
	last := len(ops) - 1
	sent := append(append([]clientv3.Op(nil), ops[:last]...), clientv3.OpTxn(nil, ops[last:], nil))
	r, err := w.client.Txn(ctx).Then(sent...).Commit()
	if err == nil {
		w.storm.acknowledge(ack{revision: r.Header.Revision, ops: ops})
	}
	return err
}

// lease attaches a few keys to a lease and revokes it. Others may have detached them by then, but for the first, which is
// this writer's own, so that the revocation always has a revision.
func (w *stormWriter) lease(ctx context.Context) error {
	g, err := w.client.Grant(ctx, 3600)
	if err != nil {
		return err
	}
	ops := []clientv3.Op{clientv3.OpPut(fmt.Sprintf("b/lease/%x", g.ID), w.value(), clientv3.WithLease(g.ID))}
	for _, n := range w.rng.Perm(10)[:1+w.rng.IntN(4)] {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%c/%02d", 'a'+w.rng.IntN(3), n), w.value(), clientv3.WithLease(g.ID)))
	}
	r, err := w.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	w.storm.acknowledge(ack{revision: r.Header.Revision, ops: ops, lease: int64(g.ID)})
	revoked, err := w.client.Revoke(ctx, g.ID)
	if err == nil {
		w.storm.acknowledge(ack{revision: revoked.Header.Revision, lease: int64(g.ID)})
	}
	return err
}

// ack is a change that a writer was told of: operations in a transaction, a deletion of a range, or a revoked lease.
type ack struct {
	revision int64
	ops      []clientv3.Op
	removed  *keyRange
	count    int   // of keys removed
	lease    int64 // with ops: their lease; alone: the one revoked
}

// check compares the change with the events of its revision.
func (a ack) check(c *chronicle) error {
	if a.revision > c.last() {
		return fmt.Errorf("revision %d was acknowledged, the events end at %d", a.revision, c.last())
	}
	var events []*clientv3.Event
	if a.revision >= 2 {
		events = c.revisions[a.revision-2]
	}
	var want []string
	switch {
	case a.ops != nil:
		want = a.changes(c)
	case a.removed != nil:
		for _, pair := range c.state(*a.removed, a.revision-1) {
			want = append(want, "DELETE "+string(pair.Key))
		}
		if a.count == 0 {
			if left := c.state(*a.removed, a.revision); len(left) > 0 {
				return fmt.Errorf("nothing to delete in %q at revision %d, where %s is", *a.removed, a.revision, show(left[0]))
			}
			return nil
		}
		if a.count != len(want) {
			return fmt.Errorf("%d deleted from %q at revision %d, want %v", a.count, *a.removed, a.revision, want)
		}
	default:
		for _, pair := range c.state(keyRange{"\x00", "\x00"}, a.revision-1) {
			if pair.Lease == a.lease {
				want = append(want, "DELETE "+string(pair.Key))
			}
		}
		for _, pair := range c.state(keyRange{"\x00", "\x00"}, c.last()) {
			if pair.Lease == a.lease {
				return fmt.Errorf("lease %x was revoked at revision %d and keeps %s", a.lease, a.revision, show(pair))
			}
		}
		if want == nil {
			return fmt.Errorf("lease %x had no keys before revision %d, which revoked it", a.lease, a.revision)
		}
	}
	if len(want) != len(events) {
		return fmt.Errorf("revision %d has %d events, acknowledged were %.40q", a.revision, len(events), want)
	}
	for i, e := range events {
		if got := describe(e); got != want[i] {
			return fmt.Errorf("revision %d, event %d: %.40q, acknowledged was %.40q", a.revision, i, got, want[i])
		}
	}
	return nil
}

// changes are the events that the operations must have caused.
func (a ack) changes(c *chronicle) []string {
	var want []string
	for _, op := range a.ops {
		switch {
		case op.IsPut():
			want = append(want, fmt.Sprintf("PUT %s %x %s", op.KeyBytes(), a.lease, op.ValueBytes()))
		case c.at(string(op.KeyBytes()), a.revision-1) != nil:
			want = append(want, "DELETE "+string(op.KeyBytes()))
		}
	}
	return want
}

func describe(e *clientv3.Event) string {
	if e.Type == clientv3.EventTypeDelete {
		return "DELETE " + string(e.Kv.Key)
	}
	return fmt.Sprintf("PUT %s %x %s", e.Kv.Key, e.Kv.Lease, e.Kv.Value)
}
