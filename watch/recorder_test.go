package watch

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"keelson/state/mvcc"
)

// recorder is a client: it keeps what it is sent, decoded. It can be made to stall.
type recorder struct {
	stream *Stream
	// pause, if set, is called before each response is taken.
	pause func()

	mu       sync.Mutex
	stalled  sync.Cond
	stall    bool
	broken   bool
	waiting  bool
	received []received
}

type received struct {
	Response
	events []*mvccpb.Event
	raw    [][]byte // as sent, and
	copied []byte   // what it was then
}

var errBroken = errors.New("connection broken")

func (f *fixture) stream() *recorder {
	r := &recorder{}
	r.stalled.L = &r.mu
	r.stream = f.hub.NewStream(r)
	return r
}

func (r *recorder) Send(resp *Response) error {
	if r.pause != nil {
		r.pause()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.stall && !r.broken {
		r.waiting = true
		r.stalled.Wait()
	}
	r.waiting = false
	if r.broken {
		return errBroken
	}
	got := received{Response: *resp, raw: resp.Events, copied: bytes.Join(resp.Events, nil)}
	var message pb.WatchResponse
	if err := proto.Unmarshal(got.copied, &message); err != nil {
		panic(fmt.Sprintf("events do not decode: %v", err))
	}
	got.events = message.Events
	r.received = append(r.received, got)
	return nil
}

// setStall makes the client stop reading, or go on.
func (r *recorder) setStall(stall bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stall = stall
	r.stalled.Broadcast()
}

// breakOff makes the transport fail.
func (r *recorder) breakOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true
	r.stalled.Broadcast()
}

// take waits until nothing moves any more, and returns what has arrived since the last call.
func (r *recorder) take() []received {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.received
	r.received = nil
	return got
}

// String shows a response in a line: what a reader of a test wants to see.
func (r received) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d@%d", r.WatchID, r.Revision)
	if r.Created {
		b.WriteString(" created")
	}
	if r.Canceled {
		b.WriteString(" canceled")
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted=%d", r.CompactRevision)
	}
	if r.CancelReason != "" {
		fmt.Fprintf(&b, " reason=%q", r.CancelReason)
	}
	if r.Fragment {
		b.WriteString(" fragment")
	}
	for _, ev := range r.events {
		fmt.Fprintf(&b, " %s", showEvent(ev))
	}
	return b.String()
}

func showEvent(ev *mvccpb.Event) string {
	s := fmt.Sprintf("%s=%s@%d", ev.Kv.Key, ev.Kv.Value, ev.Kv.ModRevision)
	if ev.Type == mvccpb.Event_DELETE {
		s = fmt.Sprintf("-%s@%d", ev.Kv.Key, ev.Kv.ModRevision)
	}
	if ev.PrevKv != nil {
		s += fmt.Sprintf("(%s@%d)", ev.PrevKv.Value, ev.PrevKv.ModRevision)
	}
	return s
}

// expect compares what arrived since the last call with lines in the form of received.String.
func (f *fixture) expect(r *recorder, want ...string) {
	f.t.Helper()
	f.compare(lines(r.take()), want)
}

// expectAnyOrder is expect for responses of several watchers, between which there is no order.
func (f *fixture) expectAnyOrder(r *recorder, want ...string) {
	f.t.Helper()
	f.sorted(lines(r.take()), want...)
}

func (f *fixture) sorted(got []string, want ...string) {
	f.t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	f.compare(got, want)
}

func lines(responses []received) (lines []string) {
	for _, r := range responses {
		lines = append(lines, r.String())
	}
	return lines
}

func (f *fixture) compare(got, want []string) {
	f.t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		f.t.Fatalf("received\n%s\nwant\n%s", g, w)
	}
}

// protoEvent is ev as the published library has it.
func protoEvent(ev *mvcc.Event, prev bool) *mvccpb.Event {
	e := &mvccpb.Event{Kv: protoPair(&ev.KV)}
	if ev.Kind == mvcc.Delete {
		e.Type = mvccpb.Event_DELETE
	}
	if prev && ev.Prev != nil {
		e.PrevKv = protoPair(ev.Prev)
	}
	return e
}

func protoPair(kv *mvcc.KeyValue) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
		Lease: kv.Lease,
	}
}
