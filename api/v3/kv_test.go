package v3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/node"
)

func put(key, value string) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func pair(key, value string, create, mod, version int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version}
}

func wantMessage(t testing.TB, what string, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func fullHeader(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, RaftTerm: 2, Revision: revision}
}

// TestKVHeaders: traps 1, 2 and 3.
func TestKVHeaders(t *testing.T) {
	s := serve(t, nil)
	wantMessage(t, "fresh store", s.get(t, &pb.RangeRequest{Key: []byte("a")}), &pb.RangeResponse{Header: fullHeader(1)})
	r, err := s.kv.Put(ctx(t), put("a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, "first put", r, &pb.PutResponse{Header: fullHeader(2)})
	s.put(t, "a", "2")
	wantMessage(t, "old revision", s.get(t, &pb.RangeRequest{Key: []byte("a"), Revision: 2}),
		&pb.RangeResponse{Header: fullHeader(3), Kvs: []*mvccpb.KeyValue{pair("a", "1", 2, 2, 1)}, Count: 1})
	for _, c := range []struct {
		key          string
		deleted, rev int64
	}{{"b", 0, 3}, {"a", 1, 4}, {"a", 0, 4}} {
		d, err := s.kv.DeleteRange(ctx(t), &pb.DeleteRangeRequest{Key: []byte(c.key)})
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, "delete "+c.key, d, &pb.DeleteRangeResponse{Header: fullHeader(c.rev), Deleted: c.deleted})
	}
}

// TestRangeFields: traps 4, 5 (missing key at a compacted revision), 6, 7, 8, 9, 10, 11, 12.
func TestRangeFields(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "a", "z") // 2
	s.put(t, "b", "y") // 3
	s.put(t, "c", "")  // 4
	s.put(t, "b", "x") // 5
	keys := func(r *pb.RangeResponse) string {
		var list []string
		for _, kv := range r.Kvs {
			list = append(list, string(kv.Key))
		}
		return strings.Join(list, "")
	}
	all := func(change func(*pb.RangeRequest)) *pb.RangeRequest {
		r := &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("d")}
		if change != nil {
			change(r)
		}
		return r
	}
	for _, c := range []struct {
		name  string
		r     *pb.RangeRequest
		keys  string
		count int64
		more  bool
	}{
		{"all", all(nil), "abc", 3, false},
		{"limit", all(func(r *pb.RangeRequest) { r.Limit = 2 }), "ab", 3, true},
		{"limit of all", all(func(r *pb.RangeRequest) { r.Limit = 3 }), "abc", 3, false},
		{"huge limit", all(func(r *pb.RangeRequest) { r.Limit = 1<<63 - 1 }), "abc", 3, false},
		{"filter", all(func(r *pb.RangeRequest) { r.MinModRevision = 4 }), "bc", 3, false},
		{"filter and limit", all(func(r *pb.RangeRequest) { r.MinModRevision, r.Limit = 4, 1 }), "b", 3, true},
		{"create filter", all(func(r *pb.RangeRequest) { r.MinCreateRevision, r.MaxCreateRevision = 2, 3 }), "ab", 3, false},
		{"max mod", all(func(r *pb.RangeRequest) { r.MaxModRevision = 4 }), "ac", 3, false},
		{"count only", all(func(r *pb.RangeRequest) { r.CountOnly, r.KeysOnly, r.Limit = true, true, 1 }), "", 3, false},
		{"descending versions, stable", all(func(r *pb.RangeRequest) { r.SortOrder, r.SortTarget = 2, 1 }), "bac", 3, false},
		{"ascending versions, stable", all(func(r *pb.RangeRequest) { r.SortOrder, r.SortTarget = 1, 1 }), "acb", 3, false},
		{"values without order", all(func(r *pb.RangeRequest) { r.SortTarget = pb.RangeRequest_VALUE }), "cba", 3, false},
		{"end below key", &pb.RangeRequest{Key: []byte("c"), RangeEnd: []byte("a")}, "", 0, false},
		{"everything", &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, "abc", 3, false},
		{"from a key on", &pb.RangeRequest{Key: []byte("b"), RangeEnd: []byte{0}}, "bc", 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.get(t, c.r)
			if keys(got) != c.keys || got.Count != c.count || got.More != c.more {
				t.Errorf("keys %q, count %d, more %v; want %q, %d, %v", keys(got), got.Count, got.More, c.keys, c.count, c.more)
			}
			wantHeader(t, "range", got.Header, 5)
		})
	}
	only := s.get(t, &pb.RangeRequest{Key: []byte("b"), KeysOnly: true})
	wantMessage(t, "keys only", only, &pb.RangeResponse{Header: fullHeader(5), Count: 1, Kvs: []*mvccpb.KeyValue{pair("b", "", 3, 5, 2)}})
	_, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte("nothing"), Revision: 6})
	wantError(t, "future", err, rpctypes.ErrGRPCFutureRev)
	if _, err := s.kv.Compact(ctx(t), &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	s.get(t, &pb.RangeRequest{Key: []byte("nothing"), Revision: 4})
	_, err = s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte("nothing"), Revision: 3})
	wantError(t, "compacted", err, rpctypes.ErrGRPCCompacted)
}

