package watch

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"keelson/state/mvcc"
)

// coverage counts what a test has met, so that it can tell whether it tests what it means to.
type coverage struct {
	events, refusals, fragments, compactions, streamProgress, watcherProgress, cancels, historyReads, prevs int
}

// checker checks what one client received against everything that happened.
type checker struct {
	all     []mvcc.Event
	floor   mvcc.Revision // the last one
	creates []Request     // that the client made, in order
	cancels map[int64]int // ids that the client cancelled, and how often
	// complete: the stream stayed open and nothing moves any more, so everything must have arrived.
	complete bool

	active map[int64]*watched
	found  coverage
}

// watched is a watcher as its client sees it.
type watched struct {
	Request
	from      mvcc.Revision
	expected  []*mvcc.Event // all that it is ever to receive
	at        int           // how many of them it has
	compacted bool
	told      mvcc.Revision   // by progress
	open      []*mvccpb.Event // fragments of a response still incomplete
	// ahead is a progress response that overtook events of this watcher. It did not if it turns out that the client had
	// cancelled the watcher: then progress no longer spoke for it.
	ahead error
}

func (c *checker) check(responses []received) error {
	c.active = make(map[int64]*watched)
	for i, r := range responses {
		if err := c.step(r); err != nil {
			return fmt.Errorf("response %d, %v: %w", i, r, err)
		}
		if !bytes.Equal(bytes.Join(r.raw, nil), r.copied) {
			return fmt.Errorf("response %d, %v: its bytes changed afterwards", i, r)
		}
	}
	if !c.complete {
		return nil
	}
	if len(c.creates) > 0 {
		return fmt.Errorf("%d creates unanswered", len(c.creates))
	}
	for id, w := range c.active {
		if w.ahead != nil {
			return w.ahead
		}
		if !w.compacted && w.at < len(w.expected) {
			return fmt.Errorf("watcher %d (%+v) lacks %d of %d events, from revision %d", id, w.Request, len(w.expected)-w.at,
				len(w.expected), w.expected[w.at].KV.ModRevision)
		}
	}
	return nil
}

func (c *checker) step(r received) error {
	w := c.active[r.WatchID]
	switch {
	case r.Created:
		if len(c.creates) == 0 {
			return fmt.Errorf("answers no create")
		}
		request := c.creates[0]
		c.creates = c.creates[1:]
		return c.created(r, request)
	case r.Canceled:
		return c.canceled(r, w)
	case len(r.events) > 0:
		if w == nil || w.compacted {
			return fmt.Errorf("events for no watcher")
		}
		return c.delivered(r, w)
	case r.WatchID == NoWatcher && w == nil:
		c.found.streamProgress++
		if len(c.active) == 0 {
			return fmt.Errorf("progress of no watcher")
		}
		for _, w := range c.active {
			if err := w.progress(r.Revision); err != nil && w.ahead == nil {
				w.ahead = fmt.Errorf("before %v: %w", r, err)
			}
		}
		return nil
	default:
		c.found.watcherProgress++
		if w == nil || !w.ProgressNotify {
			return fmt.Errorf("progress nobody asked for")
		}
		return w.progress(r.Revision)
	}
}

func (c *checker) created(r received, request Request) error {
	want := ""
	span, ok := newSpan(request.Key, request.End)
	switch {
	case request.Start < 0:
		want = ReasonCompacted
	case !ok:
		want = ReasonEmptyRange
	case request.WatchID != 0 && c.active[request.WatchID] != nil:
		want = ReasonDuplicateID
	}
	if want != r.CancelReason || r.Canceled != (want != "") {
		return fmt.Errorf("refused with %q, want %q", r.CancelReason, want)
	}
	if want != "" {
		c.found.refusals++
		if r.WatchID != NoWatcher {
			return fmt.Errorf("refused with an id")
		}
		return nil
	}
	if c.active[r.WatchID] != nil || request.WatchID != 0 && r.WatchID != request.WatchID {
		return fmt.Errorf("not an id for %+v", request)
	}
	w := &watched{Request: request, from: request.Start}
	if w.from == 0 {
		w.from = r.Revision + 1
	}
	for i := range c.all {
		ev := &c.all[i]
		if ev.KV.ModRevision >= w.from && span.contains(ev.KV.Key) && !request.variant().drops(ev.Kind) {
			w.expected = append(w.expected, ev)
		}
	}
	c.active[r.WatchID] = w
	return nil
}

