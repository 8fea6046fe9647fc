package differential

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// settle makes sure that no watcher is still catching up, because a compaction would race with it: the server may have
// delivered all there was and not know yet that it did, and then tells the watcher that what it needs is gone. Only a
// progress reply shows that it knows; streams that cannot have one are ended if they need it.
func (r *Run) settle() (string, error) {
	if fault, err := r.sync(); fault != "" || err != nil {
		return fault, err
	}
	for _, index := range r.indexes() {
		p := r.pairs[index]
		behind := slices.ContainsFunc(p.expected, func(e *expectation) bool {
			return !e.rejected && !e.cancelled && !e.compacted && !e.live && !e.caughtUp
		})
		if !behind {
			continue
		}
		if index != historyStream && (p.halfClosed || !r.answerable(p)) {
			if fault := r.closePair(index); fault != "" {
				return fault, nil
			}
			continue
		}
		fault, err := r.watch(Op{Kind: KindWatch, Stream: index, Request: progressRequest()})
		if fault != "" || err != nil {
			return fault, err
		}
	}
	return "", nil
}

// sync waits until both sides have delivered everything up to the current revision to every watcher, and compares.
func (r *Run) sync() (string, error) {
	if fault, err := r.syncHistory(); fault != "" || err != nil {
		return fault, err
	}
	for _, index := range r.indexes() {
		p := r.pairs[index]
		if fault := r.checkCreated(p); fault != "" {
			return fmt.Sprintf("stream %d: %s", index, fault), nil
		}
		for i, e := range p.expected {
			fault := ""
			switch {
			case e.rejected:
			case e.cancelled:
				fault = r.conclude(p, i, e)
			default:
				fault = r.syncWatcher(p, i, e)
			}
			if fault != "" {
				return fmt.Sprintf("stream %d: %s", index, fault), nil
			}
		}
		for i := range p.expected {
			if difference := r.compareWatcher(p, i); difference != "" {
				return fmt.Sprintf("stream %d: %s", index, difference), nil
			}
		}
		if fault := r.checkProgress(p); fault != "" {
			return fmt.Sprintf("stream %d: %s", index, fault), nil
		}
	}
	return r.broken(), nil
}

// syncWatcher waits for everything that one watcher must have been told by now.
func (r *Run) syncWatcher(p *pair, i int, e *expectation) string {
	if !e.compacted {
		for ; e.historyAt < len(r.history); e.historyAt++ {
			if event := r.history[e.historyAt]; event.Kv.ModRevision >= e.start && selects(e.request, event) {
				e.events++
			}
		}
	}
	fault := r.wait("watch events", func() bool {
		for _, st := range p.sides {
			if _, events, cancels := st.counts(i); events < e.events || cancels < e.cancels {
				return false
			}
		}
		return true
	}, nil)
	for side, st := range p.sides {
		_, events, cancels := st.counts(i)
		if fault == "" && events == e.events && cancels == e.cancels {
			continue
		}
		if events != e.events || cancels != e.cancels {
			return fmt.Sprintf("watcher %d {%s}: %s sent %d of %d events and %d of %d cancels; %s", e.id, printed(e.request),
				r.sides[side].name, events, e.events, cancels, e.cancels, fault)
		}
	}
	return fault
}

// conclude verifies what a watcher was told before the client cancelled it. How far that came is chance, on each side its
// own, so it is the history that it is compared with: it must be a beginning of what is there for the watcher, in whole
// revisions.
func (r *Run) conclude(p *pair, i int, e *expectation) string {
	if e.concluded || e.compacted {
		return ""
	}
	want := r.selected(e, r.revision)
	for side, st := range p.sides {
		got := st.seen(i).events
		fault := ""
		for k, event := range got[:min(len(got), len(want))] {
			if !r.tells(e, want[k], event) {
				fault = fmt.Sprintf("event %d: got {%s}, in the history {%s}", k, printed(event), printed(want[k]))
				break
			}
		}
		switch n := len(got); {
		case fault != "":
		case n > len(want):
			fault = fmt.Sprintf("%d events, there are %d", n, len(want))
		case n > 0 && n < len(want) && want[n].Kv.ModRevision == want[n-1].Kv.ModRevision:
			fault = fmt.Sprintf("revision %d only in part", want[n].Kv.ModRevision)
		}
		if fault != "" {
			return fmt.Sprintf("watcher %d {%s}: %s, before the cancel: %s", e.id, printed(e.request), r.sides[side].name, fault)
		}
	}
	e.concluded = true
	return ""
}

// tells reports whether a watcher's event is the one in the history. Only a previous pair below the floor may be missing.
func (r *Run) tells(e *expectation, want, got *mvccpb.Event) bool {
	gone := got.PrevKv == nil && want.Kv.ModRevision-1 < r.compacted
	if want.PrevKv != nil && (gone || !e.request.PrevKv) {
		want = &mvccpb.Event{Type: want.Type, Kv: want.Kv}
	}
	return proto.Equal(want, got)
}

// historyStream is the index of the stream whose one watcher sees everything.
const historyStream = -1

// watchHistory starts the watcher that records the reference's history, behind what is recorded already.
func (r *Run) watchHistory() (string, error) {
	from := max(2, r.historyRevision()+1)
	return r.watch(Op{Kind: KindWatch, Stream: historyStream, Request: &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from, PrevKv: true},
	}}})
}

func (r *Run) historyRevision() int64 {
	if len(r.history) == 0 {
		return 1
	}
	return r.history[len(r.history)-1].Kv.ModRevision
}

// syncHistory waits until the history reaches the current revision on both sides, compares what is new and takes it
// over. The last revision's events arrive in one response, so seeing one of them is seeing all.
func (r *Run) syncHistory() (string, error) {
	p := r.pairs[historyStream]
	reached := func(st *stream) bool {
		events := st.seen(0).events
		return r.historyRevision() >= r.revision || (len(events) > 0 && events[len(events)-1].GetKv().GetModRevision() >= r.revision)
	}
	fault := r.wait(fmt.Sprintf("the event of revision %d", r.revision), func() bool {
		return reached(p.sides[0]) && reached(p.sides[1])
	}, nil)
	if fault != "" {
		for i, st := range p.sides {
			if !reached(st) {
				fault = r.sides[i].name + ": " + fault
			}
		}
		return fault, nil
	}
	e := p.expected[0]
	from := e.compared
	if difference := r.compareWatcher(p, 0); difference != "" {
		return "history: " + difference, nil
	}
	a, b := p.sides[0].seen(0).events, p.sides[1].seen(0).events
	if len(a) != len(b) {
		return fmt.Sprintf("history: %d events, want %d", len(b), len(a)), nil
	}
	r.history = append(r.history, a[from:]...)
	return "", nil
}