// TestRangePath: what needs a quorum asks for one, and what does not does not.
func TestRangePath(t *testing.T) {
	s := serve(t, nil)
	fail := node.ErrTimeout
	s.readErr.Store(&fail)
	key := []byte("k")
	local := rangeOp("k", "")
	local.GetRequestRange().Serializable = true
	for _, c := range []struct {
		name   string
		call   func() error
		quorum bool
	}{
		{"Range", func() error { _, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: key}); return err }, true},
		{"serializable Range", func() error {
			_, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: key, Serializable: true})
			return err
		}, false},
		{"Txn", func() error {
			_, err := s.kv.Txn(ctx(t), &pb.TxnRequest{Success: ops{rangeOp("k", ""), local}})
			return err
		}, true},
		{"serializable Txn", func() error { _, err := s.kv.Txn(ctx(t), &pb.TxnRequest{Failure: ops{local}}); return err }, false},
		{"empty Txn", func() error { _, err := s.kv.Txn(ctx(t), &pb.TxnRequest{}); return err }, false},
		{"RangeStream", func() error { _, _, err := s.stream(t, &pb.RangeRequest{Key: key}); return err }, true},
		{"serializable RangeStream", func() error { _, _, err := s.stream(t, &pb.RangeRequest{Key: key, Serializable: true}); return err }, false},
		{"MemberList", func() error {
			_, err := s.cluster.MemberList(ctx(t), &pb.MemberListRequest{Linearizable: true})
			return err
		}, true},
		{"local MemberList", func() error { _, err := s.cluster.MemberList(ctx(t), &pb.MemberListRequest{}); return err }, false},
		{"Alarm GET", func() error { _, err := s.upkeep.Alarm(ctx(t), &pb.AlarmRequest{}); return err }, true},
		{"Status", func() error { _, err := s.upkeep.Status(ctx(t), &pb.StatusRequest{}); return err }, false},
	} {
		err := c.call()
		if c.quorum {
			wantError(t, c.name, err, rpctypes.ErrGRPCTimeout)
		} else if err != nil {
			t.Errorf("%s needs a quorum: %v", c.name, err)
		}
	}
	if n := s.proposals.Load(); n != 0 {
		t.Errorf("%d reads went through the log", n)
	}
}

