package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchLog is what the watchers of a cluster in trouble have seen.
type watchLog struct {
	seenMu  sync.Mutex
	watched [chaosWatchers][]string // by each
	// Of all that is left of the history in the end:
	reference []string
	changes   map[int64]change // by revision
	compacted int64            // below and at it some may be missing
}

// change is what a revision did to a register; value is empty if it was deleted.
type change struct{ key, value string }

// describeEvent begins with the revision, so that descriptions sort as events do.
func describeEvent(ev *clientv3.Event) string {
	return fmt.Sprintf("%012d %s %s=%s created %d version %d", ev.Kv.ModRevision, ev.Type, ev.Kv.Key, ev.Kv.Value, ev.Kv.CreateRevision, ev.Kv.Version)
}

// watch follows all registers through one member after the other, from where it has come to.
func (c *chaos) watch(ctx context.Context, watcher int, rng *rand.Rand) {
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
					c.t.Errorf("watcher %d asked for events from %d on and got %v", watcher, next, ev)
				}
				c.see(watcher, ev)
			}
			next = max(next, r.Header.Revision+1) // if it was told of progress, that was not too early
			if len(r.Events) > 0 {
				next = r.Events[len(r.Events)-1].Kv.ModRevision + 1
			}
		}
		cancel()
		client.Close()
	}
}

func (c *chaos) see(watcher int, ev *clientv3.Event) {
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	c.watched[watcher] = append(c.watched[watcher], describeEvent(ev))
}

// finishWatches writes a last event, reads the whole history that is left, and waits until all watchers have come to its end.
func (c *chaos) finishWatches(stop func(), watchers *sync.WaitGroup) {
	client := c.lab.Client()
	defer client.Close()
	last, err := client.Put(within(c.t), "register/end", "")
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(c.t))
	defer cancel()
	c.changes = map[int64]change{}
	ended := false
	for r := range client.Watch(ctx, "register/", clientv3.WithPrefix(), clientv3.WithRev(c.compacted+1)) {
		if ended {
			break
		}
		if r.Err() != nil {
			c.t.Fatal(r.Err())
		}
		for _, ev := range r.Events {
			c.reference = append(c.reference, describeEvent(ev))
			c.changes[ev.Kv.ModRevision] = change{string(ev.Kv.Key), string(ev.Kv.Value)}
			if ev.Kv.ModRevision == last.Header.Revision {
				ended = true
				cancel()
			}
		}
	}
	if !ended {
		c.t.Fatalf("the history's end did not come: %v", ctx.Err())
	}
	deadline := time.Now().Add(patience)
	for !c.allSaw(c.reference[len(c.reference)-1]) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	watchers.Wait()
}

func (c *chaos) allSaw(event string) bool {
	c.seenMu.Lock()
	defer c.seenMu.Unlock()
	for _, seen := range c.watched {
		if len(seen) == 0 || seen[len(seen)-1] < event {
			return false
		}
	}
	return true
}

func (c *chaos) judgeWatches() {
	for i, seen := range c.watched {
		if !sort.StringsAreSorted(seen) {
			c.t.Errorf("watcher %d has not seen the events in order", i)
		}
		seen = seen[sort.SearchStrings(seen, fmt.Sprintf("%012d", c.compacted+1)):]
		// A write that its client has given up may have come after the end.
		seen = seen[:min(len(seen), len(c.reference))]
		if strings.Join(seen, "\n") != strings.Join(c.reference, "\n") {
			c.t.Errorf("watcher %d has seen %d events from %d on, and there were %d; the first difference: %s",
				i, len(seen), c.compacted+1, len(c.reference), difference(seen, c.reference))
		}
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
