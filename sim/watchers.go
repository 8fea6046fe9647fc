package sim

import (
	"bytes"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"keelson/env"
	"keelson/state"
	"keelson/state/mvcc"
	"keelson/watch"
)

// openHub makes the member's hub. Its tasks are carried out one by one, each after a while: who is slow is told late.
func (m *member) openHub() {
	m.hub = watch.NewHub(m.machine, watch.Options{
		RingBytes: m.w.ringBytes, ResponseBytes: m.w.responseBytes, CatchUpReaders: 1 + m.w.rng.IntN(2),
		Clock: env.SystemClock(), Chance: m.w.rng,
		Spawn: func(task func()) {
			m.tasks = append(m.tasks, task)
			m.w.after(time.Duration(m.w.rng.Int64N(int64(m.w.taskMax))), "task of the hub", m, func() { m.nextTask() })
		},
	})
}

func (m *member) nextTask() {
	if len(m.tasks) > 0 {
		task := m.tasks[0]
		m.tasks = m.tasks[1:]
		task()
	}
}

// closeHub ends the hub and its streams. Nobody listens any more.
func (m *member) closeHub() {
	if m.hub == nil {
		return
	}
	for _, c := range m.w.clients {
		if c.member == m {
			c.leave()
		}
	}
	for len(m.tasks) > 0 {
		m.nextTask()
	}
	m.hub.Close()
}

// publish tells the hub what has come of a run of entries.
func (m *member) publish(out *state.Outcome) {
	if out.Light {
		m.hub.PublishLight(out.Events, out.Revision)
		return
	}
	m.hub.Publish(out.Events, out.Revision)
	if m.w.bug("publish-twice") && len(out.Events) > 0 && m.w.rng.IntN(10) == 0 {
		for _, c := range m.w.clients {
			if c.member == m && c.created {
				c.deliver(out.Events[:1])
			}
		}
	}
}

// watchClient is a client that watches, on one member after the other, and must see everything that concerns it, in order,
// once.
type watchClient struct {
	w      *world
	name   int
	member *member // nil: nowhere
	stream *watch.Stream
	run    int // of its streams: a response to an earlier one is nobody's

	request watch.Request
	created bool
	next    mvcc.Revision // the first revision that it may not have seen; 0: it has not begun
	told    mvcc.Revision // progress up to here was promised, on this stream
	seen    int           // events
}

func newWatchClient(w *world, name int) *watchClient {
	c := &watchClient{w: w, name: name}
	c.request.Key, c.request.End = w.load.selector(w.rng)
	c.request.PrevKV = w.rng.IntN(2) == 0
	c.request.NoPut, c.request.NoDelete = w.rng.IntN(6) == 0, w.rng.IntN(6) == 0
	return c
}

// act is what the client does now and then.
func (c *watchClient) act() {
	w := c.w
	if c.member == nil || w.rng.IntN(30) == 0 && !w.healing {
		if up := w.running(); len(up) > 0 && !w.healing {
			c.moveTo(up[w.rng.IntN(len(up))])
		}
		return
	}
	if w.rng.IntN(3) == 0 {
		c.stream.Progress()
	}
}

// leave closes the client's stream.
func (c *watchClient) leave() {
	if c.stream != nil {
		c.stream.Close()
	}
	c.run++
	c.stream, c.member, c.created = nil, nil, false
}

// moveTo goes on watching on a member, from where the client has come.
func (c *watchClient) moveTo(m *member) {
	c.leave()
	c.w.reach("a watcher went on elsewhere", c.next > 0)
	c.member, c.told = m, 0
	c.stream = m.hub.NewStream(receiver{c, c.run})
	c.request.Start = c.next
	c.w.reach("a watcher waits for the future", c.next > m.machine.Revision()+1)
	c.stream.Create(c.request)
}

// receiver is where a stream's responses go.
type receiver struct {
	c   *watchClient
	run int
}

// Send implements watch.Sender.
func (r receiver) Send(resp *watch.Response) error {
	if r.run == r.c.run && r.c.w.broken == nil {
		r.c.receive(resp)
	}
	return nil
}

func (c *watchClient) wrong(format string, args ...any) {
	if c.w.broken == nil {
		c.w.broken = fmt.Errorf("watcher %d on %v: %s", c.name, c.member, fmt.Sprintf(format, args...))
	}
}

