package differential

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// pair is one watch stream on both sides, with what the model expects of it.
type pair struct {
	sides      [2]*stream
	meta       []string
	expected   []*expectation // one for each create request, in order
	halfClosed bool
	asked      int // progress requests sent while they could be answered: at most so many replies
	checked    [2]int
}

// expectation is the model of one watcher.
type expectation struct {
	request   *pb.WatchCreateRequest
	id        int64
	rejected  bool  // there is no watcher, id or anything below
	start     int64 // the first revision it gets
	live      bool  // it asked for nothing older than what was current
	compacted bool  // it asked for what is gone, and is told so
	cancelled bool  // the client asked for its end
	caughtUp  bool  // a progress reply has shown that nothing older than that concerns it any more
	cancels   int   // replies of that kind that must come
	events    int   // that must have come
	historyAt int   // how much of the history is counted in events
	compared  int   // events found equal so far
	concluded bool  // it was cancelled, and what it was told until then is right
}

// future reports whether the watcher asked for a revision that is not there yet. As long as it is so, even for the very
// next one, its stream has no progress to report.
func (e *expectation) future(revision int64) bool { return e.request.StartRevision > revision }

// open returns the stream, made if it is not there yet.
func (r *Run) open(index int, meta []string) (*pair, error) {
	if p := r.pairs[index]; p != nil {
		return p, nil
	}
	p := &pair{meta: meta}
	for i, side := range r.sides {
		st, err := side.openStream(meta, r.wake)
		if err != nil {
			if i == 1 {
				p.sides[0].close()
			}
			return nil, err
		}
		p.sides[i] = st
	}
	r.pairs[index] = p
	return p, nil
}

// closePair ends the stream on both sides and looks at it a last time: not everything a stream says is waited for, such as
// a second reply to a progress request that was repeated.
func (r *Run) closePair(index int) string {
	p := r.pairs[index]
	if p == nil {
		return ""
	}
	delete(r.pairs, index)
	fault := ""
	for i, st := range p.sides {
		st.close()
		if len(st.faults) > 0 {
			fault = cmp.Or(fault, fmt.Sprintf("%s: %s", r.sides[i].name, st.faults[0]))
		}
	}
	if fault = cmp.Or(fault, r.checkCreated(p), r.checkProgress(p)); fault != "" {
		fault = fmt.Sprintf("stream %d, at its end: %s", index, fault)
	}
	return fault
}

// indexes returns the open streams in order.
func (r *Run) indexes() []int {
	var all []int
	for index := range r.pairs {
		all = append(all, index)
	}
	slices.Sort(all)
	return all
}

// wait blocks until done, a stream breaks a promise, or it has taken too long. It calls again, if given, every
// resendAfter. It returns what went wrong.
func (r *Run) wait(what string, done func() bool, again func() error) string {
	deadline := time.NewTimer(r.patience)
	defer deadline.Stop()
	retry := time.NewTicker(resendAfter)
	defer retry.Stop()
	for {
		// A broken stream often is the reason for what does not come, so it is reported first.
		if fault := r.broken(); fault != "" {
			return fault
		}
		if done() {
			return ""
		}
		select {
		case <-r.wake:
		case <-retry.C:
			if again != nil {
				if err := again(); err != nil {
					return err.Error()
				}
			}
		case <-deadline.C:
			return fmt.Sprintf("%s did not come within %v", what, r.patience)
		}
	}
}

// broken returns a promise that a stream broke by itself, naming the side.
func (r *Run) broken() string {
	for _, index := range r.indexes() {
		for i, st := range r.pairs[index].sides {
			if fault := st.broken(); fault != "" {
				return fmt.Sprintf("%s, stream %d: %s", r.sides[i].name, index, fault)
			}
		}
	}
	return ""
}

// watch sends one watch request to both sides and waits for the replies that must come before anything else.
func (r *Run) watch(op Op) (string, error) {
	request := op.Request.(*pb.WatchRequest)
	p, err := r.open(op.Stream, op.Meta)
	if err != nil {
		return "", err
	}
	if p.halfClosed {
		return "", nil // left behind by shrinking
	}
	send := func() error { return r.send(p, request) }
	switch {
	case request.GetCreateRequest() != nil:
		return r.create(op, p, request.GetCreateRequest(), send)
	case request.GetCancelRequest() != nil:
		return r.cancel(op, p, request.GetCancelRequest().WatchId, send)
	case request.GetProgressRequest() != nil:
		return r.progress(p, send)
	}
	return "", send()
}

// send hands a request to both sides.
func (r *Run) send(p *pair, request *pb.WatchRequest) error {
	for i, st := range p.sides {
		if err := st.call.Send(request); err != nil {
			return fmt.Errorf("watch request to %s: %w", r.sides[i].name, err)
		}
	}
	return nil
}

