package peer

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/env"
	"keelson/node"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
)

const clusterID = 0xc1c1

// fake is one member: a real machine, and whatever the test says of leadership, leases and changes of members.
type fake struct {
	machine *state.Machine
	status  atomic.Pointer[node.Status]
	leases  *fakeLeases
	server  *httptest.Server
	handler atomic.Pointer[http.Handler] // nil: 404
	logs    *observer.ObservedLogs

	client   *Client
	lessor   *Lessor
	promoter *Promoter

	mu      sync.Mutex
	index   uint64
	reads   int
	onRead  func(ctx context.Context) error
	change  func(ctx context.Context, op command.Op) (state.Result, error) // nil: apply it
	changes int
	stopped bool // the server
}

func (f *fake) Status() node.Status    { return *f.status.Load() }
func (f *fake) ReadLocal() *state.View { return f.machine.View() }

func (f *fake) Read(ctx context.Context) (*state.View, error) {
	f.mu.Lock()
	f.reads++
	hook := f.onRead
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	return f.machine.View(), nil
}

func (f *fake) ChangeMembers(ctx context.Context, op command.Op) (state.Result, error) {
	f.mu.Lock()
	f.changes++
	change := f.change
	f.mu.Unlock()
	if change != nil {
		return change(ctx, op)
	}
	if !f.Status().Leading {
		return state.Result{}, node.ErrNotLeader
	}
	return f.promoteInState(op.(*command.MemberPromote).ID)
}

// promoteInState promotes a learner in this member's state.
func (f *fake) promoteInState(id uint64) (state.Result, error) {
	v := f.machine.View()
	voters, learners := v.Members().Voters(), v.Members().Learners()
	v.Close()
	conf := &raftpb.ConfState{Voters: voters, Learners: slices.DeleteFunc(slices.Clone(learners), func(x uint64) bool { return x == id })}
	if slices.Contains(learners, id) {
		conf.Voters = append(conf.Voters, id)
	}
	encoded, err := proto.Marshal(conf)
	if err != nil {
		return state.Result{}, err
	}
	return f.apply(&command.MemberPromote{ID: id}, state.Entry{ConfChange: true, ConfState: encoded})
}

func (f *fake) apply(op command.Op, e state.Entry) (state.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	c := command.Command{Time: int64(f.index), Op: op}
	e.Index, e.Term = f.index, 2
	e.Data = command.AppendTo(command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: f.index}), c.Append(nil))
	out, err := f.machine.Apply([]state.Entry{e})
	if err != nil {
		return state.Result{}, err
	}
	return out.Batches[0].Results[0], nil
}

func (f *fake) put(t *testing.T, key, value string) {
	t.Helper()
	if r, err := f.apply(&command.Put{Key: []byte(key), Value: []byte(value)}, state.Entry{}); err != nil || r.Refusal != nil {
		t.Fatal(err, r.Refusal)
	}
}

func (f *fake) set(change func(*node.Status)) {
	st := f.Status()
	change(&st)
	f.status.Store(&st)
}

// serve makes h the answer to everything; nil: the real handler again.
func (f *fake) serve(h http.Handler) { f.handler.Store(&h) }

// counts are the linearizable reads and the changes of members that were asked for.
func (f *fake) counts() (reads, changes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads, f.changes
}

// stop makes the member unreachable.
func (f *fake) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.stopped = true
		f.server.CloseClientConnections()
		f.server.Close()
	}
}

// fakeLeases is a leader's clock of leases that stands still.
type fakeLeases struct {
	mu     sync.Mutex
	ttl    map[lease.ID]int64
	calls  int
	before func(ctx context.Context, id lease.ID) error // nil: nothing
}

