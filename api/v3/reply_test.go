package v3

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/state"
	"keelson/state/mvcc"
	"keelson/watch"
)

// numbers that need every length of a varint, and none.
var edges = []int64{0, 0, 0, 1, 127, 128, 1 << 14, 1<<21 - 1, 1 << 35, math.MaxInt64, -1, math.MinInt64}

func edge(rnd *rand.Rand) int64 { return edges[rnd.IntN(len(edges))] }

var noise = func() []byte {
	b := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{})
	r.Read(b)
	return b
}()

func randomBytes(rnd *rand.Rand, n int) []byte {
	at := rnd.IntN(len(noise) - n)
	return noise[at : at+n]
}

func randomHeader(rnd *rand.Rand) header {
	return header{cluster: uint64(edge(rnd)), member: uint64(edge(rnd)), revision: edge(rnd), term: uint64(edge(rnd))}
}

func randomKV(rnd *rand.Rand) mvcc.KeyValue {
	return mvcc.KeyValue{
		Key:            randomBytes(rnd, rnd.IntN(300)),
		Value:          randomBytes(rnd, []int{0, 1, 100, 130, 5000}[rnd.IntN(5)]),
		CreateRevision: edge(rnd), ModRevision: edge(rnd), Version: edge(rnd), Lease: edge(rnd),
	}
}

func randomKVs(rnd *rand.Rand) []mvcc.KeyValue {
	var kvs []mvcc.KeyValue
	for range rnd.IntN(4) {
		kvs = append(kvs, randomKV(rnd))
	}
	return kvs
}

func randomPrev(rnd *rand.Rand) *mvcc.KeyValue {
	if rnd.IntN(2) == 0 {
		return nil
	}
	kv := randomKV(rnd)
	return &kv
}

func message(kv *mvcc.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		Version: kv.Version, Lease: kv.Lease,
	}
}

func messages(kvs []mvcc.KeyValue) (list []*mvccpb.KeyValue) {
	for i := range kvs {
		list = append(list, message(&kvs[i]))
	}
	return list
}

// same holds an encoded reply against the message it should be: byte for byte, as the library writes it.
func same(t *testing.T, e *encoded, want proto.Message) {
	t.Helper()
	wantBytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	pieces, err := Codec().Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	got := pieces.Materialize()
	pieces.Free()
	if !bytes.Equal(got, wantBytes) {
		t.Fatalf("%T is encoded as\n%x\nwant\n%x", want, got, wantBytes)
	}
}

func randomTxnResult(rnd *rand.Rand, h header, depth int) (*state.TxnResult, *pb.TxnResponse) {
	r := &state.TxnResult{Succeeded: rnd.IntN(2) == 0}
	m := &pb.TxnResponse{Header: h.message(), Succeeded: r.Succeeded}
	for range rnd.IntN(5) {
		o := state.OpResult{Kind: state.OpKind(1 + rnd.IntN(4)), Revision: edge(rnd)}
		oh := &pb.ResponseHeader{Revision: o.Revision}
		var om *pb.ResponseOp
		switch o.Kind {
		case state.OpRange:
			o.KVs, o.Count, o.More = randomKVs(rnd), edge(rnd), rnd.IntN(2) == 0
			om = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{
				Header: oh, Kvs: messages(o.KVs), Count: o.Count, More: o.More}}}
		case state.OpPut:
			o.Prev = randomPrev(rnd)
			om = &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{
				Header: oh, PrevKv: message(o.Prev)}}}
		case state.OpDeleteRange:
			o.KVs, o.Count = randomKVs(rnd), edge(rnd)
			om = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{
				Header: oh, PrevKvs: messages(o.KVs), Deleted: o.Count}}}
		case state.OpTxn:
			if depth == 0 {
				continue
			}
			var tm *pb.TxnResponse
			o.Txn, tm = randomTxnResult(rnd, header{}, depth-1)
			om = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: tm}}
		}
		r.Responses = append(r.Responses, o)
		m.Responses = append(m.Responses, om)
	}
	return r, m
}

