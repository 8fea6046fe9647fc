package differential

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
			r.closePair(index)
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
		if index == historyStream {
			continue
		}
		p := r.pairs[index]
		for side, st := range p.sides {
			if created, _, _ := st.counts(0); created != len(p.expected) {
				return fmt.Sprintf("stream %d: %s created %d watchers for %d requests", index, r.sides[side].name, created, len(p.expected)), nil
			}
		}
		for i, e := range p.expected {
			if e.rejected || e.cancelled {
				continue
			}
			if fault := r.syncWatcher(p, i, e); fault != "" {
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