func (l *fakeLeases) get(ctx context.Context, id lease.ID) (int64, bool, error) {
	l.mu.Lock()
	l.calls++
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(ctx, id); err != nil {
			return 0, false, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ttl, ok := l.ttl[id]
	return ttl, ok, nil
}

func (l *fakeLeases) grant(id lease.ID, ttl int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ttl[id] = ttl
}

func (l *fakeLeases) hook(f func(ctx context.Context, id lease.ID) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = f
}

func (l *fakeLeases) RenewLease(ctx context.Context, id lease.ID) (int64, error) {
	ttl, ok, err := l.get(ctx, id)
	if err == nil && !ok {
		err = state.ErrLeaseNotFound
	}
	return ttl, err
}

func (l *fakeLeases) LeaseTimes(ctx context.Context, id lease.ID) (node.LeaseTimes, bool, error) {
	ttl, ok, err := l.get(ctx, id)
	if err != nil || !ok {
		return node.LeaseTimes{}, false, err
	}
	return node.LeaseTimes{ID: id, TTLSeconds: ttl, RemainingSeconds: ttl - 1}, true, nil
}

func (l *fakeLeases) Leases() []node.LeaseTimes { return []node.LeaseTimes{{ID: 1}} }

// newCluster makes n voters with ids from 1 on, of whom the first leads, and one learner more. timeout is the request
// timeout.
func newCluster(t *testing.T, n int, timeout time.Duration) []*fake {
	t.Helper()
	id := members.Identity{ClusterID: clusterID}
	conf := &raftpb.ConfState{Learners: []uint64{uint64(n + 1)}}
	fakes := make([]*fake, n+1)
	for i := range fakes {
		f := &fake{leases: &fakeLeases{ttl: map[lease.ID]int64{}}}
		f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h := f.handler.Load(); h != nil {
				(*h).ServeHTTP(w, r)
				return
			}
			http.NotFound(w, r)
		}))
		t.Cleanup(f.stop)
		fakes[i] = f
		id.Members = append(id.Members, members.Member{
			ID: uint64(i + 1), Name: fmt.Sprintf("m%d", i+1), PeerURLs: []string{f.server.URL}, IsLearner: i == n,
		})
		if i < n {
			conf.Voters = append(conf.Voters, uint64(i+1))
		}
	}
	var err error
	if id.ConfState, err = proto.Marshal(conf); err != nil {
		t.Fatal(err)
	}
	for i, f := range fakes {
		f.build(t, id, uint64(i+1), timeout)
	}
	return fakes
}

func (f *fake) build(t *testing.T, id members.Identity, local uint64, timeout time.Duration) {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := state.Bootstrap(db, id); err != nil {
		t.Fatal(err)
	}
	if f.machine, err = state.Open(db, state.Options{}); err != nil {
		t.Fatal(err)
	}
	f.index = f.machine.Applied().Index
	f.status.Store(&node.Status{ClusterID: clusterID, MemberID: local, Leader: 1, Term: 2, Leading: local == 1})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	f.client = NewClient(ClientOptions{Member: f, HTTP: &http.Client{Transport: transport}, Clock: env.SystemClock()})
	f.lessor = NewLessor(LessorOptions{Member: f, Local: f.leases, Client: f.client, RequestTimeout: timeout})
	t.Cleanup(f.lessor.Close)
	f.promoter = NewPromoter(f, f, f.client, timeout)
	core, logs := observer.New(zap.InfoLevel)
	f.logs = logs
	f.serve(NewHandler(HandlerOptions{
		Caller: func(context.Context) (auth.Caller, error) { return auth.Caller{}, nil },
		Member: f, Cluster: f, Lessor: f.lessor, Store: f.machine, Log: zap.New(core),
		Versions: func() Versions { return Versions{Server: "3.7.1"} },
	}))
}

// long is a request timeout that no test waits for; brief one that some do.
const (
	long  = 30 * time.Second
	brief = 120 * time.Millisecond
)

// follow makes all members agree that one leads; 0: nobody.
func follow(fakes []*fake, leader uint64) {
	for i, f := range fakes {
		f.set(func(st *node.Status) { st.Leader, st.Leading = leader, uint64(i+1) == leader })
	}
}

var (
	_ Member  = (*node.Node)(nil)
	_ Leases  = (*node.Node)(nil)
	_ Store   = (*state.Machine)(nil)
	_ Store   = fixedStore{}
	_ Cluster = (*fake)(nil)
)

// fixedStore has one hash for each revision.
type fixedStore struct {
	newest, floor mvcc.Revision
	hash          uint32
	err           error
}

func (s fixedStore) Compacted() mvcc.Revision { return s.floor }

func (s fixedStore) HashKV(rev mvcc.Revision) (mvcc.Hash, error) {
	if rev == 0 {
		rev = s.newest
	}
	return mvcc.Hash{Hash: s.hash, Compacted: s.floor, Revision: rev, Current: s.newest}, s.err
}
