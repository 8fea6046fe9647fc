package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// run is one measurement under way.
type run struct {
	options Options
	access  access
	conns   []*conn
	lanes   []*lane // one for each connection

	begin    time.Time
	deadline time.Time    // zero: none
	left     atomic.Int64 // requests still to start; what is below zero has been asked for in vain
	sequence atomic.Int64 // the next key in turn, or the next lease
	active   sync.WaitGroup
	stopped  atomic.Bool // no further request starts
}

// lane is what belongs to one connection and is used by its reader goroutine, or before that has anything to do.
type lane struct {
	conn      *conn
	keys      *keyChooser
	latency   histogram
	count     uint64
	errors    map[string]uint64
	replySize uint64
	message   []byte // the request being made
	put       []byte // txn: the put in it
	scratch   []byte
	mu        sync.Mutex // with a rate, the pacer starts calls too
	free      []*slot    // with a rate: slots that wait for their turn
}

// slot is one place for a request under way; in a closed loop it is never empty.
type slot struct {
	lane  *lane
	call  call
	begin time.Time
}

// Run sends the load and returns what was measured, after printing it to w. Everything it started has ended.
//
// Errors: options that make no sense; no connection; a connection that broke; the context's. Requests that the server
// refuses are counted, not errors.
func Run(ctx context.Context, options Options, w io.Writer) (Result, error) {
	result, err := measure(ctx, options)
	if err == nil {
		result.write(w)
	}
	return result, err
}

func measure(ctx context.Context, options Options) (Result, error) {
	options, err := options.completed()
	if err != nil {
		return Result{}, err
	}
	entered, err := options.enter(ctx)
	if err != nil {
		return Result{}, err
	}
	r := &run{options: options, access: entered}
	defer r.close()
	if err := r.connect(ctx, options.Conns); err != nil {
		return Result{}, err
	}
	// A cancelled context ends the connections, and with them everything that waits for an answer.
	stop := context.AfterFunc(ctx, func() {
		r.stopped.Store(true)
		for _, c := range r.conns {
			c.fail(ctx.Err())
		}
	})
	defer stop()

	meter := newMeter(options.ServerPID)
	var result Result
	switch options.Op {
	case OpPut, OpGet, OpRange, OpTxn, OpGrant, OpKeepAlive:
		err = r.loop(ctx)
		result = r.result()
	case OpWatch:
		result, err = r.watch(ctx, meter)
	case OpWatchIdle:
		result, err = r.watchIdle(ctx)
	default:
		return Result{}, fmt.Errorf("bench: unknown load %q", options.Op)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return Result{}, err
	}
	meter.finish(&result)
	return result, nil
}

// connect makes the connections.
func (r *run) connect(ctx context.Context, n int) error {
	for i := range n {
		c, err := dial(ctx, r.options.endpoint(i), r.access)
		if err != nil {
			return err
		}
		r.conns = append(r.conns, c)
		r.lanes = append(r.lanes, &lane{conn: c, keys: newKeyChooser(r.options, i, &r.sequence), errors: map[string]uint64{}})
	}
	return nil
}

func (r *run) close() {
	for _, c := range r.conns {
		c.close()
	}
}

// loop runs requests in InFlight slots until there are enough.
func (r *run) loop(ctx context.Context) error {
	o := r.options
	r.left.Store(int64(o.Total))
	if o.Total == 0 {
		r.left.Store(1 << 62)
	}
	r.begin = time.Now()
	if o.Duration > 0 {
		r.deadline = r.begin.Add(o.Duration)
	}
	value := valueOf(o)
	slots := make([]*slot, o.InFlight)
	for i := range slots {
		s := &slot{lane: r.lanes[i%len(r.lanes)]}
		slots[i] = s
		s.call.onEnd = func(err error) { r.finished(s, value, err) }
		if o.Op == OpKeepAlive {
			s.call.path = pathKeepAlive
			s.call.onMessage = func(message []byte) error { return r.renewed(s, message) }
		}
	}
	if o.Rate > 0 {
		r.pace(ctx, slots, value)
	} else {
		for _, s := range slots {
			s.lane.mu.Lock()
			r.start(s, value)
			s.lane.mu.Unlock()
		}
		for _, c := range r.conns {
			c.flush()
		}
	}
	r.active.Wait()
	return r.broken()
}

// broken returns why a connection ended before it was told to.
func (r *run) broken() error {
	for _, c := range r.conns {
		c.mu.Lock()
		err := c.err
		c.mu.Unlock()
		if err != nil && !errors.Is(err, errClosed) {
			return err
		}
	}
	return nil
}

// more takes one request from what is left to do.
func (r *run) more(now time.Time) bool {
	if r.stopped.Load() || (!r.deadline.IsZero() && now.After(r.deadline)) {
		return false
	}
	return r.left.Add(-1) >= 0
}

// start sends the slot's next request if there is one to send. Callers hold the lane's mu.
func (r *run) start(s *slot, value []byte) {
	now := time.Now()
	if !r.more(now) {
		return
	}
	r.active.Add(1)
	s.begin = now
	r.encode(s, value)
	if err := s.lane.conn.start(&s.call, s.lane.message, r.options.Op == OpKeepAlive); err != nil {
		s.lane.fail(err.Error())
		r.active.Done()
	}
}