func (c *checker) canceled(r received, w *watched) error {
	if w == nil {
		return fmt.Errorf("cancels no watcher")
	}
	if r.CompactRevision == 0 {
		c.found.cancels++
		if c.cancels[r.WatchID] == 0 {
			return fmt.Errorf("nobody cancelled it")
		}
		c.cancels[r.WatchID]--
		delete(c.active, r.WatchID)
		return nil
	}
	c.found.compactions++
	position := w.from
	if w.at > 0 {
		position = max(position, w.expected[w.at-1].KV.ModRevision+1)
	}
	switch {
	case w.ahead != nil:
		return w.ahead
	case w.compacted:
		return fmt.Errorf("cancelled for compaction twice")
	case r.Revision != 0 || r.CancelReason != "":
		return fmt.Errorf("has a revision or reason")
	case position >= r.CompactRevision || r.CompactRevision > c.floor:
		return fmt.Errorf("watcher at %d was not compacted (floor in the end %d)", position, c.floor)
	case w.open != nil:
		return fmt.Errorf("cancelled amidst fragments")
	}
	w.compacted = true
	return nil
}

// delivered checks that the events are the next ones expected, and whole revisions.
func (c *checker) delivered(r received, w *watched) error {
	c.found.events += len(r.events)
	if w.ahead != nil {
		return w.ahead
	}
	if r.Fragment && !w.Fragment {
		return fmt.Errorf("fragment nobody asked for")
	}
	for _, ev := range r.events {
		if w.at == len(w.expected) {
			return fmt.Errorf("more than was expected: %s", showEvent(ev))
		}
		want := w.expected[w.at]
		if err := c.same(ev, want, w.PrevKV); err != nil {
			return err
		}
		if r.Revision < want.KV.ModRevision || r.Revision < w.Start {
			return fmt.Errorf("header before its events or the start %d", w.Start)
		}
		w.at++
	}
	if w.open = append(w.open, r.events...); r.Fragment {
		c.found.fragments++
		return nil
	}
	last := w.open[len(w.open)-1].Kv.ModRevision
	w.open = nil
	if w.at < len(w.expected) && w.expected[w.at].KV.ModRevision == last {
		return fmt.Errorf("revision %d is split", last)
	}
	return nil
}

func (c *checker) same(got *mvccpb.Event, ev *mvcc.Event, prev bool) error {
	want := protoEvent(ev, prev)
	if want.PrevKv != nil && got.PrevKv == nil && ev.KV.ModRevision <= c.floor {
		want.PrevKv = nil // read when the pair had been compacted
	}
	if got.PrevKv != nil {
		c.found.prevs++
	}
	if !proto.Equal(got, want) {
		return fmt.Errorf("event %s, want %s", showEvent(got), showEvent(want))
	}
	return nil
}

// progress checks a claim that everything up to rev has arrived.
func (w *watched) progress(rev mvcc.Revision) error {
	switch {
	case w.compacted:
		return fmt.Errorf("speaks for a watcher cancelled for compaction")
	case w.Start > rev:
		return fmt.Errorf("progress before the start %d", w.Start)
	case w.at < len(w.expected) && w.expected[w.at].KV.ModRevision <= rev:
		return fmt.Errorf("progress ahead of the event at %d", w.expected[w.at].KV.ModRevision)
	case w.at > 0 && rev < w.expected[w.at-1].KV.ModRevision:
		return fmt.Errorf("progress back behind the event at %d", w.expected[w.at-1].KV.ModRevision)
	case rev < w.told:
		return fmt.Errorf("progress back behind progress to %d", w.told)
	case w.open != nil:
		return fmt.Errorf("progress amidst fragments")
	}
	w.told = rev
	return nil
}

func (c *coverage) add(o coverage) {
	c.events += o.events
	c.refusals += o.refusals
	c.fragments += o.fragments
	c.compactions += o.compactions
	c.streamProgress += o.streamProgress
	c.watcherProgress += o.watcherProgress
	c.cancels += o.cancels
	c.historyReads += o.historyReads
	c.prevs += o.prevs
}

// missing names what never happened.
func (c *coverage) missing() (names []string) {
	for name, n := range map[string]int{
		"events": c.events, "refusals": c.refusals, "fragments": c.fragments, "compactions": c.compactions,
		"streamProgress": c.streamProgress, "watcherProgress": c.watcherProgress, "cancels": c.cancels,
		"historyReads": c.historyReads, "prevs": c.prevs,
	} {
		if n == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
