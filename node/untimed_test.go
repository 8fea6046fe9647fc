package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keelson/command"
	"keelson/env"
)

// shyClock ticks until it is stopped.
type shyClock struct {
	env.Clock
	stopped *atomic.Bool
}

type shyTicker struct {
	env.Ticker
	c    chan time.Time
	done chan struct{}
	once sync.Once
}

func (c shyClock) NewTicker(d time.Duration) env.Ticker {
	t := &shyTicker{Ticker: c.Clock.NewTicker(d), c: make(chan time.Time, 1), done: make(chan struct{})}
	go func() {
		for {
			select {
			case now := <-t.Ticker.C():
				if c.stopped.Load() {
					continue
				}
				select {
				case t.c <- now:
				default:
				}
			case <-t.done:
				return
			}
		}
	}()
	return t
}

func (t *shyTicker) C() <-chan time.Time { return t.c }

func (t *shyTicker) Stop() {
	t.once.Do(func() { close(t.done) })
	t.Ticker.Stop()
}

// Nothing that a member is asked waits for time to pass: whatever ends makes room for what waits. So a cluster whose clocks have
// stopped goes on, through whomever it is asked.
func TestWritesDoNotWaitForTicks(t *testing.T) {
	var stopped atomic.Bool
	c := newTrioWith(t, func(o *Options) { o.Clock = shyClock{o.Clock, &stopped} })
	c.leader()
	stopped.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var writers sync.WaitGroup
	for i, r := range c.rigs {
		for w := range 20 {
			writers.Go(func() {
				for k := range 100 {
					op := &command.Put{Key: fmt.Append(nil, i, w), Value: fmt.Append(nil, k)}
					if _, err := r.node.Propose(WithFlow(ctx, w), op); err != nil {
						t.Errorf("write %d through member %d: %v; it is at %+v, with %+v", k, i, err, r.node.Status(), r.node.Queues())
						return
					}
				}
			})
		}
	}
	writers.Wait()
}
