package v3

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/command"
	"keelson/env"
	"keelson/node"
	"keelson/state/members"
)

// stoppedClock is a clock whose hands stand still.
type stoppedClock struct {
	env.Clock
	now time.Time
}

func (c *stoppedClock) Now() time.Time { return c.now }

// cluster serves a member with room for so many learners, and returns its clock.
func cluster(t *testing.T, learnersMax int) (*server, *stoppedClock) {
	clock := &stoppedClock{env.SystemClock(), time.Unix(1_700_000_000, 0)}
	return serve(t, func(o *Options) { o.Clock, o.MaxLearners = clock, learnersMax }), clock
}

func one() *pb.Member { return &pb.Member{ID: memberID, PeerURLs: []string{"http://p:2380"}} }

// TestMemberAdd: section 5.2, trap 95. The id follows from the sorted URLs and the time; the reply lists everybody by id.
func TestMemberAdd(t *testing.T) {
	s, clock := cluster(t, 0)
	s.put(t, "a", "1")
	for _, learner := range []bool{false, true} {
		clock.now = clock.now.Add(time.Hour)
		host := map[bool]string{false: "v", true: "l"}[learner]
		urls := []string{"http://" + host + "1:2380", "https://" + host + "2:2380"}
		r, err := s.cluster.MemberAdd(ctx(t), &pb.MemberAddRequest{
			PeerURLs: []string{" " + urls[1] + "\t", urls[0]}, IsLearner: learner,
		})
		if err != nil {
			t.Fatal(err)
		}
		added := &pb.Member{ID: members.ID(urls, "", clock.now.Unix()), PeerURLs: urls, IsLearner: learner}
		listed, err := s.cluster.MemberList(ctx(t), &pb.MemberListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, "added", r, &pb.MemberAddResponse{Header: fullHeader(0), Member: added, Members: listed.Members})
		if !slices.IsSortedFunc(r.Members, func(a, b *pb.Member) int {
			if a.ID < b.ID {
				return -1
			}
			return 1
		}) || !slices.ContainsFunc(r.Members, func(m *pb.Member) bool { return m.ID == added.ID }) {
			t.Errorf("members %v", r.Members)
		}
	}
}

// TestMemberAddRefusals: section 5.2 and traps 95 and 98.
func TestMemberAddRefusals(t *testing.T) {
	s, clock := cluster(t, 2)
	add := func(learner bool, urls ...string) error {
		return s.call(t, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: learner})
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"a voter's URL", add(false, "http://p:2380"), rpctypes.ErrGRPCPeerURLExist},
		{"a voter's URL for a learner", add(true, "http://q:2380", "http://p:2380"), rpctypes.ErrGRPCPeerURLExist},
		{"the first learner", add(true, "http://l1:2380"), nil},
		{"the same at the same second", add(true, "http://l1:2380"), rpctypes.ErrGRPCMemberExist},
		{"the second learner", add(true, "http://l2:2380"), nil},
		{"one learner too many", add(true, "http://l3:2380"), rpctypes.ErrGRPCTooManyLearners},
		{"a voter is not limited", add(false, "http://v:2380"), nil},
	} {
		if c.want != nil || c.err != nil {
			wantError(t, c.name, c.err, c.want)
		}
	}
	clock.now = clock.now.Add(time.Second)
	wantError(t, "a learner's URL, later", add(true, "http://l1:2380"), rpctypes.ErrGRPCPeerURLExist)
	removed := members.ID([]string{"http://l2:2380"}, "", clock.now.Unix()-1)
	if err := s.call(t, &pb.MemberRemoveRequest{ID: removed}); err != nil {
		t.Fatal(err)
	}
	clock.now = clock.now.Add(-time.Second)
	wantError(t, "an id that was removed", add(true, "http://l2:2380"), rpctypes.ErrGRPCMemberNotFound)
}

// TestMaxLearnersDefault: section 5.2, one learner.
func TestMaxLearnersDefault(t *testing.T) {
	s, _ := cluster(t, 0)
	if err := s.call(t, &pb.MemberAddRequest{PeerURLs: []string{"http://l1:2380"}, IsLearner: true}); err != nil {
		t.Fatal(err)
	}
	err := s.call(t, &pb.MemberAddRequest{PeerURLs: []string{"http://l2:2380"}, IsLearner: true})
	wantError(t, "the second", err, rpctypes.ErrGRPCTooManyLearners)
}