// TestShapeErrors: what is refused for its shape never reaches the log.
func TestShapeErrors(t *testing.T) {
	s := serve(t, nil)
	deep := &pb.TxnRequest{Success: ops{txnOp(ops{rangeOp("a", "")}, nil)}}
	deep.Success[0].GetRequestTxn().Success[0].GetRequestRange().SortTarget = 42
	for _, c := range []struct {
		name string
		req  any
		want error
	}{
		{"Range without key", &pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		{"Range sorted by nothing known", &pb.RangeRequest{Key: []byte("k"), SortOrder: 3}, rpctypes.ErrGRPCInvalidSortOption},
		{"Put without key", &pb.PutRequest{}, rpctypes.ErrGRPCEmptyKey},
		{"Put keeping and giving a value", &pb.PutRequest{Key: []byte("k"), IgnoreValue: true, Value: []byte("v")}, rpctypes.ErrGRPCValueProvided},
		{"Put keeping and giving a lease", &pb.PutRequest{Key: []byte("k"), IgnoreLease: true, Lease: 1}, rpctypes.ErrGRPCLeaseProvided},
		{"DeleteRange without key", &pb.DeleteRangeRequest{RangeEnd: []byte("z")}, rpctypes.ErrGRPCEmptyKey},
		{"Txn with 129 operations", &pb.TxnRequest{Success: repeat(129)}, rpctypes.ErrGRPCTooManyOps},
		{"Txn with an empty operation", &pb.TxnRequest{Failure: ops{{}}}, rpctypes.ErrGRPCKeyNotFound},
		{"Txn with a bad sort, nested", deep, rpctypes.ErrGRPCInvalidSortOption},
		{"Txn with a key put twice", &pb.TxnRequest{Success: ops{putOp("a"), putOp("a")}}, rpctypes.ErrGRPCDuplicateKey},
		{"LeaseGrant of 9e9+1 s", &pb.LeaseGrantRequest{TTL: 9_000_000_001}, rpctypes.ErrGRPCLeaseTTLTooLarge},
	} {
		wantError(t, c.name, s.call(t, c.req), c.want)
	}
	if n := s.proposals.Load(); n != 0 {
		t.Errorf("%d refused requests went into the log", n)
	}
	wantHeader(t, "afterwards", s.get(t, &pb.RangeRequest{Key: []byte("a")}).Header, 1)
}

// call makes the unary call that a request is for.
func (s *server) call(t testing.TB, req any) (err error) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		_, err = s.kv.Range(ctx(t), r)
	case *pb.PutRequest:
		_, err = s.kv.Put(ctx(t), r)
	case *pb.DeleteRangeRequest:
		_, err = s.kv.DeleteRange(ctx(t), r)
	case *pb.TxnRequest:
		_, err = s.kv.Txn(ctx(t), r)
	case *pb.CompactionRequest:
		_, err = s.kv.Compact(ctx(t), r)
	case *pb.LeaseGrantRequest:
		_, err = s.lease.LeaseGrant(ctx(t), r)
	case *pb.LeaseRevokeRequest:
		_, err = s.lease.LeaseRevoke(ctx(t), r)
	case *pb.LeaseTimeToLiveRequest:
		_, err = s.lease.LeaseTimeToLive(ctx(t), r)
	case *pb.LeaseLeasesRequest:
		_, err = s.lease.LeaseLeases(ctx(t), r)
	case *pb.MemberListRequest:
		_, err = s.cluster.MemberList(ctx(t), r)
	case *pb.MemberAddRequest:
		_, err = s.cluster.MemberAdd(ctx(t), r)
	case *pb.MemberRemoveRequest:
		_, err = s.cluster.MemberRemove(ctx(t), r)
	case *pb.MemberUpdateRequest:
		_, err = s.cluster.MemberUpdate(ctx(t), r)
	case *pb.MemberPromoteRequest:
		_, err = s.cluster.MemberPromote(ctx(t), r)
	case *pb.MoveLeaderRequest:
		_, err = s.upkeep.MoveLeader(ctx(t), r)
	case *pb.StatusRequest:
		_, err = s.upkeep.Status(ctx(t), r)
	case *pb.HashKVRequest:
		_, err = s.upkeep.HashKV(ctx(t), r)
	case *pb.AlarmRequest:
		_, err = s.upkeep.Alarm(ctx(t), r)
	default:
		panic(fmt.Sprintf("no call for %T", req))
	}
	return err
}

