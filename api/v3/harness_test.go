package v3

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"keelson/api/identity"
	"keelson/api/v3electionpb"
	"keelson/api/v3lockpb"
	"keelson/command"
	"keelson/env"
	"keelson/node"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/storage"
	"keelson/watch"
)

const (
	clusterID = 0xc1c1c1c1c1c1c1c1
	memberID  = 0x3e3e

	otherVoter = 0x77
)

// soloMember stands in for a node: a real machine and a real hub, without a log in front of them.
type soloMember struct {
	t        testing.TB
	machine  *state.Machine
	hub      *watch.Hub
	identity *identity.Identifier

	status    atomic.Pointer[node.Status]
	proposals atomic.Int64
	later     atomic.Int64 // of proposals: nobody waited
	reads     atomic.Int64 // linearizable ones

	laterReads atomic.Int64                  // linearizable ones that nobody waited for
	holdReads  atomic.Pointer[chan struct{}] // they wait for it to be closed

	mu    sync.Mutex // holds back Propose
	index uint64

	// Faults, set before the call they are for.
	proposeErr, readErr, renewErr, changeErr atomic.Pointer[error]
	refuseLater                              atomic.Pointer[error] // what ProposeLater is refused with
	swept                                    atomic.Int64
	between                                  atomic.Value // func(command.Op), called before an op is applied
}

func (m *soloMember) Propose(ctx context.Context, op command.Op) (state.Result, error) {
	if err := m.proposeErr.Load(); err != nil {
		return state.Result{}, *err
	}
	m.proposals.Add(1)
	if f, ok := m.between.Load().(func(command.Op)); ok {
		f(op)
	}
	return m.applyFor(ctx, op, state.Entry{})
}

// ProposeLater is what a node does, with a goroutine for each.
func (m *soloMember) ProposeLater(ctx context.Context, op command.Op, r node.Runner, done node.LateOutcome) error {
	m.later.Add(1)
	r.Go(func() {
		if err := m.refuseLater.Load(); err != nil {
			done(&state.Result{Refusal: *err}, false, nil)
			return
		}
		res, err := m.Propose(ctx, op)
		if err != nil {
			done(nil, false, err)
			return
		}
		done(&res, m.proposals.Load()%2 == 0, nil)
	})
	return nil
}

// ReadLater is what a node does, with a goroutine for each; every other read need not wait.
func (m *soloMember) ReadLater(late node.LateReader) (now bool, err error) {
	if m.laterReads.Add(1)%2 == 0 && m.readErr.Load() == nil {
		return true, nil
	}
	late.Go(func() {
		if hold := m.holdReads.Load(); hold != nil {
			<-*hold
		}
		v, err := m.Read(context.Background())
		if err == nil {
			v.Close()
		}
		late.Ready(err)
	})
	return false, nil
}

func (m *soloMember) Abandon(cause error) error {
	if cause == context.DeadlineExceeded {
		return node.ErrTimeout
	}
	return node.ErrCanceled
}

// applyFor is apply on behalf of the caller in ctx.
func (m *soloMember) applyFor(ctx context.Context, op command.Op, e state.Entry) (state.Result, error) {
	who, ok := auth.CallerOf(ctx)
	if !ok {
		who.Revision = m.machine.Users().Revision()
	}
	return m.applyCommand(command.Command{User: who.User, AuthRevision: who.Revision, Op: op}, e)
}

// apply applies what the member itself has to say.
func (m *soloMember) apply(op command.Op, e state.Entry) (state.Result, error) {
	return m.applyCommand(command.Command{Op: op}, e)
}

// applyCommand applies c as the only command of an entry.
func (m *soloMember) applyCommand(c command.Command, e state.Entry) (state.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	c.Time = int64(m.index)
	data := command.AppendTo(command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: m.index}), c.Append(nil))
	e.Index, e.Term, e.Data = m.index, 2, data
	var observe func([]auth.TokenChange)
	if m.identity != nil {
		observe = m.identity.Observe
	}
	out, err := m.machine.ApplyTelling([]state.Entry{e}, observe)
	if err != nil {
		m.t.Errorf("apply: %v", err)
		return state.Result{}, err
	}
	if out.Users {
		m.hub.Review()
	}
	m.hub.Publish(out.Events, out.Revision)
	return out.Batches[0].Results[0], nil
}

