package v3

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/state/auth"
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

// A change that is proposed again, because users have changed meanwhile, is held against the quota like any other when it has been
// carried out.
func TestQuotaAfterAChangeThatIsRepeated(t *testing.T) {
	room := &quota{left: 1 << 30}
	s := serve(t, func(o *Options) { o.Quota = room })
	s.refuseLater.Store(&auth.ErrOldRevision)
	s.put(t, "k", "v")
	room.full = true
	_, err := s.kv.Put(ctx(t), &pb.PutRequest{Key: []byte("k")})
	wantError(t, "beyond the quota", err, rpctypes.ErrGRPCNoSpace)
	if room.raised != 1 {
		t.Errorf("the alarm was raised %d times", room.raised)
	}
	if got := s.get(t, &pb.RangeRequest{Key: []byte("k")}); len(got.Kvs) != 1 || len(got.Kvs[0].Value) != 0 {
		t.Errorf("what was written: %v", got.Kvs)
	}
}
