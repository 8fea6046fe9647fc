package bench

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// TestRequestsAreThoseOfTheAPI reads what is encoded by hand with the API's own messages.
func TestRequestsAreThoseOfTheAPI(t *testing.T) {
	var scratch []byte
	put := appendPut(nil, []byte("k"), []byte("v"), 7, true)
	for _, c := range []struct {
		encoded []byte
		want    proto.Message
	}{
		{put, &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7, PrevKv: true}},
		{appendPut(nil, []byte("k"), nil, -1, false), &pb.PutRequest{Key: []byte("k"), Lease: -1}},
		{appendRange(nil, rangeQuery{key: []byte("a"), end: []byte("b"), limit: 3, revision: 9, serializable: true, keysOnly: true, countOnly: true}),
			&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b"), Limit: 3, Revision: 9, Serializable: true, KeysOnly: true, CountOnly: true}},
		{appendTxn(nil, []byte("k"), put, &scratch), &pb.TxnRequest{
			Compare: []*pb.Compare{{Result: pb.Compare_GREATER, Target: pb.Compare_VERSION, Key: []byte("k"), TargetUnion: &pb.Compare_Version{Version: -1}}},
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 7, PrevKv: true}}}},
		}},
		{appendGrant(nil, 60, 9), &pb.LeaseGrantRequest{TTL: 60, ID: 9}},
		{appendKeepAlive(nil, 9), &pb.LeaseKeepAliveRequest{ID: 9}},
		{appendWatchCreate(nil, []byte("a"), []byte("b"), true), &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b"), PrevKv: true},
		}}},
	} {
		got := c.want.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(c.encoded, got); err != nil || !proto.Equal(got, c.want) {
			t.Errorf("got %v, want %v, error %v", got, c.want, err)
		}
	}
}

// TestRepliesAreRead reads replies encoded with the API's own messages.
func TestRepliesAreRead(t *testing.T) {
	header := &pb.ResponseHeader{ClusterId: 1, Revision: 1 << 40}
	events := []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("k")}}, {Type: mvccpb.Event_DELETE, PrevKv: &mvccpb.KeyValue{Value: []byte("v")}}}
	for _, c := range []struct {
		message *pb.WatchResponse
		want    watchResponse
	}{
		{&pb.WatchResponse{Header: header, Created: true, WatchId: 5}, watchResponse{created: true}},
		{&pb.WatchResponse{Header: header, Created: true, Canceled: true, CancelReason: "x", WatchId: -1}, watchResponse{created: true, canceled: true}},
		{&pb.WatchResponse{Header: header, Events: events, Fragment: true}, watchResponse{events: 2}},
	} {
		encoded, err := proto.Marshal(c.message)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseWatchResponse(encoded); err != nil || got != c.want {
			t.Errorf("got %+v, want %+v, error %v", got, c.want, err)
		}
	}
	encoded, err := proto.Marshal(&pb.LeaseKeepAliveResponse{Header: header, ID: 5, TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	if ttl, err := parseKeepAliveTTL(encoded); ttl != 60 || err != nil {
		t.Errorf("TTL %d, error %v", ttl, err)
	}
}

// FuzzReplies feeds the two decoders bytes from outside: they must end, and agree with the API's own messages wherever
// those accept them.
func FuzzReplies(f *testing.F) {
	for _, m := range []proto.Message{
		&pb.WatchResponse{Created: true, WatchId: -1, Header: &pb.ResponseHeader{Revision: 3}},
		&pb.WatchResponse{Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v")}}}},
		&pb.LeaseKeepAliveResponse{ID: 1, TTL: 2},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		watch := &pb.WatchResponse{}
		got, err := parseWatchResponse(b)
		if proto.Unmarshal(b, watch) == nil && (err != nil || got.created != watch.Created || got.canceled != watch.Canceled || got.events != len(watch.Events)) {
			t.Errorf("watch response %x: %+v, error %v; want %v", b, got, err, watch)
		}
		parseKeepAliveTTL(b) // a repeated field would be read differently; what matters is that it ends
	})
}

// TestMessagesAreCutOut feeds a call's data in pieces of every size.
func TestMessagesAreCutOut(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 0))
	for range 300 {
		var data []byte
		var want [][]byte
		for range rng.IntN(6) {
			message := make([]byte, rng.IntN(40))
			for i := range message {
				message[i] = byte(rng.Uint32())
			}
			want = append(want, message)
			data = append(append(data, framed(len(message))...), message...)
		}
		var got [][]byte
		k := &call{onMessage: func(m []byte) error { got = append(got, bytes.Clone(m)); return nil }}
		for len(data) > 0 {
			n := 1 + rng.IntN(min(len(data), 50))
			if err := k.take(data[:n]); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got %x, want %x", got, want)
		}
	}
	k := &call{onMessage: func([]byte) error { return nil }}
	if k.take([]byte{1, 0, 0, 0, 0}) == nil {
		t.Error("a compressed message was taken")
	}
	if k.take([]byte{0, 0xff, 0, 0, 0}) == nil {
		t.Error("a message of 4 GB was waited for")
	}
}

// TestHistogram compares percentiles with those of the sorted durations.
func TestHistogram(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 0))
	for range 50 {
		n := 1 + rng.IntN(3000)
		var all []time.Duration
		var whole, half histogram
		for i := range n {
			d := time.Duration(rng.Uint64() >> (1 + rng.IntN(63)))
			all = append(all, d)
			if i%2 == 0 {
				whole.record(d)
			} else {
				half.record(d)
			}
		}
		whole.merge(&half)
		slices.Sort(all)
		for _, share := range []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1} {
			want := all[max(int(share*float64(n)+0.5), 1)-1]
			got := whole.percentile(share)
			if got < want || float64(got) > float64(want)*1.04+1 {
				t.Fatalf("percentile %v of %d: got %v, want %v", share, n, got, want)
			}
		}
		if whole.count != uint64(n) || whole.longest != all[n-1] {
			t.Fatalf("%d recorded, longest %v", whole.count, whole.longest)
		}
	}
	var none histogram
	if none.percentile(0.5) != 0 || none.mean() != 0 {
		t.Error("something of nothing")
	}
	for _, d := range []time.Duration{0, 1, 31, 32, 33, 63, 64, 1000, 1<<62 + 12345, 1<<63 - 1} {
		if b := bucketOf(d); upperBound(b) < d || (b > 0 && upperBound(b-1) >= d) {
			t.Errorf("%d is in the bucket up to %d", d, upperBound(b))
		}
	}
}

// TestKeys checks that every connection's keys together are all keys, in order of their numbers, and of one length.
func TestKeys(t *testing.T) {
	o := Defaults(OpPut)
	o.KeySpace, o.Conns, o.Sequential, o.KeySize = 1000, 3, true, 40
	seen := map[string]bool{}
	var sequence atomic.Int64
	for conn := range o.Conns {
		k := newKeyChooser(o, conn, &sequence)
		for range 400 {
			seen[string(k.choose())] = true
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d different keys", len(seen))
	}
	o.Sequential = false
	k := newKeyChooser(o, 0, &sequence)
	for range 10_000 {
		if key := string(k.choose()); !seen[key] || len(key) != 40 {
			t.Fatalf("key %q", key)
		}
	}
}
