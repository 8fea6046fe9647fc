package v3

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"keelson/command"
	"keelson/node"
)

func (s *server) propose(t testing.TB, op command.Op) {
	t.Helper()
	r, err := s.Propose(ctx(t), op)
	if err != nil || r.Refusal != nil {
		t.Fatal(err, r.Refusal)
	}
}

// TestStatus: section 6.2, traps 110 and 111.
func TestStatus(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "a", "1")
	get := func() *pb.StatusResponse {
		t.Helper()
		r, err := s.upkeep.Status(ctx(t), &pb.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := &pb.StatusResponse{
		Header: fullHeader(2), Version: "3.7.1", DbSize: 4096, DbSizeInUse: 1024, DbSizeQuota: 2 << 30,
		Leader: memberID, RaftIndex: 5, RaftAppliedIndex: 4, RaftTerm: 2, DowngradeInfo: &pb.DowngradeInfo{},
	}
	wantMessage(t, "at first", get(), want)
	s.propose(t, &command.ClusterVersion{Version: "3.7.0"})
	s.propose(t, &command.Alarm{Member: 12, Type: 1, Raise: true})
	s.propose(t, &command.Alarm{Type: 2, Raise: true})
	s.set(func(st *node.Status) { st.Leader, st.Learner = 0, true })
	want.StorageVersion, want.Leader, want.IsLearner = "3.7.0", 0, true
	want.Errors = []string{"etcdserver: no leader", "alarm:CORRUPT", "memberID:12 alarm:NOSPACE"}
	wantMessage(t, "in trouble", get(), want)
}

// TestAlarm: section 6.1 and what alarms forbid, traps 41, 112 and 113.
func TestAlarm(t *testing.T) {
	s := serve(t, nil)
	alarm := func(action pb.AlarmRequest_AlarmAction, member uint64, typ pb.AlarmType) *pb.AlarmResponse {
		t.Helper()
		r, err := s.upkeep.Alarm(ctx(t), &pb.AlarmRequest{Action: action, MemberID: member, Alarm: typ})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	reply := func(list ...*pb.AlarmMember) *pb.AlarmResponse {
		return &pb.AlarmResponse{Header: fullHeader(2), Alarms: list}
	}
	s.put(t, "a", "1")
	noSpace, corrupt := &pb.AlarmMember{MemberID: 7, Alarm: 1}, &pb.AlarmMember{Alarm: 2}
	wantMessage(t, "none", alarm(pb.AlarmRequest_GET, 9, 0), reply())
	wantMessage(t, "activate nothing", alarm(pb.AlarmRequest_ACTIVATE, 0, 0), reply())
	wantMessage(t, "activate", alarm(pb.AlarmRequest_ACTIVATE, 7, 1), reply(noSpace))
	wantMessage(t, "activate again", alarm(pb.AlarmRequest_ACTIVATE, 7, 1), reply(noSpace))
	wantError(t, "Put", s.call(t, put("a", "2")), rpctypes.ErrGRPCNoSpace)
	wantError(t, "Txn", s.call(t, &pb.TxnRequest{Success: ops{putOp("a")}}), rpctypes.ErrGRPCNoSpace)
	wantError(t, "LeaseGrant", s.call(t, &pb.LeaseGrantRequest{TTL: 60}), rpctypes.ErrGRPCNoSpace)
	if err := s.call(t, &pb.TxnRequest{Success: ops{deleteOp("x", "")}}); err != nil {
		t.Errorf("a transaction that deletes: %v", err)
	}
	wantMessage(t, "activate for nobody in particular", alarm(pb.AlarmRequest_ACTIVATE, 0, 2), reply(corrupt))
	for _, req := range []any{
		put("a", "2"), &pb.DeleteRangeRequest{Key: []byte("a")}, &pb.TxnRequest{Success: ops{deleteOp("a", "")}},
		&pb.CompactionRequest{Revision: 2}, &pb.LeaseGrantRequest{}, &pb.LeaseRevokeRequest{ID: 1},
	} {
		wantError(t, "corrupt", s.call(t, req), rpctypes.ErrGRPCCorrupt)
	}
	if err := s.call(t, &pb.TxnRequest{Success: ops{rangeOp("a", "")}}); err != nil {
		t.Errorf("a transaction that reads: %v", err)
	}
	all := alarm(pb.AlarmRequest_GET, 9, 0)
	if len(all.Alarms) != 2 {
		t.Errorf("all alarms: %v", all)
	}
	wantMessage(t, "of one type", alarm(pb.AlarmRequest_GET, 0, 1), reply(noSpace))
	wantMessage(t, "deactivate another member's", alarm(pb.AlarmRequest_DEACTIVATE, 8, 1), reply())
	for _, a := range all.Alarms {
		wantMessage(t, "deactivate", alarm(pb.AlarmRequest_DEACTIVATE, a.MemberID, a.Alarm), reply(a))
		wantMessage(t, "deactivate again", alarm(pb.AlarmRequest_DEACTIVATE, a.MemberID, a.Alarm), reply())
	}
	s.put(t, "a", "2")
	wantError(t, "unknown action", s.call(t, &pb.AlarmRequest{Action: 9}), errUnknownMethod)
}

// TestHashes: section 6.4, trap 107.
func TestHashes(t *testing.T) {
	s := serve(t, nil)
	first := s.put(t, "a", "1")
	hashKV := func(rev int64) *pb.HashKVResponse {
		t.Helper()
		r, err := s.upkeep.HashKV(ctx(t), &pb.HashKVRequest{Revision: rev})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := hashKV(0)
	wantMessage(t, "newest", before, &pb.HashKVResponse{Header: fullHeader(2), Hash: before.Hash, CompactRevision: -1, HashRevision: 2})
	s.put(t, "a", "2")
	wantMessage(t, "older", hashKV(first), &pb.HashKVResponse{Header: fullHeader(3), Hash: before.Hash, CompactRevision: -1, HashRevision: 2})
	newest := hashKV(3)
	if newest.Hash == before.Hash {
		t.Error("two states, one hash")
	}
	wantError(t, "future", s.call(t, &pb.HashKVRequest{Revision: 4}), rpctypes.ErrGRPCFutureRev)
	if err := s.call(t, &pb.CompactionRequest{Revision: 3, Physical: true}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "compacted", s.call(t, &pb.HashKVRequest{Revision: 2}), rpctypes.ErrGRPCCompacted)
	wantMessage(t, "told before the compaction", hashKV(3), newest)
	s.put(t, "a", "3")
	if err := s.call(t, &pb.CompactionRequest{Revision: 4, Physical: true}); err != nil {
		t.Fatal(err)
	}
	if r := hashKV(4); r.CompactRevision != 4 {
		t.Errorf("compact revision %d", r.CompactRevision)
	}
	h, err := s.upkeep.Hash(ctx(t), &pb.HashRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, "Hash", h.Header, 4)
}

func TestDefragment(t *testing.T) {
	s := serve(t, nil)
	r, err := s.upkeep.Defragment(ctx(t), &pb.DefragmentRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, "no header", r, &pb.DefragmentResponse{})
}

func TestMemberList(t *testing.T) {
	s := serve(t, nil)
	s.propose(t, &command.MemberPublish{ID: memberID, Name: "one", ClientURLs: []string{"http://c:2379"}})
	s.put(t, "a", "1")
	for _, linearizable := range []bool{false, true} {
		r, err := s.cluster.MemberList(ctx(t), &pb.MemberListRequest{Linearizable: linearizable})
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, "list", r, &pb.MemberListResponse{Header: fullHeader(0), Members: []*pb.Member{{
			ID: memberID, Name: "one", PeerURLs: []string{"http://p:2380"}, ClientURLs: []string{"http://c:2379"},
		}}})
	}
}

func TestHealth(t *testing.T) {
	s := serve(t, nil)
	check := func(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		r, err := s.health.Check(ctx(t), &healthpb.HealthCheckRequest{Service: service})
		return r.GetStatus(), err
	}
	if st, err := check(""); err != nil || st != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := check("other"); status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
	s.services.Close()
	if st, err := check(""); err != nil || st != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("closing: %v, %v", st, err)
	}
}

// TestEveryMethodIsServed: each method of the services answers.
func TestEveryMethodIsServed(t *testing.T) {
	s := serve(t, nil)
	services := pb.File_rpc_proto.Services()
	for i := range services.Len() {
		service := services.Get(i)
		if service.Name() == "Auth" {
			continue
		}
		for j := range service.Methods().Len() {
			m := service.Methods().Get(j)
			if m.IsStreamingServer() {
				continue // each has its own test
			}
			name := "/" + string(service.FullName()) + "/" + string(m.Name())
			// Any message will do for the reply: what it does not know it keeps aside.
			err := s.conn.Invoke(ctx(t), name, &pb.HashRequest{}, new(pb.HashResponse))
			if status.Code(err) == codes.Unimplemented {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
