package v3

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// On a server that can, changes are answered by whoever has their outcome; reads within transactions are not changes. What may
// have to wait for room is not deferred.
func TestChangesAreDeferred(t *testing.T) {
	testDeferred(t, nil, 3)
	testDeferred(t, &quota{left: 1 << 30}, 3)
	testDeferred(t, &quota{left: 1 << 20}, 0)
}

func testDeferred(t *testing.T, room Quota, want int64) {
	t.Helper()
	s := serve(t, func(o *Options) { o.Quota = room })
	s.put(t, "k", "v")
	if _, err := s.kv.DeleteRange(ctx(t), &pb.DeleteRangeRequest{Key: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	write := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}}}}
	if _, err := s.kv.Txn(ctx(t), write); err != nil {
		t.Fatal(err)
	}
	read := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}}}
	if r, err := s.kv.Txn(ctx(t), read); err != nil || len(r.Responses[0].GetResponseRange().Kvs) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	if transportName != "keelson" {
		want = 0
	}
	if got := s.later.Load(); got != want {
		t.Errorf("%d changes were deferred, want %d", got, want)
	}
}
