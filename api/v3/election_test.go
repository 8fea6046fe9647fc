package v3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/api/v3electionpb"
)

func (s *server) campaign(t testing.TB, name string, id int64, value string) *pending[*v3electionpb.CampaignResponse] {
	return begin(t, func(c context.Context) (*v3electionpb.CampaignResponse, error) {
		return s.elections.Campaign(c, &v3electionpb.CampaignRequest{Name: []byte(name), Lease: id, Value: []byte(value)})
	})
}

func (s *server) proclaim(t testing.TB, leader *v3electionpb.LeaderKey, value string) error {
	t.Helper()
	_, err := s.elections.Proclaim(ctx(t), &v3electionpb.ProclaimRequest{Leader: leader, Value: []byte(value)})
	return err
}

func (s *server) resign(t testing.TB, leader *v3electionpb.LeaderKey) {
	t.Helper()
	if _, err := s.elections.Resign(ctx(t), &v3electionpb.ResignRequest{Leader: leader}); err != nil {
		t.Fatal(err)
	}
}

func TestElection(t *testing.T) {
	s := serve(t, nil)
	s.granted(t, 0xa1)
	s.granted(t, 0xa2)
	s.put(t, "tests", "a key whose name begins like the election's") // 2

	_, err := s.elections.Leader(ctx(t), &v3electionpb.LeaderRequest{Name: []byte("test")})
	wantError(t, "nobody", err, unknown("election: no leader"))

	won := s.campaign(t, "test", 0xa1, "one").get(t)
	wantHeader(t, "campaign", won.Header, 3)
	if l := won.Leader; string(l.Name) != "test" || string(l.Key) != "test/a1" || l.Rev != 3 || l.Lease != 0xa1 {
		t.Errorf("leader key %v", l)
	}
	waiting := s.campaign(t, "test", 0xa2, "two") // 4
	s.awaitKeys(t, "test/", 2, 2)
	leader, err := s.elections.Leader(ctx(t), &v3electionpb.LeaderRequest{Name: []byte("test")})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, "leader", leader.Header, 4)
	if string(leader.Kv.Key) != "test/a1" || string(leader.Kv.Value) != "one" || leader.Kv.Lease != 0xa1 {
		t.Errorf("leader %v", leader.Kv)
	}

	proclaimed, err := s.elections.Proclaim(ctx(t), &v3electionpb.ProclaimRequest{Leader: won.Leader, Value: []byte("uno")})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, "proclaim", proclaimed.Header, 5)
	// To campaign again changes the value, if it is another one.
	again := s.campaign(t, "test", 0xa1, "uno").get(t)
	wantHeader(t, "campaign again", again.Header, 5)
	s.campaign(t, "test", 0xa1, "ein").get(t) // 6
	if kv := s.get(t, &pb.RangeRequest{Key: won.Leader.Key}).Kvs[0]; string(kv.Value) != "ein" || kv.CreateRevision != 3 || kv.Lease != 0xa1 {
		t.Errorf("after another campaign: %v", kv)
	}

	s.resign(t, won.Leader) // 7
	second := waiting.get(t)
	wantHeader(t, "second campaign", second.Header, 7)
	if second.Leader.Rev != 4 || string(second.Leader.Key) != "test/a2" {
		t.Errorf("second leader %v", second.Leader)
	}
	wantError(t, "proclaim of a former leader", s.proclaim(t, won.Leader, "x"), unknown("election: not leader"))
	s.resign(t, won.Leader) // means nobody any more
	if got := s.keys(t, "test/"); len(got) != 1 {
		t.Errorf("keys %q", got)
	}
	s.revoke(t, 0xa2)
	_, err = s.elections.Leader(ctx(t), &v3electionpb.LeaderRequest{Name: []byte("test")})
	wantError(t, "nobody again", err, unknown("election: no leader"))
}

