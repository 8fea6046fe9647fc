package suite

import (
	"context"
	"flag"
	"strconv"
	"sync"
	"testing"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/kv/codec"
	"github.com/grafana/dskit/kv/etcd"
)

// TestStore has several count on in one key, while somebody watches. The package's own tests do without an etcd.
func TestStore(t *testing.T) {
	const clients, times = 4, 25
	var cfg etcd.Config
	cfg.RegisterFlagsWithPrefix(flag.NewFlagSet("", flag.PanicOnError), "")
	cfg.Endpoints, cfg.MaxRetries = []string{"127.0.0.1:2379"}, clients*times
	open := func() *etcd.Client {
		c, err := etcd.New(cfg, codec.String{}, log.NewNopLogger())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx, watcher := t.Context(), open()
	set := func(value string) error {
		return watcher.CAS(ctx, "ring/count", func(any) (any, bool, error) { return value, true, nil })
	}
	seen, all := make(chan int), make(chan struct{})
	go func() {
		defer close(all)
		watcher.WatchKey(ctx, "ring/count", func(value any) bool {
			n, err := strconv.Atoi(value.(string))
			if err != nil {
				t.Error(err)
			}
			seen <- n
			return n < clients*times
		})
	}()
	for begun := false; !begun; { // nothing tells that the watch has begun, but what it sees
		if err := set("0"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-seen:
			begun = true
		default:
		}
	}
	var wg sync.WaitGroup
	for range clients {
		c := open()
		wg.Go(func() {
			for range times {
				if err := c.CAS(context.WithoutCancel(ctx), "ring/count", func(in any) (any, bool, error) {
					n, err := strconv.Atoi(in.(string))
					return strconv.Itoa(n + 1), true, err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for last, done := 0, false; !done; {
		select {
		case n := <-seen:
			if n != last+1 && (n != 0 || last != 0) {
				t.Errorf("%d was seen behind %d", n, last)
			}
			last = n
		case <-all:
			done = true
		}
	}
	wg.Wait()
	if value, err := watcher.Get(ctx, "ring/count"); err != nil || value != strconv.Itoa(clients*times) {
		t.Errorf("in the end: %v, %v", value, err)
	}
	if keys, err := watcher.List(ctx, "ring/"); err != nil || len(keys) != 1 {
		t.Errorf("list: %v, %v", keys, err)
	}
	if err := watcher.Delete(ctx, "ring/count"); err != nil {
		t.Error(err)
	}
	if value, err := watcher.Get(ctx, "ring/count"); err != nil || value != nil {
		t.Errorf("after the deletion: %v, %v", value, err)
	}
}