func TestRepliesEqualTheLibrarys(t *testing.T) {
	rnd := seeded(t)
	for range *roundsFlag / 10 {
		h := randomHeader(rnd)
		same(t, headerReply(&h), &pb.CompactionResponse{Header: h.message()})
		prev := randomPrev(rnd)
		same(t, putReply(&h, prev), &pb.PutResponse{Header: h.message(), PrevKv: message(prev)})
		kvs, n := randomKVs(rnd), edge(rnd)
		same(t, deleteReply(&h, n, kvs), &pb.DeleteRangeResponse{Header: h.message(), Deleted: n, PrevKvs: messages(kvs)})
		r, m := randomTxnResult(rnd, h, 3)
		same(t, txnReply(&h, r), m)
	}
}

func TestWatchReplyEqualsTheLibrarys(t *testing.T) {
	rnd := seeded(t)
	for range *roundsFlag / 10 {
		h := randomHeader(rnd)
		m := &pb.WatchResponse{
			Header: h.message(), WatchId: edge(rnd), Created: rnd.IntN(2) == 0, Canceled: rnd.IntN(2) == 0,
			CompactRevision: edge(rnd), CancelReason: []string{"", "because"}[rnd.IntN(2)], Fragment: rnd.IntN(2) == 0,
		}
		r := &watch.Response{
			WatchID: m.WatchId, Revision: h.revision, Created: m.Created, Canceled: m.Canceled,
			CompactRevision: m.CompactRevision, CancelReason: m.CancelReason, Fragment: m.Fragment,
		}
		for range rnd.IntN(4) {
			kv := randomKV(rnd)
			event := &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: message(&kv)}
			m.Events = append(m.Events, event)
			piece, err := proto.Marshal(&pb.WatchResponse{Events: []*mvccpb.Event{event}})
			if err != nil {
				t.Fatal(err)
			}
			r.Events = append(r.Events, piece)
		}
		e := watchReply(&h, r)
		for i, piece := range r.Events {
			if got := e.pieces[i+1].ReadOnlyData(); &got[0] != &piece[0] {
				t.Fatal("an event was copied")
			}
		}
		same(t, e, m)
	}
}

func TestRangeReplyEqualsTheLibrarys(t *testing.T) {
	rnd := seeded(t)
	c := newChunks(newBudget(1<<30, 0))
	for range *roundsFlag / 80 {
		h := randomHeader(rnd)
		m := &pb.RangeResponse{Header: h.message(), More: rnd.IntN(2) == 0, Count: edge(rnd)}
		single := rnd.IntN(4) == 0
		pairs := []int{0, 1, 10, 200}[rnd.IntN(4)]
		if single {
			pairs = rnd.IntN(2)
		}
		r := c.begin(context.Background(), &h, single)
		for range pairs {
			kv := randomKV(rnd)
			if rnd.IntN(50) == 0 {
				kv.Value = randomBytes(rnd, 200_000)
			}
			m.Kvs = append(m.Kvs, message(&kv))
			if !r.add(&kv) {
				t.Fatal(r.err)
			}
		}
		e, err := r.finish(&h, m.More, m.Count)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range e.pieces {
			if p.Len() > pieceBytes+200 {
				t.Fatalf("piece of %d bytes", p.Len())
			}
		}
		same(t, e, m)
		if c.budget.used != 0 || c.budget.turns.Len() != 0 {
			t.Fatalf("%d bytes and %d turns are left over", c.budget.used, c.budget.turns.Len())
		}
	}
}

