package differential

import (
	"context"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// watcher is what one side said to one create request.
type watcher struct {
	created *pb.WatchResponse
	events  []*mvccpb.Event
	headers []header            // of each response with events
	cancels []*pb.WatchResponse // one for compaction, one for the client's request
	partial bool                // the last response with events announced another piece
}

// header is the revision in the header of a response with events, and how many events the watcher had after it.
type header struct {
	revision int64
	events   int
}

// progress is a reply to a progress request.
type progress struct {
	response *pb.WatchResponse
	events   map[*watcher]int // what each watcher had received before
}

// stream is one Watch call on one side. Its receiver fills it in; the run reads it under mu.
type stream struct {
	call   pb.Watch_WatchClient
	cancel context.CancelFunc
	ended  chan struct{} // closed when the receiver is gone
	wake   chan<- struct{}

	mu       sync.Mutex
	watchers []*watcher         // in the order of the create replies, which is the order of the requests
	byID     map[int64]*watcher // those that a response may still name
	progress []progress
	faults   []string // promises this side broke by itself
	err      error    // why the receiver ended
}

// openStream starts a Watch call. wake, of capacity one, is signalled after every response.
func (s *Side) openStream(meta []string, wake chan<- struct{}) (*stream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	if meta != nil {
		ctx = metadata.AppendToOutgoingContext(ctx, meta...)
	}
	call, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open watch stream on %s: %w", s.name, err)
	}
	st := &stream{call: call, cancel: cancel, ended: make(chan struct{}), wake: wake, byID: map[int64]*watcher{}}
	go st.receive()
	return st, nil
}

// close ends the call and waits for the receiver.
func (st *stream) close() {
	st.cancel()
	<-st.ended
}

func (st *stream) receive() {
	defer close(st.ended)
	for {
		response, err := st.call.Recv()
		st.mu.Lock()
		if err != nil {
			st.err = err
		} else {
			normaliseHeaders(response.ProtoReflect())
			st.take(response)
		}
		st.mu.Unlock()
		select {
		case st.wake <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// take files one response. Callers hold mu.
func (st *stream) take(r *pb.WatchResponse) {
	switch {
	case r.Created:
		w := &watcher{created: r}
		st.watchers = append(st.watchers, w)
		if !r.Canceled {
			if st.byID[r.WatchId] != nil {
				st.fault("created a second watcher with id %d", r.WatchId)
			}
			st.byID[r.WatchId] = w
		}
		if len(r.Events) != 0 {
			st.fault("events in a created response: %s", printed(r))
		}
	case r.Canceled:
		st.takeCancel(r)
	case len(r.Events) > 0:
		st.takeEvents(r)
	case r.WatchId == -1:
		st.takeProgress(r)
	default:
		st.fault("an empty response for a watcher: %s", printed(r))
	}
}

func (st *stream) takeCancel(r *pb.WatchResponse) {
	w := st.byID[r.WatchId]
	if w == nil {
		st.fault("cancel of a watcher that is not there: %s", printed(r))
		return
	}
	if w.partial {
		st.fault("cancel before the last piece of a fragmented response: %s", printed(r))
	}
	w.cancels = append(w.cancels, r)
	// A watcher cancelled by compaction keeps its id until the client cancels it too.
	if r.CompactRevision == 0 {
		delete(st.byID, r.WatchId)
	}
}

func (st *stream) takeEvents(r *pb.WatchResponse) {
	w := st.byID[r.WatchId]
	if w == nil {
		st.fault("events for a watcher that is not there: %s", printed(r))
		return
	}
	if len(w.cancels) != 0 {
		st.fault("events after the cancel: %s", printed(r))
	}
	if h := r.Header; h.GetClusterId() == 0 || h.GetMemberId() == 0 || h.GetRaftTerm() == 0 || r.CompactRevision != 0 || r.CancelReason != "" {
		st.fault("fields of a response with events: %s", printed(r))
	}
	last := int64(0)
	if len(w.events) > 0 {
		last = w.events[len(w.events)-1].Kv.GetModRevision()
	}
	for i, e := range r.Events {
		revision := e.Kv.GetModRevision()
		if revision < last {
			st.fault("revision %d after %d", revision, last)
		}
		if i == 0 && revision == last && !w.partial {
			st.fault("revision %d split over two responses", revision)
		}
		last = revision
	}
	if revision := r.GetHeader().GetRevision(); revision < last {
		st.fault("header revision %d of a response with an event of revision %d", revision, last)
	}
	w.events = append(w.events, r.Events...)
	w.headers = append(w.headers, header{r.GetHeader().GetRevision(), len(w.events)})
	w.partial = r.Fragment
}

func (st *stream) takeProgress(r *pb.WatchResponse) {
	want := &pb.WatchResponse{WatchId: -1, Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 1, RaftTerm: 1, Revision: r.Header.GetRevision()}}
	if !proto.Equal(r, want) {
		st.fault("fields of a progress reply: %s", printed(r))
	}
	p := progress{response: r, events: map[*watcher]int{}}
	for _, w := range st.byID {
		p.events[w] = len(w.events)
	}
	st.progress = append(st.progress, p)
}

func (st *stream) fault(format string, args ...any) {
	st.faults = append(st.faults, fmt.Sprintf(format, args...))
}

// broken returns the first broken promise, or why the stream ended before anyone asked it to.
func (st *stream) broken() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.faults) > 0 {
		return st.faults[0]
	}
	if st.err != nil {
		return "the watch stream ended: " + st.err.Error()
	}
	return ""
}

// counts returns how many create replies there are, and for watcher i how many events and cancels.
func (st *stream) counts(i int) (watchers, events, cancels int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if i < len(st.watchers) {
		events, cancels = len(st.watchers[i].events), len(st.watchers[i].cancels)
	}
	return len(st.watchers), events, cancels
}

// seen returns watcher i; its slices only grow, so the copy is safe to read.
func (st *stream) seen(i int) watcher {
	st.mu.Lock()
	defer st.mu.Unlock()
	return *st.watchers[i]
}

// progressSeen returns the progress replies so far.
func (st *stream) progressSeen() []progress {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.progress
}

// selects tells whether a watch request wants an event, and from which part of the key space.
func selects(r *pb.WatchCreateRequest, e *mvccpb.Event) bool {
	for _, f := range r.Filters {
		if (f == pb.WatchCreateRequest_NOPUT && e.Type == mvccpb.Event_PUT) || (f == pb.WatchCreateRequest_NODELETE && e.Type == mvccpb.Event_DELETE) {
			return false
		}
	}
	key, start, end := string(e.Kv.Key), string(r.Key), string(r.RangeEnd)
	if start == "" {
		start = "\x00"
	}
	switch end {
	case "":
		return key == start
	case "\x00":
		return key >= start
	}
	return start <= key && key < end
}

// eventsDiffer compares the events from index from on, up to the shorter of the two, and says how they differ.
func eventsDiffer(reference, candidate []*mvccpb.Event, from int) string {
	for i := from; i < min(len(reference), len(candidate)); i++ {
		if !proto.Equal(reference[i], candidate[i]) {
			return fmt.Sprintf("event %d: got {%s}, want {%s}", i, printed(candidate[i]), printed(reference[i]))
		}
	}
	return ""
}