func (r *Run) create(op Op, p *pair, request *pb.WatchCreateRequest, send func() error) (string, error) {
	n := len(p.expected)
	if err := send(); err != nil {
		return "", err
	}
	e := &expectation{request: request, rejected: true}
	p.expected = append(p.expected, e)
	fault := r.wait(fmt.Sprintf("%v: the reply", op), func() bool {
		a, _, _ := p.sides[0].counts(n)
		b, _, _ := p.sides[1].counts(n)
		return a > n && b > n
	}, nil)
	if fault != "" {
		return fault, nil
	}
	a, b := p.sides[0].seen(n).created, p.sides[1].seen(n).created
	if difference := r.compareMessages(a, b); difference != "" {
		return difference, nil
	}
	if a.Canceled {
		return "", nil
	}
	e.id, e.rejected = a.WatchId, false
	e.start = request.StartRevision
	if e.start <= 0 || e.start > a.Header.GetRevision() {
		e.live = true
	}
	if e.start <= 0 {
		e.start = a.Header.GetRevision() + 1
	} else if e.start < r.compacted {
		e.compacted = true
		e.cancels = 1
		return "", nil
	}
	return "", nil
}

// checkCreated verifies that each create request has had one reply.
func (r *Run) checkCreated(p *pair) string {
	for i, st := range p.sides {
		if created, _, _ := st.counts(0); created != len(p.expected) {
			return fmt.Sprintf("%s created %d watchers for %d requests", r.sides[i].name, created, len(p.expected))
		}
	}
	return ""
}

// holder returns the index of the watcher that has the id, or -1.
func (p *pair) holder(id int64) int {
	for i, e := range p.expected {
		if e.id == id && !e.rejected && !e.cancelled {
			return i
		}
	}
	return -1
}

func (r *Run) cancel(op Op, p *pair, id int64, send func() error) (string, error) {
	i := p.holder(id)
	if i < 0 {
		return "", send() // no reply at all
	}
	e := p.expected[i]
	// The catching up of a watcher races with its cancel, so that has to be over first.
	if !e.live {
		if fault, err := r.sync(); fault != "" || err != nil {
			return fault, err
		}
	}
	if err := send(); err != nil {
		return "", err
	}
	e.cancelled = true
	e.cancels++
	fault := r.wait(fmt.Sprintf("%v: the reply", op), func() bool {
		_, _, a := p.sides[0].counts(i)
		_, _, b := p.sides[1].counts(i)
		return a >= e.cancels && b >= e.cancels
	}, nil)
	if fault != "" {
		return fault, nil
	}
	return r.compareWatcher(p, i), nil
}

// watcherAt returns the identity of watcher i, nil if it was not created yet.
func (st *stream) watcherAt(i int) *watcher {
	st.mu.Lock()
	defer st.mu.Unlock()
	if i < len(st.watchers) {
		return st.watchers[i]
	}
	return nil
}

// selected returns the events up to a revision that the history holds for a watcher.
func (r *Run) selected(e *expectation, upTo int64) (events []*mvccpb.Event) {
	from, _ := slices.BinarySearchFunc(r.history, e.start, func(event *mvccpb.Event, start int64) int {
		return cmp.Compare(event.Kv.ModRevision, start)
	})
	for _, event := range r.history[from:] {
		if event.Kv.ModRevision > upTo {
			break
		}
		if selects(e.request, event) {
			events = append(events, event)
		}
	}
	return events
}

// compareWatcher compares what both sides told one watcher so far, as far as both have told it.
func (r *Run) compareWatcher(p *pair, i int) string {
	a, b := p.sides[0].seen(i), p.sides[1].seen(i)
	e := p.expected[i]
	name := fmt.Sprintf("watcher %d {%s}", e.id, printed(e.request))
	if difference := eventsDiffer(a.events, b.events, e.compared); difference != "" {
		return name + ": " + difference
	}
	e.compared = min(len(a.events), len(b.events))
	if !e.request.Fragment && (a.partial || b.partial) {
		return name + ": fragments that were not asked for"
	}
	for side, w := range []watcher{a, b} {
		for _, h := range w.headers {
			if h.revision > r.revision {
				return fmt.Sprintf("%s: %s sent header revision %d at revision %d", name, r.sides[side].name, h.revision, r.revision)
			}
		}
	}
	if len(a.cancels) != len(b.cancels) {
		return fmt.Sprintf("%s: cancelled %d times, want %d", name, len(b.cancels), len(a.cancels))
	}
	for k := range a.cancels {
		if difference := r.compareMessages(a.cancels[k], b.cancels[k]); difference != "" {
			return name + ": " + difference
		}
	}
	return ""
}

// compareMessages is compare for two messages.
func (r *Run) compareMessages(reference, candidate proto.Message) string {
	return r.compare(Op{}, Answer{Messages: []proto.Message{reference}}, Answer{Messages: []proto.Message{candidate}})
}