// TestPeerURLs: section 5.2 and trap 95. Addresses are looked at before anything else, so a bad one wins over what the
// node would say.
func TestPeerURLs(t *testing.T) {
	s, _ := cluster(t, 0)
	s.changeErr.Store(&node.ErrUnhealthy)
	for _, bad := range [][]string{
		nil, {""}, {"://127.0.0.1:2379"}, {"mailto://127.0.0.1:2379"}, {"http://127.0.0.1"}, {"http://127.0.0.1:2380/"},
		{"http://127.0.0.1:2380/path"}, {"127.0.0.1:1234"}, {"localhost:1234"}, {"http://a:1", "ftp://b:2"}, {"http://\x7f:1"},
	} {
		err := s.call(t, &pb.MemberAddRequest{PeerURLs: bad})
		wantError(t, strings.Join(bad, " "), err, rpctypes.ErrGRPCMemberBadURLs)
	}
	for _, good := range [][]string{
		{"http://127.0.0.1:2380"}, {"https://[::1]:2380"}, {"unix://localhost:7", "unixs:///run/k"}, {"  http://b:1\n", "http://a:1"},
	} {
		err := s.call(t, &pb.MemberAddRequest{PeerURLs: good})
		wantError(t, strings.Join(good, " "), err, rpctypes.ErrGRPCUnhealthy)
	}
	urls, err := parsePeerURLs([]string{" http://b:1", "HTTP://a:1 "})
	if err != nil || !slices.Equal(urls, []string{"http://a:1", "http://b:1"}) {
		t.Errorf("%q, %v", urls, err)
	}
}

// TestMemberUpdate: section 5.4, traps 95 and 96, known bug M3: nothing but the URLs changes.
func TestMemberUpdate(t *testing.T) {
	s, clock := cluster(t, 0)
	if err := s.call(t, &pb.MemberAddRequest{PeerURLs: []string{"http://l:1"}, IsLearner: true}); err != nil {
		t.Fatal(err)
	}
	id := members.ID([]string{"http://l:1"}, "", clock.now.Unix())
	s.propose(t, &command.MemberPublish{ID: id, Name: "learner", ClientURLs: []string{"http://l:2379"}})
	wantError(t, "nobody", s.call(t, &pb.MemberUpdateRequest{PeerURLs: []string{"not a URL"}}), rpctypes.ErrGRPCMemberNotFound)
	wantError(t, "another's URL", s.call(t, &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{"http://p:2380"}}), rpctypes.ErrGRPCPeerURLExist)
	r, err := s.cluster.MemberUpdate(ctx(t), &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{"http://m:1", "http://l:1"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []*pb.Member{one(), {
		ID: id, Name: "learner", PeerURLs: []string{"http://l:1", "http://m:1"}, ClientURLs: []string{"http://l:2379"}, IsLearner: true,
	}}
	wantMessage(t, "updated", r, &pb.MemberUpdateResponse{Header: fullHeader(0), Members: want})
}

// TestMemberPromoteAndRemove: section 5.4, trap 97.
func TestMemberPromoteAndRemove(t *testing.T) {
	s, clock := cluster(t, 0)
	if err := s.call(t, &pb.MemberAddRequest{PeerURLs: []string{"http://l:1"}, IsLearner: true}); err != nil {
		t.Fatal(err)
	}
	id := members.ID([]string{"http://l:1"}, "", clock.now.Unix())
	promote, remove := &pb.MemberPromoteRequest{ID: id}, &pb.MemberRemoveRequest{ID: id}
	s.changeErr.Store(&node.ErrLearnerNotReady)
	wantError(t, "too early", s.call(t, promote), rpctypes.ErrGRPCLearnerNotReady)
	s.changeErr.Store(nil)
	promoted, err := s.cluster.MemberPromote(ctx(t), promote)
	if err != nil {
		t.Fatal(err)
	}
	both := []*pb.Member{one(), {ID: id, PeerURLs: []string{"http://l:1"}}}
	wantMessage(t, "promoted", promoted, &pb.MemberPromoteResponse{Header: fullHeader(0), Members: both})
	wantError(t, "again", s.call(t, promote), rpctypes.ErrGRPCMemberNotLearner)
	wantError(t, "nobody", s.call(t, &pb.MemberPromoteRequest{ID: 1}), rpctypes.ErrGRPCMemberNotFound)

	removed, err := s.cluster.MemberRemove(ctx(t), remove)
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, "removed", removed, &pb.MemberRemoveResponse{Header: fullHeader(0), Members: []*pb.Member{one()}})
	wantError(t, "again", s.call(t, remove), rpctypes.ErrGRPCMemberNotFound)
	wantError(t, "the last one", s.call(t, &pb.MemberRemoveRequest{ID: memberID}), errNotEnoughStarted)
}