// TestPutOptions: traps 23, 25, 26.
func TestPutOptions(t *testing.T) {
	s := serve(t, nil)
	wantError(t, "unknown lease", s.call(t, &pb.PutRequest{Key: []byte("k"), Lease: 5}), rpctypes.ErrGRPCLeaseNotFound)
	wantError(t, "value of no key", s.call(t, &pb.PutRequest{Key: []byte("k"), IgnoreValue: true}), rpctypes.ErrGRPCKeyNotFound)
	wantError(t, "lease of no key", s.call(t, &pb.PutRequest{Key: []byte("k"), IgnoreLease: true}), rpctypes.ErrGRPCKeyNotFound)
	if _, err := s.lease.LeaseGrant(ctx(t), &pb.LeaseGrantRequest{ID: 5, TTL: 60}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		r    *pb.PutRequest
		want *pb.PutResponse
	}{
		{"first", &pb.PutRequest{Key: []byte("k"), Value: []byte("1"), Lease: 5, PrevKv: true}, &pb.PutResponse{Header: fullHeader(2)}},
		{"keeping the value", &pb.PutRequest{Key: []byte("k"), IgnoreValue: true, PrevKv: true},
			&pb.PutResponse{Header: fullHeader(3), PrevKv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("1"), CreateRevision: 2, ModRevision: 2, Version: 1, Lease: 5}}},
		{"keeping the lease", &pb.PutRequest{Key: []byte("k"), Value: []byte("2"), IgnoreLease: true, PrevKv: true},
			&pb.PutResponse{Header: fullHeader(4), PrevKv: pair("k", "1", 2, 3, 2)}},
		{"without being asked", put("k", "3"), &pb.PutResponse{Header: fullHeader(5)}},
	} {
		r, err := s.kv.Put(ctx(t), c.r)
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, c.name, r, c.want)
	}
}

// TestTxnReplies: traps 16, 18, 19, 20, 21, 22, 24.
func TestTxnReplies(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "a", "1") // 2
	h := func(rev int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: rev} }
	txn := func(r *pb.TxnRequest) *pb.TxnResponse {
		t.Helper()
		reply, err := s.kv.Txn(ctx(t), r)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	rangeReply := func(rev int64, kvs ...*mvccpb.KeyValue) *pb.ResponseOp {
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{
			ResponseRange: &pb.RangeResponse{Header: h(rev), Kvs: kvs, Count: int64(len(kvs))}}}
	}
	wantMessage(t, "read only", txn(&pb.TxnRequest{Success: ops{rangeOp("a", "")}}), &pb.TxnResponse{
		Header: fullHeader(2), Succeeded: true, Responses: []*pb.ResponseOp{rangeReply(2, pair("a", "1", 2, 2, 1))}})
	wantMessage(t, "nothing to delete", txn(&pb.TxnRequest{Success: ops{deleteOp("x", "")}}), &pb.TxnResponse{
		Header: fullHeader(2), Succeeded: true, Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: &pb.DeleteRangeResponse{Header: h(2)}}}}})
	putB := putOp("b")
	putB.GetRequestPut().PrevKv = true
	wantMessage(t, "range, put, range, nested", txn(&pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VALUE, Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}},
		Failure: ops{rangeOp("b", ""), putB, rangeOp("b", ""), txnOp(nil, nil), deleteOp("a", "")},
	}), &pb.TxnResponse{Header: fullHeader(3), Responses: []*pb.ResponseOp{
		rangeReply(2),
		{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: h(3)}}},
		rangeReply(3, pair("b", "", 3, 3, 1)),
		{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: true}}},
		{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: h(3), Deleted: 1}}},
	}})

	future := rangeOp("b", "")
	future.GetRequestRange().Revision = 99
	_, err := s.kv.Txn(ctx(t), &pb.TxnRequest{Success: ops{putOp("c"), future}})
	wantError(t, "future range after a put", err, rpctypes.ErrGRPCFutureRev)
	wantMessage(t, "the put", s.get(t, &pb.RangeRequest{Key: []byte("c")}), &pb.RangeResponse{Header: fullHeader(3)})
	if r := txn(&pb.TxnRequest{Success: ops{putOp("c")}, Failure: ops{future}}); r.Header.Revision != 4 {
		t.Errorf("a bad range in the branch not taken: header %v", r.Header)
	}
	for name, c := range map[string]struct {
		compare *pb.Compare
		want    bool
	}{
		"version > 0 of nothing":      {&pb.Compare{Key: []byte("x"), RangeEnd: []byte("z"), Result: pb.Compare_GREATER}, false},
		"version = 0 of nothing":      {&pb.Compare{Key: []byte("x"), RangeEnd: []byte("z")}, true},
		"no lease":                    {&pb.Compare{Key: []byte("b"), Target: pb.Compare_LEASE}, true},
		"empty value of an empty one": {&pb.Compare{Key: []byte("b"), Target: pb.Compare_VALUE}, true},
		"value of nothing":            {&pb.Compare{Key: []byte("x"), Target: pb.Compare_VALUE, Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}, false},
	} {
		if r := txn(&pb.TxnRequest{Compare: []*pb.Compare{c.compare}}); r.Succeeded != c.want {
			t.Errorf("%s: %v", name, r.Succeeded)
		}
	}
	keep := putOp("d")
	keep.GetRequestPut().IgnoreValue = true
	_, err = s.kv.Txn(ctx(t), &pb.TxnRequest{Success: ops{deleteOp("b", ""), keep}})
	wantError(t, "keeping the value of no key", err, rpctypes.ErrGRPCKeyNotFound)
}