func TestElectionErrors(t *testing.T) {
	s := serve(t, nil)
	wantError(t, "proclaim without a leader", s.proclaim(t, nil, "x"), unknown(`"leader" field must be provided`))
	_, err := s.elections.Resign(ctx(t), &v3electionpb.ResignRequest{})
	wantError(t, "resign without a leader", err, unknown(`"leader" field must be provided`))
	wantError(t, "empty leader", s.proclaim(t, &v3electionpb.LeaderKey{}, "x"), unknown("etcdserver: key is not provided"))
	missing := s.campaign(t, "e", 99, "x")
	<-missing.done
	wantError(t, "no such lease", missing.err, unknown("etcdserver: requested lease not found"))
	s.granted(t, 1)
	s.granted(t, 2)
	s.campaign(t, "e", 1, "x").get(t)
	waiting := s.campaign(t, "e", 2, "y")
	s.awaitKeys(t, "e/", 2, 2)
	s.revoke(t, 2)
	<-waiting.done
	wantError(t, "lease revoked", waiting.err, unknown("election: not leader"))
}

// observed are the values that an observer is told.
type observed struct {
	grpc.ServerStreamingClient[v3electionpb.LeaderResponse]
	t testing.TB
}

func (s *server) observe(t testing.TB, name string) observed {
	t.Helper()
	stream, err := s.elections.Observe(ctx(t), &v3electionpb.LeaderRequest{Name: []byte(name)})
	if err != nil {
		t.Fatal(err)
	}
	return observed{stream, t}
}

func (o observed) want(values ...string) {
	o.t.Helper()
	for _, want := range values {
		r, err := o.Recv()
		if err != nil {
			o.t.Fatalf("waiting for %q: %v", want, err)
		}
		if string(r.Kv.Value) != want || r.Header.Revision < r.Kv.ModRevision {
			o.t.Fatalf("got %v, want %q", r, want)
		}
	}
}

func TestObserve(t *testing.T) {
	s := serve(t, nil)
	for id := int64(1); id <= 3; id++ {
		s.granted(t, id)
	}
	early := s.observe(t, "e")
	s.awaitKeys(t, "e/", 0, 1) // it waits
	first := s.campaign(t, "e", 1, "a1").get(t).Leader
	early.want("a1")
	late := s.observe(t, "e")
	late.want("a1")
	second := s.campaign(t, "e", 2, "b1")
	s.awaitKeys(t, "e/", 2, 4)
	for i := range 20 {
		if err := s.proclaim(t, first, fmt.Sprint("a", i+2)); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []observed{early, late} {
		for i := range 20 {
			o.want(fmt.Sprint("a", i+2))
		}
	}
	s.resign(t, first)
	for _, o := range []observed{early, late} {
		o.want("b1") // older than what the one before has proclaimed last
	}
	second.get(t) // before its lease goes: it may not have looked yet
	s.revoke(t, 2)
	s.campaign(t, "e", 3, "c1").get(t)
	for _, o := range []observed{early, late} {
		o.want("c1")
	}
	s.services.Shutdown()
	if _, err := early.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// Observers go on when the history that they would need is gone.
func TestObserveOverACompaction(t *testing.T) {
	s := serve(t, nil)
	s.granted(t, 1)
	leader := s.campaign(t, "e", 1, "1").get(t).Leader
	for _, value := range []string{"2", "3"} {
		if err := s.proclaim(t, leader, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.kv.Compact(ctx(t), &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	o := s.observe(t, "e")
	o.want("3")
	if err := s.proclaim(t, leader, "4"); err != nil {
		t.Fatal(err)
	}
	o.want("4")
}

// Many candidates lead one after the other, in the order in which they came.
func TestElectionOrder(t *testing.T) {
	s := serve(t, nil)
	const n = 12
	var calls []*pending[*v3electionpb.CampaignResponse]
	for id := int64(1); id <= n; id++ {
		s.granted(t, id)
		calls = append(calls, s.campaign(t, "e", id, fmt.Sprint(id)))
		s.awaitKeys(t, "e/", int(id), 2*(int(id)-1))
	}
	// Some go before it is their turn.
	for _, gone := range []int{3, 4, 8} {
		calls[gone].cancel()
		<-calls[gone].done
	}
	s.awaitKeys(t, "e/", n-3, 2*(n-4))
	var order []int64
	for i, c := range calls {
		if slices.Contains([]int{3, 4, 8}, i) {
			continue
		}
		leader := c.get(t).Leader
		order = append(order, leader.Lease)
		s.resign(t, leader)
	}
	if !slices.IsSorted(order) || len(order) != n-3 {
		t.Errorf("order %v", order)
	}
}