func (c *watchClient) receive(r *watch.Response) {
	w := c.w
	switch {
	case r.Created:
		if r.Canceled && r.CancelReason != watch.ReasonEmptyRange {
			c.wrong("refused: %s", r.CancelReason)
		}
		if r.Canceled { // it asked for nothing
			c.next = 1 << 62
			return
		}
		c.created = true
		if c.next == 0 {
			c.next = r.Revision + 1
		}
	case r.Canceled:
		w.reach("a watcher fell behind a compaction", true)
		if r.CompactRevision <= c.next || r.CompactRevision > w.model.floor {
			c.wrong("cancelled for a compaction at %d (floor %d), though it goes on at %d", r.CompactRevision, w.model.floor, c.next)
		}
		c.next = r.CompactRevision
		c.run++ // and what comes of this stream is nobody's
		c.stream.Close()
		c.stream, c.member, c.created = nil, nil, false
	case len(r.Events) == 0:
		w.reach("a watcher was told of progress", true)
		if r.Revision < c.told || r.Revision > w.model.revision {
			c.wrong("progress to %d after %d, of %d", r.Revision, c.told, w.model.revision)
		}
		if missing := c.expected(c.next, r.Revision); len(missing) > 0 && c.next > 0 {
			c.wrong("progress to %d, but it has not seen %s", r.Revision, renderEvent(&missing[0]))
		}
		c.told = r.Revision
		c.next = max(c.next, r.Revision+1)
	default:
		var decoded etcdserverpb.WatchResponse
		if err := proto.Unmarshal(bytes.Join(r.Events, nil), &decoded); err != nil {
			c.wrong("events that do not decode: %v", err)
			return
		}
		events := make([]mvcc.Event, len(decoded.Events))
		for i, e := range decoded.Events {
			events[i] = fromWire(e)
		}
		c.deliver(events)
	}
}

func fromWire(e *mvccpb.Event) (ev mvcc.Event) {
	if e.Type == mvccpb.Event_DELETE {
		ev.Kind = mvcc.Delete
	} else {
		ev.Kind = mvcc.Put
	}
	pair := func(kv *mvccpb.KeyValue) mvcc.KeyValue {
		return mvcc.KeyValue{
			Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
			Version: kv.Version, Lease: kv.Lease,
		}
	}
	ev.KV = pair(e.Kv)
	if e.PrevKv != nil {
		prev := pair(e.PrevKv)
		ev.Prev = &prev
	}
	return ev
}

// deliver compares events with what comes next: whole revisions, in order, none left out, none twice.
func (c *watchClient) deliver(events []mvcc.Event) {
	w := c.w
	last := events[len(events)-1].KV.ModRevision
	want := c.expected(c.next, last)
	if len(want) != len(events) {
		c.wrong("from %d on to %d it gets %s, want %s", c.next, last, renderEvents(events), renderEvents(want))
		return
	}
	for i := range want {
		got, e := events[i], want[i]
		got.Sub = e.Sub
		if got.Prev == nil && e.KV.ModRevision-1 < w.model.floor {
			e.Prev = nil // it may be gone by now
		}
		if renderEvent(&got) != renderEvent(&e) {
			c.wrong("gets %s, want %s", renderEvent(&got), renderEvent(&e))
			return
		}
	}
	if last <= c.told {
		c.wrong("gets an event of %d after progress to %d", last, c.told)
	}
	w.reach("a watcher was told of several revisions at once", events[0].KV.ModRevision < last)
	c.seen += len(events)
	c.next = last + 1
}

// expected is what the client is to see of some revisions.
func (c *watchClient) expected(from, to mvcc.Revision) (events []mvcc.Event) {
	sel := mvcc.Selector{Key: c.request.Key, End: c.request.End}
	for rev := max(from, 1); rev <= to; rev++ {
		for _, e := range c.w.events[rev] {
			drop := e.Kind == mvcc.Put && c.request.NoPut || e.Kind == mvcc.Delete && c.request.NoDelete
			if drop || !sel.Contains(e.KV.Key) {
				continue
			}
			if !c.request.PrevKV {
				e.Prev = nil
			}
			events = append(events, e)
		}
	}
	return events
}

// hasAll reports whether the client has seen everything that there is.
func (c *watchClient) hasAll() bool {
	if c.member == nil {
		for _, m := range c.w.running() {
			if m.machine.Applied().Index == c.w.last() {
				c.moveTo(m)
				break
			}
		}
		return false
	}
	return len(c.expected(c.next, c.w.model.revision)) == 0
}
