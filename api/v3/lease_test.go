package v3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/command"
	"keelson/node"
	"keelson/state"
)

// chance gives the numbers of a list, over and over.
type chance struct {
	mu   sync.Mutex
	list []uint64
}

func (c *chance) Uint64() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.list[0]
	c.list = append(c.list[1:], n)
	return n
}

func (s *server) grant(t testing.TB, id, ttl int64) *pb.LeaseGrantResponse {
	t.Helper()
	r, err := s.lease.LeaseGrant(ctx(t), &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLeaseGrant: section 4.1, traps 74 and 75.
func TestLeaseGrant(t *testing.T) {
	s := serve(t, func(o *Options) { o.LeaseTTLMinSeconds = 3 })
	for _, c := range []struct{ id, ttl, want int64 }{
		{1, 0, 3}, {2, -5, 3}, {3, math.MinInt64, 3}, {4, 2, 3}, {5, 3, 3}, {6, 100, 100}, {7, 9_000_000_000, 9_000_000_000},
		{-8, 60, 60}, {math.MinInt64, 60, 60}, {math.MaxInt64, 60, 60},
	} {
		wantMessage(t, "grant", s.grant(t, c.id, c.ttl), &pb.LeaseGrantResponse{Header: fullHeader(1), ID: c.id, TTL: c.want})
	}
	wantError(t, "too large", s.call(t, &pb.LeaseGrantRequest{ID: 1, TTL: 9_000_000_001}), rpctypes.ErrGRPCLeaseTTLTooLarge)
	wantError(t, "taken", s.call(t, &pb.LeaseGrantRequest{ID: -8, TTL: 60}), rpctypes.ErrGRPCLeaseExist)
	if err := s.call(t, &pb.LeaseRevokeRequest{ID: -8}); err != nil {
		t.Fatal(err)
	}
	s.grant(t, -8, 60)
}

// TestLeaseGrantUnderAlarm: an alarm is a better reason than a TTL.
func TestLeaseGrantUnderAlarm(t *testing.T) {
	s := serve(t, nil)
	for _, c := range []struct {
		alarm int32
		want  error
	}{{1, rpctypes.ErrGRPCNoSpace}, {2, rpctypes.ErrGRPCCorrupt}} {
		s.propose(t, &command.Alarm{Type: c.alarm, Raise: true})
		for _, ttl := range []int64{60, leaseTTLMaxSeconds + 1} {
			wantError(t, fmt.Sprintf("alarm %d, TTL %d", c.alarm, ttl), s.call(t, &pb.LeaseGrantRequest{ID: 1, TTL: ttl}), c.want)
		}
	}
}

// TestLeaseIDsArePositiveAndFree: an id that chance picks is positive, and another one is picked if it is taken.
func TestLeaseIDsArePositiveAndFree(t *testing.T) {
	s := serve(t, func(o *Options) { o.Chance = &chance{list: []uint64{0, 1 << 63, 1<<63 + 5, 5, 5, 9}} })
	if r := s.grant(t, 0, 60); r.ID != 5 {
		t.Errorf("id %d, want 5: the first that is positive", r.ID)
	}
	if r := s.grant(t, 0, 60); r.ID != 9 {
		t.Errorf("id %d, want 9: the first that is free", r.ID)
	}
}

// TestLeaseRevoke: traps 78 and 79.
func TestLeaseRevoke(t *testing.T) {
	s := serve(t, nil)
	s.grant(t, 7, 60)
	for _, key := range []string{"b", "a", "c"} {
		if err := s.call(t, &pb.PutRequest{Key: []byte(key), Lease: 7}); err != nil {
			t.Fatal(err)
		}
	}
	s.put(t, "c", "without the lease") // 5
	w := s.open(t)
	w.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	w.want("created", created(0, 5))
	r, err := s.lease.LeaseRevoke(ctx(t), &pb.LeaseRevokeRequest{ID: 7})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, "revoke", r, &pb.LeaseRevokeResponse{Header: fullHeader(6)})
	got := w.recv()
	wantMessage(t, "one revision", got, &pb.WatchResponse{Header: fullHeader(6), Events: got.Events})
	if len(got.Events) != 2 || string(got.Events[0].Kv.Key) != "a" || string(got.Events[1].Kv.Key) != "b" {
		t.Errorf("events %v", got.Events)
	}
	wantError(t, "twice", s.call(t, &pb.LeaseRevokeRequest{ID: 7}), rpctypes.ErrGRPCLeaseNotFound)
}

// TestLeaseKeepAlive: section 4.3, trap 76.
func TestLeaseKeepAlive(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "a", "1") // 2
	s.grant(t, 7, 60)
	stream, err := s.lease.LeaseKeepAlive(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ id, ttl int64 }{{7, 60}, {8, 0}, {0, 0}, {7, 60}} {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: c.id}); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, "renewal", r, &pb.LeaseKeepAliveResponse{Header: fullHeader(2), ID: c.id, TTL: c.ttl})
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the client is done, and the call ends with %v", err)
	}
}

