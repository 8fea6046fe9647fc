package v3

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a sorted list keeps counts in the budget of reads, also where the answer is small: its reader waits like any other, and may
// give up. Then everything is given back.
func TestSortedListsWaitForRoom(t *testing.T) {
	s := serve(t, func(o *Options) { o.ReadBudgetBytes = 4 * pieceBytes })
	for i := range 20 {
		s.put(t, fmt.Sprintf("k%02d", i), strings.Repeat("v", pieceBytes/4))
	}
	b := s.services.reads.budget
	await := func(what string, isSo func() bool) {
		t.Helper()
		for deadline := ctx(t); ; runtime.Gosched() {
			b.mu.Lock()
			ok := isSo()
			b.mu.Unlock()
			if ok {
				return
			}
			if deadline.Err() != nil {
				t.Fatal(what)
			}
		}
	}
	first := b.begin(ctx(t))
	if err := first.take(ctx(t), 2*pieceBytes); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name     string
		r        *pb.RangeRequest
		isStream bool
		pairs    int
	}{
		{"by value, keys alone", &pb.RangeRequest{SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_ASCEND, KeysOnly: true}, false, 20},
		{"backwards, one", &pb.RangeRequest{SortTarget: pb.RangeRequest_KEY, SortOrder: pb.RangeRequest_DESCEND, Limit: 1}, false, 1},
		{"without an order", &pb.RangeRequest{SortTarget: pb.RangeRequest_MOD, Limit: 15, Serializable: true}, false, 15},
		{"without an order, as a stream", &pb.RangeRequest{SortTarget: pb.RangeRequest_MOD}, true, 20},
	}
	read := func(ctx context.Context, r *pb.RangeRequest, isStream bool) (*pb.RangeResponse, error) {
		if !isStream {
			return s.kv.Range(ctx, r)
		}
		stream, err := s.kv.RangeStream(ctx, r)
		if err != nil {
			return nil, err
		}
		chunk, err := stream.Recv()
		return chunk.GetRangeResponse(), err
	}
	for _, c := range cases {
		c.r.Key, c.r.RangeEnd = []byte("k"), []byte("l")
		reading, giveUp := context.WithCancel(ctx(t))
		ended := make(chan error, 1)
		go func() {
			_, err := read(reading, c.r, c.isStream)
			ended <- err
		}()
		await(c.name+": nobody waits", func() bool {
			if len(ended) > 0 {
				t.Fatalf("%s: %v, without room", c.name, <-ended)
			}
			return len(b.waiting) > 0
		})
		giveUp()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Errorf("%s: %v", c.name, err)
		}
		await(c.name+": bytes are not given back", func() bool { return b.used == 2*pieceBytes && b.turns.Len() == 1 })
	}
	first.end()
	b.release(2 * pieceBytes)
	for _, c := range cases {
		if got, err := read(ctx(t), c.r, c.isStream); err != nil || got.Count != 20 || len(got.Kvs) != c.pairs {
			t.Errorf("%s: %d of %d, %v", c.name, len(got.GetKvs()), got.GetCount(), err)
		}
	}
	await("bytes are not given back", func() bool { return b.used == 0 && b.turns.Len() == 0 })
}