// ChangeMembers is what a node does, without raft and without the strict checks.
func (m *soloMember) ChangeMembers(ctx context.Context, op command.Op) (state.Result, error) {
	if err := m.changeErr.Load(); err != nil {
		return state.Result{}, *err
	}
	v := m.machine.View()
	voters, learners := v.Members().Voters(), v.Members().Learners()
	v.Close()
	without := func(list []uint64, id uint64) []uint64 {
		return slices.DeleteFunc(slices.Clone(list), func(x uint64) bool { return x == id })
	}
	switch o := op.(type) {
	case *command.MemberUpdate:
		return m.applyFor(ctx, op, state.Entry{})
	case *command.MemberAdd:
		if o.IsLearner {
			learners = append(learners, o.ID)
		} else {
			voters = append(voters, o.ID)
		}
	case *command.MemberRemove:
		voters, learners = without(voters, o.ID), without(learners, o.ID)
	case *command.MemberPromote:
		voters, learners = append(without(voters, o.ID), o.ID), without(learners, o.ID)
	}
	return m.applyFor(ctx, op, state.Entry{ConfChange: true, ConfState: confState(m.t, voters, learners)})
}

func confState(t testing.TB, voters, learners []uint64) []byte {
	t.Helper()
	b, err := proto.Marshal(&raftpb.ConfState{Voters: voters, Learners: learners})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// MoveLeader knows one other voter, otherVoter.
func (m *soloMember) MoveLeader(ctx context.Context, to uint64) error {
	switch {
	case !m.Status().Leading:
		return node.ErrNotLeader
	case to == otherVoter:
		m.set(func(s *node.Status) { s.Leader, s.Leading = to, false })
		return nil
	}
	return node.ErrBadTransferee
}

// Promote is what a promoter does on the leader.
func (m *soloMember) Promote(ctx context.Context, id uint64) ([]members.Member, error) {
	res, err := m.ChangeMembers(ctx, &command.MemberPromote{ID: id})
	if err == nil {
		err = res.Refusal
	}
	if err != nil {
		return nil, err
	}
	v := m.machine.View()
	defer v.Close()
	return v.Members().List(), nil
}

func (m *soloMember) Read(ctx context.Context) (*state.View, error) {
	m.reads.Add(1)
	if err := m.readErr.Load(); err != nil {
		return nil, *err
	}
	return m.machine.View(), nil
}

func (m *soloMember) ReadLocal() *state.View { return m.machine.View() }
func (m *soloMember) Users() *auth.Set       { return m.machine.Users() }
func (m *soloMember) Status() node.Status    { return *m.status.Load() }

func (m *soloMember) WaitSwept(context.Context) error {
	m.swept.Add(1)
	for {
		if _, more, err := m.machine.CompactStep(10); err != nil || !more {
			return err
		}
	}
}

func (m *soloMember) set(change func(*node.Status)) {
	s := m.Status()
	change(&s)
	m.status.Store(&s)
}

func (m *soloMember) RenewLease(_ context.Context, id lease.ID) (int64, error) {
	if err := m.renewErr.Load(); err != nil {
		return 0, *err
	}
	t, ok, err := m.LeaseTimes(context.Background(), id)
	if err == nil && !ok {
		err = state.ErrLeaseNotFound
	}
	return t.TTLSeconds, err
}

func (m *soloMember) LeaseTimes(_ context.Context, id lease.ID) (node.LeaseTimes, bool, error) {
	v := m.machine.View()
	defer v.Close()
	l, ok, err := v.Lease(id)
	return node.LeaseTimes{ID: id, TTLSeconds: l.TTLSeconds, RemainingSeconds: l.TTLSeconds - 1}, ok, err
}

func (m *soloMember) Leases() []node.LeaseTimes {
	v := m.machine.View()
	defer v.Close()
	list, err := granted(v)
	if err != nil {
		m.t.Error(err)
	}
	return list
}

// assignToken makes a token known.
func (m *soloMember) assignToken(ctx context.Context, user string, revision uint64, digest []byte) (uint64, error) {
	res, err := m.Propose(auth.WithCaller(ctx, auth.Caller{User: user, Revision: revision}), &command.TokenAssign{User: user, Digest: digest})
	if err == nil {
		err = res.Refusal
	}
	return res.Index, err
}

// server is the services of a soloMember behind a real gRPC server, and a client's stubs.
type server struct {
	*soloMember
	services *Services
	conn     *grpc.ClientConn
	kv       pb.KVClient
	watch    pb.WatchClient
	lease    pb.LeaseClient
	cluster  pb.ClusterClient
	upkeep   pb.MaintenanceClient
	auth     pb.AuthClient
	health   healthpb.HealthClient

	locks     v3lockpb.LockClient
	elections v3electionpb.ElectionClient
}

// serve starts a member that nobody has written to. change may alter the options.
func serve(t testing.TB, change func(*Options)) *server {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", MemtableBytes: 8 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	err = state.Bootstrap(db, members.Identity{
		ClusterID: clusterID,
		Members:   []members.Member{{ID: memberID, PeerURLs: []string{"http://p:2380"}}},
		ConfState: confState(t, []uint64{memberID}, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := state.Open(db, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := &soloMember{t: t, machine: machine, hub: watch.NewHub(machine, watch.Options{}), index: machine.Applied().Index}
	m.status.Store(&node.Status{ClusterID: clusterID, MemberID: memberID, Leader: memberID, Term: 2, Committed: 5, Applied: 4, Leading: true})
	t.Cleanup(m.hub.Close)
	m.identity, err = identity.New(identity.Options{
		BcryptCost: 4, Users: machine.Users, Clock: env.SystemClock(), Chance: env.SystemChance(), Propose: m.assignToken,
		CatchUp: func(ctx context.Context) error {
			v, err := m.Read(ctx)
			if err == nil {
				v.Close()
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Identity: m.identity,
		Member:   m, Cluster: m, Promoter: m, Lessor: m, Store: machine, Hub: m.hub, Clock: env.SystemClock(), Chance: env.SystemChance(),
		Sizes: func() (int64, int64) { return 4096, 1024 },
	}
	if change != nil {
		change(&o)
	}
	s := &server{soloMember: m, services: New(o)}
	s.listen(t, int(o.withDefaults().MaxRequestBytes)+512<<10)
	return s
}

func (s *server) listen(t testing.TB, recvBytesMax int) {
	g := newTransport(s.services, recvBytesMax)
	s.services.Register(g)
	l := bufconn.Listen(1 << 20)
	served := make(chan struct{})
	go func() {
		defer close(served)
		g.Serve(l)
	}()
	conn, err := grpc.NewClient("passthrough:bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		<-served
		s.services.Close()
	})
	s.conn = conn
	s.kv, s.watch, s.lease = pb.NewKVClient(conn), pb.NewWatchClient(conn), pb.NewLeaseClient(conn)
	s.auth = pb.NewAuthClient(conn)
	s.cluster, s.upkeep, s.health = pb.NewClusterClient(conn), pb.NewMaintenanceClient(conn), healthpb.NewHealthClient(conn)
	s.locks, s.elections = v3lockpb.NewLockClient(conn), v3electionpb.NewElectionClient(conn)
}

// ctx ends with the test, or when a reply is so late that it won't come.
func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return c
}

// put writes a pair and returns its revision.
func (s *server) put(t testing.TB, key, value string) int64 {
	t.Helper()
	r, err := s.kv.Put(ctx(t), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// get reads a range.
func (s *server) get(t testing.TB, r *pb.RangeRequest) *pb.RangeResponse {
	t.Helper()
	reply, err := s.kv.Range(ctx(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// wantError holds an error that came over the wire against one from the table.
func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	g, w := status.Convert(got), status.Convert(want)
	if g.Code() != w.Code() || g.Message() != w.Message() {
		t.Errorf("%s: got %v %q, want %v %q", what, g.Code(), g.Message(), w.Code(), w.Message())
	}
}

// wantHeader checks all fields of a header; revision 0 says that it must have none.
func wantHeader(t testing.TB, what string, h *pb.ResponseHeader, revision int64) {
	t.Helper()
	if h.GetClusterId() != clusterID || h.GetMemberId() != memberID || h.GetRaftTerm() != 2 || h.GetRevision() != revision {
		t.Errorf("%s: header %v, want revision %d", what, h, revision)
	}
}

// What the services ask for is what there is.
var (
	_ Member = (*node.Node)(nil)
	_ Lessor = (*node.Node)(nil)
	_ Store  = (*state.Machine)(nil)
)