// TestLeaseKeepAliveErrors: what ends the stream, and how.
func TestLeaseKeepAliveErrors(t *testing.T) {
	s := serve(t, nil)
	for _, c := range []struct{ err, want error }{
		{node.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
		{node.ErrTimeout, rpctypes.ErrGRPCTimeout},
		{node.ErrNotLeader, errNotPrimary},
		{context.Canceled, status.Error(codes.Canceled, "context canceled")},
	} {
		s.renewErr.Store(&c.err)
		stream, err := s.lease.LeaseKeepAlive(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 7}); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		wantError(t, c.err.Error(), err, c.want)
	}
}

// lateLessor writes a pair while it renews.
type lateLessor struct {
	*soloMember
	renewing func()
}

func (l *lateLessor) RenewLease(context.Context, int64) (int64, error) {
	l.renewing()
	return 0, state.ErrLeaseNotFound
}

// TestLeaseKeepAliveHeaderIsOld: trap 88. A lease that was found gone may have been gone before the newest revision.
func TestLeaseKeepAliveHeaderIsOld(t *testing.T) {
	var s *server
	s = serve(t, func(o *Options) {
		o.Lessor = &lateLessor{o.Member.(*soloMember), func() { s.put(t, "k", "v") }}
	})
	stream, err := s.lease.LeaseKeepAlive(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 7}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, "renewal", r.Header, 1)
}

// TestLeaseTimeToLive: section 4.4, trap 77.
func TestLeaseTimeToLive(t *testing.T) {
	s := serve(t, nil)
	s.grant(t, 7, 60)
	for _, key := range []string{"b", "a"} {
		if err := s.call(t, &pb.PutRequest{Key: []byte(key), Lease: 7}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		r    *pb.LeaseTimeToLiveRequest
		want *pb.LeaseTimeToLiveResponse
	}{
		{&pb.LeaseTimeToLiveRequest{ID: 8, Keys: true}, &pb.LeaseTimeToLiveResponse{Header: fullHeader(3), ID: 8, TTL: -1}},
		{&pb.LeaseTimeToLiveRequest{ID: 7}, &pb.LeaseTimeToLiveResponse{Header: fullHeader(3), ID: 7, TTL: 59, GrantedTTL: 60}},
		{&pb.LeaseTimeToLiveRequest{ID: 7, Keys: true}, &pb.LeaseTimeToLiveResponse{Header: fullHeader(3), ID: 7, TTL: 59, GrantedTTL: 60,
			Keys: [][]byte{[]byte("a"), []byte("b")}}},
	} {
		got, err := s.lease.LeaseTimeToLive(ctx(t), c.r)
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, "time to live", got, c.want)
		// Keys may have been attached through another member, of which this one has not heard yet.
		if reads := s.reads.Load(); reads != []int64{1, 1, 2}[i] {
			t.Errorf("%v: %d linearizable reads", c.r, reads)
		}
	}
}

// backwardsLessor lists leases in an order that only a leader can know.
type backwardsLessor struct{ *soloMember }

func (l backwardsLessor) Leases() []node.LeaseTimes {
	list := l.soloMember.Leases()
	slices.Reverse(list)
	return list
}

// TestLeaseLeases: trap 89. A leader goes by the time left, others by the TTL, equal ones in the order of their grants.
func TestLeaseLeases(t *testing.T) {
	s := serve(t, func(o *Options) { o.Lessor = backwardsLessor{o.Member.(*soloMember)} })
	for _, l := range [][2]int64{{1, 90}, {2, 60}, {-3, 60}, {4, 30}} {
		s.grant(t, l[0], l[1])
	}
	ids := func() (list []int64) {
		r, err := s.lease.LeaseLeases(ctx(t), &pb.LeaseLeasesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		wantHeader(t, "leases", r.Header, 1)
		for _, l := range r.Leases {
			list = append(list, l.ID)
		}
		return list
	}
	if got := ids(); !slices.Equal(got, []int64{1, -3, 2, 4}) {
		t.Errorf("on the leader %v", got)
	}
	s.set(func(st *node.Status) { st.Leading = false })
	if got := ids(); !slices.Equal(got, []int64{4, 2, -3, 1}) {
		t.Errorf("elsewhere %v", got)
	}
}
