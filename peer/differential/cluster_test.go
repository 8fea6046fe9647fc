package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"keelson/peer/process"
)

// trio is a cluster of three, of one kind. What is asked of it names members by their place, since ids differ.
type trio struct {
	t       *testing.T
	servers []*process.Server
	conns   []*grpc.ClientConn
	// ids are those of the first members, then of all that were added, in order; 0: the addition was refused.
	ids []uint64
}

func newTrio(t *testing.T, kind process.Kind, binary string) *trio {
	servers, err := process.NewCluster(kind, binary, filepath.Join(t.TempDir()), 3, "--heartbeat-interval", "50", "--election-timeout", "500")
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t, servers: servers}
	var all sync.WaitGroup
	for _, s := range servers {
		t.Cleanup(func() { _ = s.Kill() })
		all.Go(func() {
			if _, err := s.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, s := range servers {
		conn, err := grpc.NewClient("passthrough:///"+s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		c.conns = append(c.conns, conn)
		c.ids = append(c.ids, c.status(len(c.conns)-1).Header.MemberId)
	}
	return c
}

func (c *trio) status(i int) *pb.StatusResponse {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := pb.NewMaintenanceClient(c.conns[i]).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// leader is the place of the member that leads.
func (c *trio) leader() int {
	c.t.Helper()
	for range 1000 {
		for i := range c.conns {
			if s := c.status(i); s.Leader == s.Header.MemberId {
				return i
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("nobody leads")
	return 0
}

// id is a member's by its place: -1 is nobody's, and a place beyond all is 0.
func (c *trio) id(place int) uint64 {
	switch {
	case place < 0:
		return 12345
	case place >= len(c.ids):
		return 0
	}
	return c.ids[place]
}

// question is one call of the cluster API. through counts from the leader: 0 is the leader, 1 and 2 are the others.
type question struct {
	what    string
	through int
	place   int
	urls    []string
}

func (q question) String() string {
	return fmt.Sprintf("%s through %d, member %d, urls %v", q.what, q.through, q.place, q.urls)
}

// ask returns the answer in a form that does not depend on ids.
func (c *trio) ask(q question) string {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	conn := c.conns[(c.leader()+q.through)%3]
	cluster := pb.NewClusterClient(conn)
	switch q.what {
	case "add", "add learner":
		r, err := cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: q.urls, IsLearner: q.what == "add learner"})
		c.ids = append(c.ids, r.GetMember().GetID())
		return c.answer(r.GetMembers(), err) + " " + member(r.GetMember())
	case "remove":
		r, err := cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: c.id(q.place)})
		return c.answer(r.GetMembers(), err)
	case "update":
		r, err := cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: c.id(q.place), PeerURLs: q.urls})
		return c.answer(r.GetMembers(), err)
	case "promote":
		r, err := cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: c.id(q.place)})
		return c.answer(r.GetMembers(), err)
	case "list":
		r, err := cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		return c.answer(r.GetMembers(), err)
	case "move":
		_, err := pb.NewMaintenanceClient(conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: c.id(q.place)})
		return c.answer(nil, err)
	}
	panic(q.what)
}

func (c *trio) answer(list []*pb.Member, err error) string {
	if err != nil {
		s, _ := status.FromError(err)
		return fmt.Sprintf("%v: %s", s.Code(), s.Message())
	}
	var lines []string
	for _, m := range list {
		if place := slices.Index(c.ids, m.ID); place >= 0 && place < 3 { // its addresses are each cluster's own
			lines = append(lines, fmt.Sprintf("first %d %s learner=%t urls=%d clients=%d", place, m.Name, m.IsLearner, len(m.PeerURLs), len(m.ClientURLs)))
		} else {
			lines = append(lines, member(m))
		}
	}
	slices.Sort(lines)
	return "ok: " + strings.Join(lines, "; ")
}

