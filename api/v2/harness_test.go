package v2

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/env"
	"keelson/http1"
	"keelson/node"
	"keelson/state"
	"keelson/state/members"
	"keelson/state/tree"
	"keelson/storage"
)

// fakeClock stands still until it is moved.
type fakeClock struct {
	env.Clock
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lone is a member whose log is a call of Apply.
type lone struct {
	t       testing.TB
	db      *storage.DB
	machine *state.Machine
	hub     *Hub
	clock   *fakeClock

	traffic []PeerTraffic

	mu     sync.Mutex
	fail   error // of proposals and of linearizable reads
	change error // what changes of members are refused with
}

// ChangeMembers takes note of nothing: changes of raft's configuration are not this package's.
func (l *lone) ChangeMembers(_ context.Context, op command.Op) (state.Result, error) {
	if _, ok := op.(*command.MemberUpdate); ok && l.change == nil {
		return l.Propose(context.Background(), op)
	}
	return state.Result{Refusal: l.change}, nil
}

var testIdentity = members.Identity{
	ClusterID: 0x7e27652122e8b2ae,
	Members:   []members.Member{{ID: 0xb, Name: "infra1", PeerURLs: []string{"http://127.0.0.1:2380"}, ClientURLs: []string{"http://127.0.0.1:2379"}}},
	ConfState: []byte{0x08, 0x0b},
}

func newLone(t testing.TB) *lone {
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", Manual: true, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Bootstrap(db, testIdentity); err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(db, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{t: t, db: db, machine: m, clock: &fakeClock{Clock: env.SystemClock(), now: epoch}}
	l.hub = NewHub(m)
	t.Cleanup(func() { db.Close() })
	return l
}

func (l *lone) Propose(_ context.Context, op command.Op) (state.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return state.Result{}, l.fail
	}
	at := l.machine.Applied()
	c := command.Command{Time: l.clock.Now().UnixNano(), Op: op}
	data := command.AppendTo(command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: at.Index}), c.Append(nil))
	out, err := l.machine.Apply([]state.Entry{{Index: at.Index + 1, Term: at.Term, Data: data}})
	if err != nil {
		return state.Result{}, err
	}
	l.hub.Publish(&out)
	return out.Batches[0].Results[0], nil
}

func (l *lone) Read(context.Context) (*state.View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return nil, l.fail
	}
	return l.machine.View(), nil
}

func (l *lone) ReadLocal() *state.View { return l.machine.View() }

func (l *lone) TreeState() tree.State { return l.machine.TreeState() }

func (l *lone) Status() node.Status {
	at := l.machine.Applied()
	return node.Status{MemberID: 0xb, Leader: 0xb, Leading: true, Term: at.Term, Applied: at.Index, Committed: at.Index}
}

// expire lets the leader look for what has run out.
func (l *lone) expire() {
	if _, err := l.Propose(context.Background(), &command.TreeExpire{Stamp: l.clock.Now().UnixNano(), Limit: 1000}); err != nil {
		l.t.Fatal(err)
	}
}

// service is a handler behind a real listener.
type service struct {
	*lone
	handler *Handler
	server  *httptest.Server
	client  *http.Client
	polls   map[string]*poll
}

func newService(t testing.TB, change ...func(*Options)) *service {
	s := &service{lone: newLone(t), polls: map[string]*poll{}}
	o := Options{
		Member: s.lone, Cluster: s.lone, Hub: s.hub, Clock: s.clock, ClusterID: testIdentity.ClusterID,
		Stats:  NewStats(s.clock.Now, func() []PeerTraffic { return s.traffic }),
		Access: NewAccess(s.lone, []byte("salt"), true),
	}
	o.Stats.NoteLeader(0xb)
	for _, f := range change {
		f(&o)
	}
	s.handler = NewHandler(o)
	s.server = httptest.NewUnstartedServer(s.handler)
	behind := s.standBefore()
	s.server.Start()
	s.client = s.server.Client()
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.client.Timeout = time.Minute
	t.Cleanup(func() {
		s.hub.Close()
		s.client.CloseIdleConnections()
		behind.Close()
		s.server.Close()
	})
	return s
}

// standBefore lets package http1 take the simple requests, as a member does.
func (s *service) standBefore() *http1.Server {
	l := s.server.Listener
	before := http1.New(http1.Options{Handler: s.handler, IdleBeat: 20 * time.Millisecond})
	s.server.Listener = named{before.Handed(), l.Addr()}
	go before.Serve(l)
	return before
}

// named is a listener with the address of another one.
type named struct {
	net.Listener
	addr net.Addr
}

func (n named) Addr() net.Addr { return n.addr }

// send sends one request: with a form as its body for PUT and POST.
func (s *service) send(method, path, body string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequest(method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPut || method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return s.do(r)
}

func (s *service) do(r *http.Request) *http.Response {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// ask sends a request and returns status, X-Etcd-Index and body in a line.
func (s *service) ask(method, path, body string) string {
	s.t.Helper()
	return show(s.t, s.send(method, path, body))
}

func show(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s %s\n", resp.StatusCode, showIndex(resp), strings.TrimSuffix(string(b), "\n"))
}

func showIndex(resp *http.Response) string {
	if index := resp.Header.Get("X-Etcd-Index"); index != "" {
		return index
	}
	return "-"
}

// poll is a long poll under way.
type poll struct {
	resp *http.Response
	body *bufio.Reader
}

func (s *service) startPoll(name, path string) *http.Response {
	s.t.Helper()
	resp := s.send("GET", path, "")
	s.polls[name] = &poll{resp: resp, body: bufio.NewReader(resp.Body)}
	return resp
}

// line is the next event of a poll; empty: its body has ended.
func (p *poll) line(t testing.TB) string {
	t.Helper()
	line, err := p.body.ReadString('\n')
	if err == io.EOF && line == "" {
		return ""
	}
	if err != nil {
		t.Fatalf("poll: %q, %v", line, err)
	}
	return line
}

func putOp(path string) command.Op { return &command.TreePut{Path: path, Value: []byte("value")} }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fuzzRequest makes a request as a server would have read it.
func fuzzRequest(method, target, body string) (*http.Request, bool) {
	u, err := url.ParseRequestURI(target)
	if err != nil || !strings.HasPrefix(u.Path, keysPrefix+"/") {
		return nil, false
	}
	r, err := http.NewRequest(method, "http://h"+target, strings.NewReader(body))
	if err != nil {
		return nil, false
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r, true
}