// TestTxnDuplicateKeys: trap 15, over the wire.
func TestTxnDuplicateKeys(t *testing.T) {
	s := serve(t, nil)
	for _, c := range overlapCases {
		_, err := s.kv.Txn(ctx(t), &pb.TxnRequest{Failure: c.ops})
		if c.dup {
			wantError(t, c.name, err, rpctypes.ErrGRPCDuplicateKey)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestCompact: traps 5 and 34, and physical compactions.
func TestCompact(t *testing.T) {
	s := serve(t, nil)
	for range 4 {
		s.put(t, "a", "x") // 5
	}
	c, err := s.kv.Compact(ctx(t), &pb.CompactionRequest{Revision: 3})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, "reply", c, &pb.CompactionResponse{Header: fullHeader(5)})
	if s.swept.Load() != 0 {
		t.Error("a compaction that need not be physical waits for the disk")
	}
	wantError(t, "twice", s.call(t, &pb.CompactionRequest{Revision: 3}), rpctypes.ErrGRPCCompacted)
	wantError(t, "future", s.call(t, &pb.CompactionRequest{Revision: 6, Physical: true}), rpctypes.ErrGRPCFutureRev)
	if s.swept.Load() != 0 {
		t.Error("a refused compaction waits for the disk")
	}
	if err := s.call(t, &pb.CompactionRequest{Revision: 5, Physical: true}); err != nil || s.swept.Load() != 1 {
		t.Errorf("physical: %v, waited %d times", err, s.swept.Load())
	}
	wantError(t, "physical, twice", s.call(t, &pb.CompactionRequest{Revision: 5, Physical: true}), rpctypes.ErrGRPCCompacted)
	if s.swept.Load() != 2 {
		t.Error("a physical compaction refused as compacted does not wait for the one under way")
	}
	wantMessage(t, "at the floor", s.get(t, &pb.RangeRequest{Key: []byte("a"), Revision: 5}),
		&pb.RangeResponse{Header: fullHeader(5), Kvs: []*mvccpb.KeyValue{pair("a", "x", 2, 5, 4)}, Count: 1})
	s.put(t, "a", "y")
	wantHeader(t, "live after compacting at current", s.get(t, &pb.RangeRequest{Key: []byte("a")}).Header, 6)
}

// TestRequestSizes: trap 33.
func TestRequestSizes(t *testing.T) {
	s := serve(t, func(o *Options) { o.MaxRequestBytes = 1 << 20 })
	value := func(n int) []byte { return make([]byte, n) }
	big := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: value(1 << 20)}}}
	for _, c := range []struct {
		name string
		req  any
		want error
	}{
		{"fits", &pb.PutRequest{Key: []byte("k"), Value: value(1<<20 - 100)}, nil},
		{"exactly the limit", &pb.PutRequest{Key: []byte("k"), Value: value(1 << 20)}, rpctypes.ErrGRPCRequestTooLarge},
		{"over the limit", &pb.PutRequest{Key: value(1<<20 + 1000)}, rpctypes.ErrGRPCRequestTooLarge},
		{"in a transaction", &pb.TxnRequest{Failure: ops{big}}, rpctypes.ErrGRPCRequestTooLarge},
		{"nested", &pb.TxnRequest{Failure: ops{txnOp(ops{big}, nil)}}, rpctypes.ErrGRPCRequestTooLarge},
		{"in a compare", &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("k"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: value(1 << 20)}}}, Success: ops{putOp("k")}}, rpctypes.ErrGRPCRequestTooLarge},
		{"delete", &pb.DeleteRangeRequest{Key: value(1 << 20)}, rpctypes.ErrGRPCRequestTooLarge},
	} {
		err := s.call(t, c.req)
		if c.want != nil {
			wantError(t, c.name, err, c.want)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	err := s.call(t, &pb.PutRequest{Key: []byte("k"), Value: value(2 << 20)})
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || !strings.HasPrefix(st.Message(), "grpc: received message larger than max") {
		t.Errorf("over the library's limit: %v", err)
	}
}

type quota struct {
	left   int64
	full   bool // by the time that something is applied
	raised int
}

func (q *quota) Exceeded() bool { return q.full }

func (q *quota) Raise(context.Context) { q.raised++ }

func (q *quota) Ample() bool { return q.left > 1<<20 }

func (q *quota) Admit(_ context.Context, cost int64) bool {
	if cost >= q.left {
		return false
	}
	q.left -= cost
	return true
}

// TestQuotaComesFirst: a request that is refused for its cost is not looked at any further, and one that costs nothing is
// not refused.
func TestQuotaComesFirst(t *testing.T) {
	s := serve(t, func(o *Options) { o.Quota = &quota{left: 300} })
	for _, req := range []any{
		&pb.PutRequest{Value: make([]byte, 44)},
		&pb.TxnRequest{Success: ops{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Value: make([]byte, 44)}}}}},
	} {
		wantError(t, fmt.Sprintf("%T", req), s.call(t, req), rpctypes.ErrGRPCNoSpace)
	}
	if err := s.call(t, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 40)}); err != nil {
		t.Errorf("there was room: %v", err)
	}
	wantError(t, "LeaseGrant", s.call(t, &pb.LeaseGrantRequest{TTL: 1 << 62}), rpctypes.ErrGRPCNoSpace)
	for _, req := range []any{
		&pb.DeleteRangeRequest{Key: []byte("k")},
		&pb.TxnRequest{Success: ops{deleteOp("k", "")}},
		&pb.RangeRequest{Key: []byte("k")},
		&pb.CompactionRequest{Revision: 3},
	} {
		if err := s.call(t, req); err != nil {
			t.Errorf("%T costs nothing: %v", req, err)
		}
	}
}

