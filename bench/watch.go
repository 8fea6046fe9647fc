package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	createTimeout  = 60 * time.Second // for all create replies
	deliverTimeout = 60 * time.Second // for all events, after the last put was answered
)

// watching is a set of watch streams. The readers of their connections count.
type watching struct {
	conns    []*conn
	streams  int
	created  atomic.Int64
	events   atomic.Uint64
	progress chan struct{} // capacity 1; signalled when a counter has moved

	mu  sync.Mutex
	err error // the first stream that ended, or a watcher that was cancelled
}

// openWatches opens streams on connections of their own, each with its share of the watchers on the given prefix, and
// waits for all create replies.
//
// Errors: no connection, a watcher refused, not all created in time. What was opened stays for the caller to close.
func openWatches(ctx context.Context, o Options, a access, prefix string, watchers, streams int) (*watching, error) {
	w := &watching{streams: streams, progress: make(chan struct{}, 1)}
	create := appendWatchCreate(nil, []byte(prefix), prefixEnd([]byte(prefix)), o.PrevKV)
	for i := range streams {
		if i%streamsPerConn == 0 {
			c, err := dial(ctx, o.endpoint(len(w.conns)), a)
			if err != nil {
				return w, err
			}
			w.conns = append(w.conns, c)
		}
		c := w.conns[len(w.conns)-1]
		stream := &call{path: pathWatch, onMessage: w.take, onEnd: w.ended}
		if err := c.start(stream, create, true); err != nil {
			return w, err
		}
		for k := i + streams; k < watchers; k += streams {
			c.send(stream, create)
		}
		// Not all at once: a server may defend itself against thousands of streams in one breath.
		if i%100 == 99 || i == streams-1 {
			c.flush()
			if err := w.until(ctx, createTimeout, func() bool { return w.created.Load() >= created(watchers, streams, i+1) }); err != nil {
				return w, fmt.Errorf("bench: %d of %d watchers created: %w", w.created.Load(), watchers, err)
			}
		}
	}
	return w, nil
}

// created returns how many watchers the first streams have together.
func created(watchers, streams, first int) int64 {
	return int64(watchers/streams*first + min(watchers%streams, first))
}

func (w *watching) close() {
	for _, c := range w.conns {
		c.close()
	}
}

// take counts one response.
func (w *watching) take(message []byte) error {
	response, err := parseWatchResponse(message)
	switch {
	case err != nil:
		return err
	case response.canceled:
		w.fail(errors.New("bench: a watcher was cancelled"))
	case response.created:
		w.created.Add(1)
	}
	w.events.Add(uint64(response.events))
	select {
	case w.progress <- struct{}{}:
	default:
	}
	return nil
}

func (w *watching) ended(err error) { w.fail(fmt.Errorf("bench: watch stream ended: %w", err)) }

func (w *watching) fail(err error) {
	w.mu.Lock()
	if w.err == nil && !errors.Is(err, errClosed) {
		w.err = err
	}
	w.mu.Unlock()
	select {
	case w.progress <- struct{}{}:
	default:
	}
}

// until waits for a condition that the counters fulfil.
//
// Errors: a stream that ended, the context's, or too long a wait.
func (w *watching) until(ctx context.Context, timeout time.Duration, done func() bool) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		w.mu.Lock()
		err := w.err
		w.mu.Unlock()
		if err != nil {
			return err
		}
		if done() {
			return nil
		}
		select {
		case <-w.progress:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("not within %v", timeout)
		}
	}
}

// watch opens the watchers, then puts until the total and waits until every watcher has had every event. Server time
// counts from the first put on.
func (r *run) watch(ctx context.Context, meter *meter) (Result, error) {
	o := r.options
	watchers := max(o.Watchers, o.Streams)
	w, err := openWatches(ctx, o, r.access, o.Prefix, watchers, o.Streams)
	defer w.close()
	if err != nil {
		return Result{}, err
	}
	meter.restart()
	if err := r.loop(ctx); err != nil {
		return Result{}, err
	}
	result := r.result()
	want := (result.Count - result.failures()) * uint64(watchers)
	if err := w.until(ctx, deliverTimeout, func() bool { return w.events.Load() >= want }); err != nil {
		return Result{}, fmt.Errorf("bench: %d of %d events delivered: %w", w.events.Load(), want, err)
	}
	result.Elapsed = time.Since(r.begin)
	result.Watchers = watchers
	result.Events = w.events.Load()
	result.EventsPerS = float64(result.Events) / result.Elapsed.Seconds()
	return result, nil
}

// idlePrefix is where nobody writes.
const idlePrefix = "bench-idle/"

// watchIdle opens streams with one watcher each and holds them.
func (r *run) watchIdle(ctx context.Context) (Result, error) {
	o := r.options
	r.begin = time.Now()
	w, err := openWatches(ctx, o, r.access, idlePrefix, o.Streams, o.Streams)
	defer w.close()
	if err != nil {
		return Result{}, err
	}
	opened := time.Since(r.begin)
	if err := w.until(ctx, max(o.Duration, time.Millisecond), func() bool { return false }); w.err != nil || ctx.Err() != nil {
		return Result{}, err
	}
	result := Result{Op: o.Op, Count: uint64(o.Streams), Elapsed: opened, PerSec: float64(o.Streams) / opened.Seconds(), Watchers: o.Streams}
	if o.ServerPID != 0 {
		// Taken while the streams are open; the meter's last look comes when they are closed.
		if u, err := usageOf(o.ServerPID); err == nil {
			result.RSSAfter = u.rssBytes
		}
	}
	return result, nil
}