func member(m *pb.Member) string {
	if m == nil {
		return "nobody"
	}
	return fmt.Sprintf("%q %v %v learner=%t", m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
}

// TestClusterAgreement asks both clusters the same things about their members, and demands the same answers: first a list
// of what is known to matter, then random ones. Members that are added are never started; they are removed again before
// there could be too many.
func TestClusterAgreement(t *testing.T) {
	kind, binary := process.Keelson, *keelsonPath
	if *against == "etcd" {
		kind, binary = process.Etcd, etcdBinary
	}
	reference, candidate := newTrio(t, process.Etcd, etcdBinary), newTrio(t, kind, binary)
	time.Sleep(6 * time.Second) // connections count as healthy after five
	asked := 0
	ask := func(q question) {
		t.Helper()
		asked++
		want, got := reference.ask(q), candidate.ask(q)
		if got != want {
			t.Errorf("%v\netcd:    %s\nkeelson: %s", q, want, got)
		}
	}
	u := func(list ...string) []string { return list }
	for _, q := range []question{
		{"list", 1, 0, nil},
		{"add", 0, 0, nil},
		{"add", 0, 0, u("://127.0.0.1:2379")},
		{"add", 0, 0, u("mailto://a:1")},
		{"add", 1, 0, u("http://127.0.0.1")},
		{"add", 0, 0, u("http://127.0.0.1:1/")},
		{"add", 0, 0, u("127.0.0.1:1234")},
		{"add", 0, 0, u("localhost:1234")},
		{"update", 0, 99, u("://127.0.0.1:2379")},
		{"remove", 1, -1, nil},
		{"promote", 0, -1, nil},
		{"promote", 1, -1, nil},
		{"promote", 2, 0, nil},
		{"move", 1, 0, nil},
		{"move", 0, -1, nil},
		{"add learner", 1, 0, u("http://127.0.0.1:7", "http://127.0.0.1:6")},
		{"list", 2, 0, nil},
		{"add learner", 0, 0, u("http://127.0.0.1:8")},
		{"add learner", 0, 0, u("http://127.0.0.1:6")},
		{"add", 0, 0, u("http://127.0.0.1:6")},
	} {
		ask(q)
	}
	learner := len(reference.ids) - 5 // the one that was added
	for i, id := range reference.ids {
		if i > 2 && id != 0 {
			learner = i
		}
	}
	for _, q := range []question{
		{"promote", 0, learner, nil},
		{"promote", 1, learner, nil},
		{"move", 0, learner, nil},
		{"update", 1, learner, u("http://127.0.0.1:9")},
		{"update", 1, learner, u("http://127.0.0.1:9")},
		{"remove", 2, learner, nil},
		{"remove", 0, learner, nil},
		{"update", 0, learner, u("http://127.0.0.1:10")},
		{"promote", 0, learner, nil},
		{"add", 0, 0, u("http://127.0.0.1:11")},
		{"add", 1, 0, u("http://127.0.0.1:12")},
		{"add learner", 1, 0, u("http://127.0.0.1:12")},
		{"list", 0, 0, nil},
	} {
		ask(q)
	}
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	stays := slices.IndexFunc(reference.ids[3:], func(id uint64) bool { return id != 0 }) + 3
	for i, id := range reference.ids {
		if i > stays && id != 0 {
			stays = i // the newest
		}
	}
	for n := range 120 {
		var live []int
		for i, id := range reference.ids {
			if i > 2 && id != 0 && i != stays {
				live = append(live, i)
			}
		}
		// Addresses are new, or those of the one that stays: an id follows from addresses and the second, so whether the
		// addresses of one that was removed can be used again depends on when that is.
		q := question{through: rng.IntN(3), place: -1, urls: u(fmt.Sprintf("http://127.0.0.1:%d", 100+n))}
		if rng.IntN(4) == 0 {
			q.urls = u("http://127.0.0.1:12")
		}
		if len(live) > 0 && rng.IntN(8) > 0 {
			q.place = live[rng.IntN(len(live))]
		}
		// Never one of the first three: without them there is no cluster to ask.
		q.what = []string{"add learner", "add learner", "remove", "remove", "update", "promote", "list", "add"}[rng.IntN(8)]
		ask(q)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d questions", asked)
}