// TestQuotaIsLookedAtAgain: when the store has grown beyond its quota by the time that a write is applied, the write stands, who made it
// is told that there is no space, and the alarm is raised. What costs nothing is not concerned.
func TestQuotaIsLookedAtAgain(t *testing.T) {
	q := &quota{left: 1 << 30, full: true}
	s := serve(t, func(o *Options) { o.Quota = q })
	for i, req := range []any{put("k", "v"), &pb.TxnRequest{Success: ops{putOp("t")}}, &pb.LeaseGrantRequest{TTL: 10, ID: 7}} {
		wantError(t, fmt.Sprintf("%T", req), s.call(t, req), rpctypes.ErrGRPCNoSpace)
		if q.raised != i+1 {
			t.Errorf("%T: the alarm was raised %d times, want %d", req, q.raised, i+1)
		}
	}
	for _, key := range []string{"k", "t"} {
		r, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte(key)})
		if err != nil || r.Count != 1 {
			t.Errorf("%s was not written: %v %v", key, r, err)
		}
	}
	wantError(t, "a lease that was granted", s.call(t, &pb.LeaseGrantRequest{TTL: 10, ID: 7}), rpctypes.ErrGRPCLeaseExist)
	for _, req := range []any{&pb.DeleteRangeRequest{Key: []byte("k")}, &pb.TxnRequest{Success: ops{deleteOp("t", "")}}} {
		if err := s.call(t, req); err != nil {
			t.Errorf("%T costs nothing: %v", req, err)
		}
	}
}

