package differential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// trio is a cluster of three, of one kind, and what was added to it. What is asked of it names members by their place,
// since ids differ.
type trio struct {
	dir     string
	servers []*process.Server
	conns   []*grpc.ClientConn
	gone    map[int]bool // places of servers that do not run
	// ids are those of the first members, then of all that were added, in order.
	ids []uint64
	// addresses are what the answers call the addresses that each cluster has to itself.
	addresses []string
}

func newTrio(t *testing.T, kind process.Kind, binary string) *trio {
	dir := t.TempDir()
	servers, err := process.NewCluster(kind, binary, dir, 3, "--heartbeat-interval", "50", "--election-timeout", "500")
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{dir: dir, servers: servers, gone: map[int]bool{}}
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
	for i, s := range servers {
		c.dial(t, s)
		st, err := c.status(i)
		if err != nil {
			t.Fatal(err)
		}
		c.ids = append(c.ids, st.Header.MemberId)
	}
	return c
}

func (c *trio) dial(t *testing.T, s *process.Server) {
	conn, err := grpc.NewClient("passthrough:///"+s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	place := len(c.conns)
	c.conns = append(c.conns, conn)
	c.addresses = append(c.addresses, "http://"+s.Addr(), fmt.Sprint("CLIENT", place), s.PeerURL(), fmt.Sprint("PEER", place))
}

// describe makes a fourth server without starting it.
func (c *trio) describe(t *testing.T) *process.Server {
	s, err := process.NewMember(c.servers, c.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() })
	c.gone[len(c.servers)] = true
	c.servers = append(c.servers, s)
	c.dial(t, s)
	return s
}

// kill ends a server for good.
func (c *trio) kill(place int) error {
	c.gone[place] = true
	return c.servers[place].Kill()
}

func (c *trio) status(place int) (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return pb.NewMaintenanceClient(c.conns[place]).Status(ctx, &pb.StatusRequest{})
}

// leader is the place among ids of the member that all running ones agree to be led by.
func (c *trio) leader() (int, error) {
	for range 1000 {
		leaders := map[uint64]bool{}
		for i := range c.conns {
			if c.gone[i] {
				continue
			}
			s, err := c.status(i)
			if err != nil {
				return 0, fmt.Errorf("status of %d: %w", i, err)
			}
			leaders[s.Leader] = true
		}
		for i, id := range c.ids {
			if len(leaders) == 1 && leaders[id] && !c.gone[i] {
				return i, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, errors.New("nobody leads")
}

// id is a member's by its place: -1 is nobody's.
func (c *trio) id(place int) uint64 {
	if place < 0 {
		return 12345
	}
	return c.ids[place]
}

// question is one call of the cluster API. through counts the first three from the leader: 0 is the leader, 1 and 2 are the
// others.
type question struct {
	what    string
	through int
	place   int
	urls    []string
}

func (q question) String() string {
	return fmt.Sprintf("%s through %d, member %d, urls %q", q.what, q.through, q.place, q.urls)
}

// ask returns the answer in a form that does not depend on ids and addresses.
//
// Errors: nobody could be asked.
func (c *trio) ask(q question) (string, error) {
	leader, err := c.leader()
	if err != nil {
		return "", err
	}
	if leader > 2 {
		return "", fmt.Errorf("%d leads, and only the first three are asked", leader)
	}
	// A member decides some things by what it has applied: it should have applied all that was asked before.
	through := (leader + q.through) % 3
	if caughtUp := c.askOf(through, question{what: "list"}); !strings.HasPrefix(caughtUp, "ok") {
		return "", fmt.Errorf("%d is not caught up: %s", through, caughtUp)
	}
	return c.askOf(through, q), nil
}

// askOf asks the member of a place.
func (c *trio) askOf(through int, q question) string {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	conn := c.conns[through]
	cluster := pb.NewClusterClient(conn)
	urls := slices.Clone(q.urls)
	for i, u := range urls {
		urls[i] = c.local(u)
	}
	switch q.what {
	case "add", "add learner":
		r, err := cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: q.what == "add learner"})
		if err == nil {
			c.ids = append(c.ids, r.GetMember().GetID())
		}
		return c.answer(r.GetMembers(), err) + " " + c.member(r.GetMember())
	case "remove":
		r, err := cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: c.id(q.place)})
		return c.answer(r.GetMembers(), err)
	case "update":
		r, err := cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: c.id(q.place), PeerURLs: urls})
		return c.answer(r.GetMembers(), err)
	case "promote":
		r, err := cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: c.id(q.place)})
		return c.answer(r.GetMembers(), err)
	case "list", "list here":
		r, err := cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: q.what == "list"})
		return c.answer(r.GetMembers(), err)
	case "move":
		_, err := pb.NewMaintenanceClient(conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: c.id(q.place)})
		return c.answer(nil, err)
	}
	panic(q.what)
}

// local turns PEER and CLIENT with a place into this cluster's address.
func (c *trio) local(u string) string {
	for i := 0; i < len(c.addresses); i += 2 {
		u = strings.ReplaceAll(u, c.addresses[i+1], c.addresses[i])
	}
	return u
}

func (c *trio) answer(list []*pb.Member, err error) string {
	if err != nil {
		s, _ := status.FromError(err)
		return fmt.Sprintf("%v: %s", s.Code(), s.Message())
	}
	var lines []string
	for _, m := range list {
		lines = append(lines, c.member(m))
	}
	order := "by id"
	if !slices.IsSortedFunc(list, func(a, b *pb.Member) int { return cmp.Compare(a.ID, b.ID) }) {
		order = "not by id"
	}
	slices.Sort(lines)
	return fmt.Sprintf("ok, %s: %s", order, strings.Join(lines, "; "))
}

func (c *trio) member(m *pb.Member) string {
	if m == nil {
		return "nobody"
	}
	// The order in which an update gave addresses is not kept: docs/differences.md, update-order.
	peers := slices.Sorted(slices.Values(m.PeerURLs))
	text := fmt.Sprintf("%d %q %v %v learner=%t", slices.Index(c.ids, m.ID), m.Name, peers, m.ClientURLs, m.IsLearner)
	for i := 0; i < len(c.addresses); i += 2 {
		text = strings.ReplaceAll(text, c.addresses[i], c.addresses[i+1])
	}
	return text
}

// describeStatus is what Status tells, without what differs between any two clusters.
func (c *trio) describeStatus(place int) (string, error) {
	s, err := c.status(place)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("member %d, leader %d, revision %d, version %s, storage %s, quota %d, learner=%t, errors %q, downgrade %v, "+
		"term=%t and that of the header=%t, index=%t, applied=%t, size=%t, in use=%t",
		slices.Index(c.ids, s.Header.MemberId), slices.Index(c.ids, s.Leader), s.Header.Revision, s.Version, s.StorageVersion,
		s.DbSizeQuota, s.IsLearner, s.Errors, s.DowngradeInfo,
		s.RaftTerm > 0, s.Header.RaftTerm == s.RaftTerm, s.RaftIndex > 0, s.RaftAppliedIndex > 0, s.DbSize > 0, s.DbSizeInUse > 0), nil
}