// TestRangeReplyChunk: without a header in front, the header comes last, and any decoder puts it in its place.
func TestRangeReplyChunk(t *testing.T) {
	c := newChunks(newBudget(1<<30, 0))
	r := c.begin(context.Background(), nil, false)
	r.add(&mvcc.KeyValue{Key: []byte("k"), ModRevision: 3})
	h := header{cluster: 1, member: math.MaxUint64, revision: math.MaxInt64, term: math.MaxUint64}
	e, err := r.finish(&h, true, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	got := new(pb.RangeStreamResponse)
	if err := proto.Unmarshal(wrap(e).pieces.Materialize(), got); err != nil {
		t.Fatal(err)
	}
	want := &pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{
		Header: h.message(), Kvs: []*mvccpb.KeyValue{{Key: []byte("k"), ModRevision: 3}}, More: true, Count: math.MaxInt64,
	}}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRangeReplyGivesBackWhatItTook(t *testing.T) {
	c := newChunks(newBudget(1<<30, 0))
	big := &mvcc.KeyValue{Key: []byte("k"), Value: make([]byte, 10*pieceBytes)}
	fail := errors.New("disk")

	r := c.begin(context.Background(), &header{}, false)
	r.add(big)
	if c.budget.used < 10*pieceBytes {
		t.Fatalf("only %d bytes are counted", c.budget.used)
	}
	if err := r.abort(fail); err != fail {
		t.Error(err)
	}
	if c.budget.used != 0 || c.budget.turns.Len() != 0 {
		t.Errorf("after an abort %d bytes and %d turns are left over", c.budget.used, c.budget.turns.Len())
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r = c.begin(ctx, &header{}, false)
	if r.add(big) || !errors.Is(r.err, context.Canceled) {
		t.Errorf("a reply for nobody goes on: %v", r.err)
	}
	r.abort(r.err)
	if c.budget.used != 0 || c.budget.turns.Len() != 0 {
		t.Errorf("after a cancel %d bytes and %d turns are left over", c.budget.used, c.budget.turns.Len())
	}
}

// A reply that could not be sent is not built: a list of a store that is larger than the memory would be the end of the member.
func TestRangeReplyIsBounded(t *testing.T) {
	c := newChunks(newBudget(1<<30, 0))
	c.replyMax = 20 * pieceBytes
	r := c.begin(context.Background(), &header{}, false)
	pairs := 0
	for kv := (&mvcc.KeyValue{Key: []byte("k"), Value: make([]byte, pieceBytes/2)}); r.add(kv); pairs++ {
		if pairs > 40 {
			t.Fatal("it grows and grows")
		}
	}
	if err := wireError(r.abort(r.err)); pairs < 38 || status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%d pairs, then %v", pairs, err)
	}
	if c.budget.used != 0 || c.budget.turns.Len() != 0 {
		t.Errorf("%d bytes and %d turns are left over", c.budget.used, c.budget.turns.Len())
	}
}

func BenchmarkRangeReplySingle(b *testing.B) {
	c := newChunks(newBudget(1<<30, 0))
	kv := &mvcc.KeyValue{Key: make([]byte, 32), Value: make([]byte, 256), CreateRevision: 1 << 30, ModRevision: 1 << 31, Version: 9}
	h := header{1 << 60, 1 << 61, 1 << 31, 7}
	b.ReportAllocs()
	for b.Loop() {
		r := c.begin(context.Background(), &h, true)
		r.add(kv)
		e, _ := r.finish(&h, false, 1)
		e.free()
	}
}

func BenchmarkRangeReplyList(b *testing.B) {
	c := newChunks(newBudget(1<<30, 0))
	kv := &mvcc.KeyValue{Key: make([]byte, 32), Value: make([]byte, 256), CreateRevision: 1 << 30, ModRevision: 1 << 31, Version: 9}
	h := header{1 << 60, 1 << 61, 1 << 31, 7}
	b.ReportAllocs()
	for b.Loop() {
		r := c.begin(context.Background(), &h, false)
		for range 1000 {
			r.add(kv)
		}
		e, _ := r.finish(&h, false, 1)
		e.free()
	}
}