// TestProposalErrors: what goes wrong on the way to the log reaches the client in the table's words.
func TestProposalErrors(t *testing.T) {
	s := serve(t, nil)
	for _, want := range []struct{ err, wire error }{
		{node.ErrTimeout, rpctypes.ErrGRPCTimeout},
		{node.ErrTooManyRequests, errTooManyRequests},
		{node.ErrCanceled, rpctypes.ErrGRPCCanceled},
		{node.ErrStopped, rpctypes.ErrGRPCStopped},
		{context.DeadlineExceeded, status.Error(codes.DeadlineExceeded, "context deadline exceeded")},
		{errors.New("disk"), status.Error(codes.Unknown, "disk")},
	} {
		s.proposeErr.Store(&want.err)
		for _, req := range []any{
			put("k", "v"), &pb.DeleteRangeRequest{Key: []byte("k")}, &pb.TxnRequest{Success: ops{putOp("k")}},
			&pb.CompactionRequest{}, &pb.LeaseGrantRequest{}, &pb.LeaseRevokeRequest{}, &pb.AlarmRequest{Action: 1, Alarm: 1},
		} {
			wantError(t, fmt.Sprintf("%T", req), s.call(t, req), want.wire)
		}
	}
}

// stream makes a RangeStream call and returns its chunks, and what they merge to.
func (s *server) stream(t testing.TB, r *pb.RangeRequest) (chunks []*pb.RangeResponse, merged *pb.RangeResponse, err error) {
	t.Helper()
	c, err := s.kv.RangeStream(ctx(t), r)
	if err != nil {
		t.Fatal(err)
	}
	merged = &pb.RangeResponse{}
	for {
		m, err := c.Recv()
		if errors.Is(err, io.EOF) {
			return chunks, merged, nil
		}
		if err != nil {
			return chunks, merged, err
		}
		chunks = append(chunks, m.RangeResponse)
		proto.Merge(merged, m.RangeResponse)
	}
}

// TestLargeRanges: replies of any size arrive whole, and leave the budget as they found it.
func TestLargeRanges(t *testing.T) {
	s := serve(t, func(o *Options) { o.ReadBudgetBytes = 1 << 20; o.MaxRequestBytes = 4 << 20 })
	for i := range 20 {
		s.put(t, fmt.Sprintf("k%03d", i), strings.Repeat(string(rune('a'+i)), 300_000))
	}
	done := make(chan error, 4)
	for range cap(done) { // each six times the budget
		go func() {
			r, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
			if err == nil && (len(r.Kvs) != 20 || r.Count != 20) {
				err = fmt.Errorf("%d pairs, count %d", len(r.Kvs), r.Count)
			}
			for i, kv := range r.GetKvs() {
				if string(kv.Value) != strings.Repeat(string(rune('a'+i)), 300_000) {
					err = fmt.Errorf("%s is garbled", kv.Key)
				}
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