// TestMemberChangeErrors: every change goes out with what the node refused it with, and one that is too large is not
// even tried.
func TestMemberChangeErrors(t *testing.T) {
	s, _ := cluster(t, 0)
	add := &pb.MemberAddRequest{PeerURLs: []string{"http://v:1"}}
	changes := []any{
		add, &pb.MemberRemoveRequest{ID: 1}, &pb.MemberUpdateRequest{ID: 1}, &pb.MemberPromoteRequest{ID: 1},
	}
	for _, err := range []error{node.ErrNotEnoughStarted, node.ErrUnhealthy, node.ErrTimeout, node.ErrStopped, errors.New("odd")} {
		s.changeErr.Store(&err)
		for _, r := range changes {
			wantError(t, err.Error(), s.call(t, r), wireError(err))
		}
	}
	s.changeErr.Store(nil)
	long := "unix:" + strings.Repeat("u", 3<<19)
	wantError(t, "too large", s.call(t, &pb.MemberAddRequest{PeerURLs: []string{long}}), rpctypes.ErrGRPCRequestTooLarge)
	wantError(t, "too large", s.call(t, &pb.MemberUpdateRequest{ID: memberID, PeerURLs: []string{long}}), rpctypes.ErrGRPCRequestTooLarge)
	if r, err := s.cluster.MemberList(ctx(t), &pb.MemberListRequest{}); err != nil || len(r.Members) != 1 {
		t.Errorf("members %v, %v", r.GetMembers(), err)
	}
}

// TestMemberListWithoutQuorum: section 5.4, trap 103.
func TestMemberListWithoutQuorum(t *testing.T) {
	s, _ := cluster(t, 0)
	s.readErr.Store(&node.ErrTimeout)
	wantError(t, "linearizable", s.call(t, &pb.MemberListRequest{Linearizable: true}), rpctypes.ErrGRPCTimeout)
	if err := s.call(t, &pb.MemberListRequest{}); err != nil {
		t.Errorf("local: %v", err)
	}
}

// slowTransfer never sees the new leader.
type slowTransfer struct{ *soloMember }

func (slowTransfer) MoveLeader(ctx context.Context, _ uint64) error {
	<-ctx.Done()
	return node.ErrTransferTimeout
}

// TestMoveLeader: section 6.6, trap 104.
func TestMoveLeader(t *testing.T) {
	s := serve(t, nil)
	wantError(t, "unknown", s.call(t, &pb.MoveLeaderRequest{TargetID: 5}), rpctypes.ErrGRPCBadLeaderTransferee)
	r, err := s.upkeep.MoveLeader(ctx(t), &pb.MoveLeaderRequest{TargetID: otherVoter})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, "no header", r, &pb.MoveLeaderResponse{})
	wantError(t, "not leading", s.call(t, &pb.MoveLeaderRequest{TargetID: 5}), rpctypes.ErrGRPCNotLeader)

	var slow slowTransfer
	slow.soloMember = s.soloMember
	m := &maintenance{s: New(Options{Member: slow, Cluster: slow, Clock: env.SystemClock()})}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.MoveLeader(short, &pb.MoveLeaderRequest{TargetID: otherVoter})
	if st := status.Convert(err); st.Code() != codes.Unknown || st.Message() != "etcdserver: request timed out, leader transfer took too long" {
		t.Errorf("too slow: %v", err)
	}
}
