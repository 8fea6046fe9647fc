package differential

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keelson/peer/process"
)

// TestCancelledWatcherIsCompared changes what a watcher was told of one revision's two puts, then cancels it. What is
// lost on both sides, or on one, is no difference, but what came has to be right.
func TestCancelledWatcherIsCompared(t *testing.T) {
	reference, candidate, end, err := servers(process.Etcd)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	run, disagreement, err := NewRun(reference, candidate)
	if disagreement != nil || err != nil {
		t.Fatal(disagreement, err)
	}
	defer run.Close()
	put := func(key, value string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
	}
	type events = []*mvccpb.Event
	for i, c := range []struct {
		name   string
		change func(reference, candidate events) (events, events)
		wrong  bool
	}{
		{"all came", func(a, b events) (events, events) { return a, b }, false},
		{"nothing came", func(a, b events) (events, events) { return nil, nil }, false},
		{"nothing came to the reference", func(a, b events) (events, events) { return nil, b }, false},
		{"nothing came to the candidate", func(a, b events) (events, events) { return a, nil }, false},
		{"half a revision", func(a, b events) (events, events) { return a, b[:1] }, true},
		{"half a revision, alone", func(a, b events) (events, events) { return nil, b[:1] }, true},
		{"another event", func(a, b events) (events, events) { return nil, events{b[1], b[1]} }, true},
		{"one event more", func(a, b events) (events, events) { return nil, events{b[0], b[1], b[1]} }, true},
		{"another value", func(a, b events) (events, events) { b[1].Kv.Value = []byte("?"); return nil, b }, true},
		{"no previous pair", func(a, b events) (events, events) { b[1].PrevKv = nil; return nil, b }, true},
	} {
		steps := []Op{
			{Kind: KindWatch, Stream: i, Request: &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
				CreateRequest: &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), PrevKv: true, WatchId: 7}}}},
			{Kind: KindTxn, Request: &pb.TxnRequest{Success: []*pb.RequestOp{put("a", fmt.Sprint(i)), put("b", fmt.Sprint(i))}}},
		}
		if i == 0 {
			steps = append(steps[1:], steps...) // what is there already is a previous pair
		}
		for _, op := range steps {
			if disagreement, err := run.Step(op); disagreement != nil || err != nil {
				t.Fatal(c.name, disagreement, err)
			}
		}
		sides := run.pairs[i].sides
		fault := run.wait("both events", func() bool {
			_, a, _ := sides[0].counts(0)
			_, b, _ := sides[1].counts(0)
			return a == 2 && b == 2
		}, nil)
		if fault != "" {
			t.Fatal(c.name, fault)
		}
		for _, st := range sides {
			st.mu.Lock()
		}
		a, b := sides[0].watchers[0], sides[1].watchers[0]
		a.events, b.events = c.change(a.events, b.events)
		for _, st := range sides {
			st.mu.Unlock()
		}

		cancel := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 7}}}
		disagreement, err := run.Step(Op{Kind: KindWatch, Stream: i, Request: cancel})
		if disagreement == nil && err == nil {
			disagreement, err = run.Step(Op{Kind: KindSync})
		}
		if err != nil {
			t.Fatal(c.name, err)
		}
		if (disagreement != nil) != c.wrong {
			t.Errorf("%s: %v", c.name, disagreement)
		}
		run.closePair(i)
	}
}
