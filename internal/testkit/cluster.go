package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Cluster is members as processes.
type Cluster struct {
	t       testing.TB
	Members []*Process
	args    []string
	named   int            // members that have got a name
	placed  func(*Process) // says where a member that is added lives; nil: on this machine
}

// FastArgs make members notice a lost leader in a fifth of the usual time.
var FastArgs = []string{"--heartbeat-interval=20", "--election-timeout=200"}

// SteadyArgs are for what must go on under one leader: a disk or a processor that is away for a second ends no term.
var SteadyArgs = []string{"--heartbeat-interval=200", "--election-timeout=2000"}

// NewCluster prepares a cluster of members m1, m2, ...; Start starts them.
func NewCluster(t testing.TB, members int, extraArgs ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, args: extraArgs}
	for i := range members {
		p := NewProcess(t, extraArgs...)
		p.Name = fmt.Sprintf("m%d", i+1)
		c.named++
		c.Members = append(c.Members, p)
	}
	for _, p := range c.Members {
		p.Initial = c.Initial()
	}
	return c
}

// Initial is what --initial-cluster says of the members.
func (c *Cluster) Initial() string {
	var pairs []string
	for _, p := range c.Members {
		pairs = append(pairs, p.Name+"="+p.peerURL())
	}
	return strings.Join(pairs, ",")
}

// Start starts all members and waits until they serve.
func (c *Cluster) Start() {
	c.t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(c.Members))
	for i, p := range c.Members {
		all.Go(func() { errs[i] = p.TryStart() })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			c.t.Fatalf("%s: %v", c.Members[i].Name, err)
		}
	}
}

// Endpoints are where the members serve clients.
func (c *Cluster) Endpoints() (list []string) {
	for _, p := range c.Members {
		list = append(list, p.Endpoint)
	}
	return list
}

// Client connects to all members.
func (c *Cluster) Client() *clientv3.Client { return c.connect(c.Endpoints()...) }

// AnyClient connects to one member, drawn by chance.
func (c *Cluster) AnyClient(rng *rand.Rand) *clientv3.Client {
	return c.connect(c.Members[rng.IntN(len(c.Members))].Endpoint)
}

func (c *Cluster) connect(endpoints ...string) *clientv3.Client {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: readyTimeout, Logger: zap.NewNop(), TLS: c.Members[0].TLS,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// Leader waits until all members that are up agree on a leader among them, and returns it.
func (c *Cluster) Leader(up ...*Process) *Process {
	c.t.Helper()
	if len(up) == 0 {
		up = c.Members
	}
	deadline := time.Now().Add(readyTimeout)
	for time.Now().Before(deadline) {
		if l := c.leader(up); l != nil {
			return l
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("no leader within %v", readyTimeout)
	return nil
}

func (c *Cluster) leader(up []*Process) *Process {
	var leader *Process
	seen := uint64(0)
	for _, p := range up {
		s, err := p.Status()
		if err != nil || s.Leader == 0 || seen != 0 && s.Leader != seen {
			return nil
		}
		seen = s.Leader
		if s.Header.MemberId == s.Leader {
			leader = p
		}
	}
	return leader
}

// Others are the members without one.
func (c *Cluster) Others(p *Process) (list []*Process) {
	for _, m := range c.Members {
		if m != p {
			list = append(list, m)
		}
	}
	return list
}

// Status asks the member itself.
func (p *Process) Status() (*clientv3.StatusResponse, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Endpoint}, Logger: zap.NewNop(), TLS: p.TLS})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return client.Status(ctx, p.Endpoint)
}

// AwaitStatus asks the member itself until it answers.
func (p *Process) AwaitStatus() *clientv3.StatusResponse {
	p.t.Helper()
	deadline := time.Now().Add(readyTimeout)
	for {
		s, err := p.Status()
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("status of %s: %v", p.Name, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Agree waits until all members hold the same pairs, as their hashes tell.
func (c *Cluster) Agree() {
	c.t.Helper()
	client := c.Client()
	deadline := time.Now().Add(readyTimeout)
	var last string
	for time.Now().Before(deadline) {
		var ok bool
		if last, ok = c.agree(client); ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("members do not come to agree: %s", last)
}

func (c *Cluster) agree(client *clientv3.Client) (what string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var revision int64
	for i, p := range c.Members {
		r, err := client.HashKV(ctx, p.Endpoint, 0)
		if err != nil {
			return fmt.Sprintf("%s: %v", p.Name, err), false
		}
		if i == 0 {
			revision = r.Header.Revision
		}
		revision = min(revision, r.Header.Revision)
	}
	var first uint32
	for i, p := range c.Members {
		r, err := client.HashKV(ctx, p.Endpoint, revision)
		if err != nil {
			return fmt.Sprintf("%s: %v", p.Name, err), false
		}
		if i == 0 {
			first = r.Hash
		}
		if r.Hash != first {
			return fmt.Sprintf("at revision %d %s has hash %d, %s %d", revision, c.Members[0].Name, first, p.Name, r.Hash), false
		}
		what += fmt.Sprintf("%s at %d; ", p.Name, r.Header.Revision)
	}
	return what, true
}

// Add has a member added to the running cluster, and prepares it; it is not started.
func (c *Cluster) Add(learner bool) (*Process, uint64) {
	c.t.Helper()
	p := NewProcess(c.t, c.args...)
	c.named++
	p.Name, p.Joins, p.TLS = fmt.Sprintf("m%d", c.named), true, c.Members[0].TLS
	if strings.HasPrefix(c.Members[0].PeerURL, "https:") {
		p.PeerURL = "https://" + p.Peer
	}
	if c.placed != nil {
		c.placed(p)
	}
	client := c.Client()
	var failed error // the first
	// Connections have to stand for five seconds.
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(200 * time.Millisecond) {
		id, err := add(client, p.peerURL(), learner)
		if err != nil && failed != nil { // the first may have come to be although nobody was told
			if found, ok := listed(client, p.peerURL()); ok {
				id, err = found, nil
			}
		}
		if err == nil {
			c.Members = append(c.Members, p)
			p.Initial = c.Initial()
			return p, id
		}
		if failed == nil {
			failed = err
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("add %s: first %v, then %v", p.Name, failed, err)
		}
	}
}

func add(client *clientv3.Client, peerURL string, learner bool) (id uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	add := client.MemberAdd
	if learner {
		add = client.MemberAddAsLearner
	}
	r, err := add(ctx, []string{peerURL})
	if err != nil {
		return 0, err
	}
	return r.Member.ID, nil
}

// listed looks for a member by its peer URL.
func listed(client *clientv3.Client, peerURL string) (id uint64, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := client.MemberList(ctx)
	if err != nil {
		return 0, false
	}
	for _, m := range r.Members {
		if slices.Contains(m.PeerURLs, peerURL) {
			return m.ID, true
		}
	}
	return 0, false
}