// encode makes the slot's next request in the lane's buffer.
func (r *run) encode(s *slot, value []byte) {
	o, l := &r.options, s.lane
	b := l.message[:0]
	switch o.Op {
	case OpPut, OpWatch:
		s.call.path = pathPut
		b = appendPut(b, l.keys.choose(), value, o.PutLease, o.PrevKV && o.Op == OpPut)
	case OpGet:
		s.call.path = pathRange
		b = appendRange(b, rangeQuery{key: l.keys.choose(), serializable: o.Serializable})
	case OpRange:
		s.call.path = pathRange
		from := []byte(o.Prefix)
		if o.Pages {
			from = l.keys.choose()
		}
		b = appendRange(b, rangeQuery{
			key: from, end: prefixEnd([]byte(o.Prefix)), limit: o.Limit, revision: o.Revision,
			serializable: o.Serializable, keysOnly: o.KeysOnly, countOnly: o.CountOnly,
		})
	case OpTxn:
		s.call.path = pathTxn
		key := l.keys.choose()
		l.put = appendPut(l.put[:0], key, value, 0, false)
		b = appendTxn(b, key, l.put, &l.scratch)
	case OpGrant:
		s.call.path = pathGrant
		b = appendGrant(b, o.LeaseTTL, o.LeaseFirst+r.sequence.Add(1)-1)
	case OpKeepAlive:
		b = appendKeepAlive(b, o.LeaseFirst+(r.sequence.Add(1)-1)%o.Leases)
	default:
		panic(fmt.Sprintf("bench: no request for load %q", o.Op))
	}
	l.message = b
}

// renewed takes the reply to a keep-alive and sends the slot's next one on the same stream.
func (r *run) renewed(s *slot, message []byte) error {
	l := s.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.count++
	l.latency.record(now.Sub(s.begin))
	ttl, err := parseKeepAliveTTL(message)
	if err != nil {
		return err
	}
	if ttl <= 0 {
		l.fail("lease not found")
	}
	if !r.more(now) {
		l.conn.cancel(&s.call)
		return nil
	}
	s.begin = now
	r.encode(s, nil)
	l.conn.send(&s.call, l.message)
	return nil
}

// finished counts a call that has ended and starts the slot's next one.
func (r *run) finished(s *slot, value []byte, err error) {
	l := s.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	defer r.active.Done()
	l.replySize += uint64(s.call.received)
	if r.options.Op == OpKeepAlive {
		if err != nil && !errors.Is(err, errCancelled) {
			l.fail(err.Error())
		}
		return
	}
	l.count++
	l.latency.record(time.Since(s.begin))
	if err != nil {
		l.fail(err.Error())
	}
	if r.options.Rate > 0 {
		l.free = append(l.free, s)
		return
	}
	r.start(s, value)
}

// fail counts a refusal. Callers hold mu.
func (l *lane) fail(text string) {
	if _, known := l.errors[text]; !known && len(l.errors) >= errorTextsMax {
		text = "others"
	}
	l.errors[text]++
}

// pacePeriod is how often requests that have become due are started.
const pacePeriod = 2 * time.Millisecond

// pace starts requests at the given rate, as long as slots are free, until there are enough.
func (r *run) pace(ctx context.Context, slots []*slot, value []byte) {
	for _, s := range slots {
		s.lane.free = append(s.lane.free, s)
	}
	ticker := time.NewTicker(pacePeriod)
	defer ticker.Stop()
	started := 0
	for lane := 0; ; {
		now := time.Now()
		if r.stopped.Load() || r.left.Load() <= 0 || (!r.deadline.IsZero() && now.After(r.deadline)) {
			return
		}
		due := int(now.Sub(r.begin).Seconds() * float64(r.options.Rate))
		for ; started < due; started++ {
			l := r.lanes[lane%len(r.lanes)]
			lane++
			l.mu.Lock()
			if n := len(l.free); n > 0 {
				s := l.free[n-1]
				l.free = l.free[:n-1]
				r.start(s, value)
			} else {
				l.errors[behind]++
			}
			l.mu.Unlock()
		}
		for _, c := range r.conns {
			c.flush()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// behind is where a lane counts the requests it had no slot for; they are not errors of the server.
const behind = "\x00behind"

// result adds up the lanes.
func (r *run) result() Result {
	total := &histogram{}
	result := Result{Op: r.options.Op, Elapsed: time.Since(r.begin), Errors: map[string]uint64{}}
	for _, l := range r.lanes {
		l.mu.Lock()
		total.merge(&l.latency)
		result.Count += l.count
		result.ReplyBytes += l.replySize
		for text, n := range l.errors {
			if text == behind {
				result.Behind += n
			} else {
				result.Errors[text] += n
			}
		}
		l.mu.Unlock()
	}
	result.PerSec = float64(result.Count) / result.Elapsed.Seconds()
	result.P50, result.P90, result.P99 = total.percentile(0.5), total.percentile(0.9), total.percentile(0.99)
	result.P999, result.Max, result.Mean = total.percentile(0.999), total.longest, total.mean()
	return result
}
