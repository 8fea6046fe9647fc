package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/env"
	"keelson/leader"
	"keelson/raftlog"
	"keelson/state"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/storage"
	"keelson/watch"
)

const testMember = 7

// rig is a node on a disk in memory, which may be killed and started again.
type rig struct {
	t     testing.TB
	id    uint64
	all   []uint64 // voters the cluster is founded with
	fs    vfs.FS
	root  string
	db    *storage.DB
	log   *raftlog.Log
	hub   *watch.Hub
	node  *Node
	fatal chan error
	tune  func(*Options)
	syncs atomic.Int64 // of the log

	segmentBytes int64
}

func newRig(t testing.TB, tune func(*Options)) *rig {
	return newRigOn(t, vfs.NewCrashableMem(), "/", 1<<20, tune)
}

func newRigOn(t testing.TB, fs vfs.FS, root string, segmentBytes int64, tune func(*Options)) *rig {
	return newMemberRig(t, testMember, []uint64{testMember}, fs, root, segmentBytes, tune)
}

func newMemberRig(t testing.TB, id uint64, all []uint64, fs vfs.FS, root string, segmentBytes int64, tune func(*Options)) *rig {
	r := &rig{t: t, id: id, all: all, fs: fs, root: root, fatal: make(chan error, 1), tune: tune, segmentBytes: segmentBytes}
	if err := r.fs.MkdirAll(fs.PathJoin(root, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.found()
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) found() {
	db, err := storage.Open(storage.Options{FS: r.fs, Dir: r.fs.PathJoin(r.root, "state")})
	r.must(err)
	conf, err := proto.Marshal(&raftpb.ConfState{Voters: r.all})
	r.must(err)
	identity := state.Identity{ClusterID: 9, ConfState: conf}
	for _, id := range r.all {
		identity.Members = append(identity.Members, members.Member{ID: id, PeerURLs: []string{fmt.Sprintf("http://127.0.0.1:%d", id)}})
	}
	r.must(state.Bootstrap(db, identity))
	r.must(db.Flush())
	m, err := state.Open(db, state.Options{})
	r.must(err)
	log, err := raftlog.Create(r.logOptions(), raftlog.Position(m.Applied()))
	r.must(err)
	r.must(log.Close())
	r.must(db.Close())
}

func (r *rig) logOptions() raftlog.Options {
	return raftlog.Options{SegmentBytes: r.segmentBytes, FS: r.fs, Dir: r.fs.PathJoin(r.root, "wal"), ClusterID: 9, MemberID: r.id,
		OnSync: func(int, time.Duration) { r.syncs.Add(1) }}
}

func (r *rig) start() {
	var err error
	var n *Node
	r.db, err = storage.Open(storage.Options{FS: r.fs, Dir: r.fs.PathJoin(r.root, "state")})
	r.must(err)
	machine, err := state.Open(r.db, state.Options{})
	r.must(err)
	durable, err := machine.DurableApplied()
	r.must(err)
	r.log, _, err = raftlog.Open(r.logOptions(), raftlog.Position(durable))
	r.must(err)
	r.hub = watch.NewHub(machine, watch.Options{})
	o := Options{
		ClusterID: 9, MemberID: r.id, Machine: machine, Log: r.log, Hub: r.hub,
		Clock: env.SystemClock(), Chance: env.SystemChance(),
		Heartbeat: 10 * time.Millisecond, Election: 100 * time.Millisecond,
		RequestTimeout: time.Minute, MaxRequestBytes: 1 << 20,
		Lessor: leader.LessorOptions{Extension: 0},
		Fatal:  func(err error) { r.fatal <- err },
	}
	if r.tune != nil {
		r.tune(&o)
	}
	n, err = Start(o)
	r.must(err)
	r.node = n
}

func (r *rig) stop() {
	if r.node == nil {
		return
	}
	r.node.Stop()
	r.hub.Close()
	r.log.Close()
	r.must(r.db.Close())
	r.node = nil
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) propose(op command.Op) state.Result {
	r.t.Helper()
	result, err := r.node.Propose(context.Background(), op)
	r.must(err)
	if result.Refusal != nil {
		r.t.Fatalf("%T refused: %v", op, result.Refusal)
	}
	return result
}

// read reads, and again if another member began to lead meanwhile.
func (r *rig) read() *state.View {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		view, err := r.node.Read(context.Background())
		if errors.Is(err, ErrLeaderChanged) && time.Now().Before(end) {
			continue
		}
		r.must(err)
		return view
	}
}

func (r *rig) get(key string) string {
	r.t.Helper()
	view := r.read()
	defer view.Close()
	kv, err := view.Get([]byte(key))
	r.must(err)
	if kv == nil {
		return ""
	}
	return string(kv.Value)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProposeAndRead(t *testing.T) {
	r := newRig(t, nil)
	if got := r.propose(&command.Put{Key: []byte("a"), Value: []byte("1")}); got.Revision != 2 {
		t.Errorf("revision %d, want 2", got.Revision)
	}
	if got := r.get("a"); got != "1" {
		t.Errorf("read %q", got)
	}
}

// What was acknowledged is readable at once, by everybody, and survives a stop.
func TestManyCallersThenRestart(t *testing.T) {
	r := newRig(t, nil)
	const callers, each = 50, 40
	var all sync.WaitGroup
	for c := range callers {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range each {
				key := fmt.Sprintf("%d/%d", c, i)
				if _, err := r.node.Propose(context.Background(), &command.Put{Key: []byte(key), Value: []byte(key)}); err != nil {
					t.Error(err)
					return
				}
				if got := r.get(key); got != key {
					t.Errorf("%s: read %q after its write was acknowledged", key, got)
				}
			}
		}()
	}
	all.Wait()
	r.stop()
	r.start()
	for c := range callers {
		for i := range each {
			if key := fmt.Sprintf("%d/%d", c, i); r.get(key) != key {
				t.Fatalf("%s is gone", key)
			}
		}
	}
}

func TestTooLargeIsRefusedBeforeTheLog(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxRequestBytes = 100 })
	_, err := r.node.Propose(context.Background(), &command.Put{Key: []byte("a"), Value: make([]byte, 101)})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
	if r.get("a") != "" {
		t.Error("it was written all the same")
	}
}

func TestStoppedNodeRefuses(t *testing.T) {
	r := newRig(t, nil)
	r.get("a")
	r.node.Stop()
	if _, err := r.node.Propose(context.Background(), &command.Noop{}); !errors.Is(err, ErrStopped) {
		t.Errorf("propose: %v", err)
	}
	if view, err := r.node.Read(context.Background()); !errors.Is(err, ErrStopped) {
		if err == nil {
			view.Close()
		}
		t.Errorf("read: %v", err)
	}
}

// A caller who gives up gets its own error; what it proposed may still come to pass, and nothing else is hurt.
func TestGivingUp(t *testing.T) {
	r := newRig(t, nil)
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := r.node.Propose(ctx, &command.Put{Key: []byte("a"), Value: []byte("1")}); err != nil && !errors.Is(err, ErrCanceled) {
			t.Fatal(err)
		}
	}
	r.propose(&command.Put{Key: []byte("b"), Value: []byte("2")})
	if r.get("b") != "2" || r.node.PendingProposals() != 0 {
		t.Errorf("b is %q, %d proposals pending", r.get("b"), r.node.PendingProposals())
	}
}

// runner is a Runner with nothing else to do.
type runner struct{}

func (runner) Soon(f func())              { f() }
func (runner) Stay(_ int, f func(func())) { go f(func() {}) }
func (runner) Go(f func())                { go f() }

// Callers that do not wait are told all the same: results, refusals before the log, and the end.
func TestProposeLater(t *testing.T) {
	r := newRig(t, nil)
	type outcome struct {
		res state.Result
		err error
	}
	outcomes := make(chan outcome, 1)
	later := func(op command.Op) error {
		return r.node.ProposeLater(context.Background(), op, runner{}, func(res *state.Result, alone bool, err error) {
			if !alone && err == nil {
				t.Error("one command is not alone")
			}
			o := outcome{err: err}
			if err == nil {
				o.res = *res
			}
			outcomes <- o
		})
	}
	for range 3 {
		r.must(later(&command.Put{Key: []byte("k"), Value: []byte("v")}))
		o := <-outcomes
		r.must(o.err)
		if o.res.Refusal != nil || o.res.Revision < 2 {
			t.Errorf("%+v", o.res)
		}
	}
	if r.get("k") != "v" {
		t.Error("it was not written")
	}
	if err := later(&command.Put{Key: []byte("k"), Value: make([]byte, 4<<20)}); err != ErrTooLarge {
		t.Errorf("too large: %v", err)
	}
	if r.node.Abandon(context.Canceled) != ErrCanceled || r.node.Abandon(context.DeadlineExceeded) != ErrTimeout {
		t.Error("other errors for callers that have gone")
	}
	r.node.Stop()
	if err := later(&command.Put{Key: []byte("k")}); err == nil || len(outcomes) > 0 {
		t.Errorf("a stopped node takes it: %v, and %d outcomes", err, len(outcomes))
	}
}

func TestLeaseExpires(t *testing.T) {
	r := newRig(t, nil)
	r.propose(&command.LeaseGrant{ID: 5, TTLSeconds: 5})
	r.propose(&command.Put{Key: []byte("k"), Value: []byte("v"), Lease: 5})
	if ttl, err := r.node.RenewLease(context.Background(), 5); err != nil || ttl != 5 {
		t.Fatalf("renew: %d, %v", ttl, err)
	}
	for r.get("k") != "" {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := r.node.RenewLease(context.Background(), 5); !errors.Is(err, state.ErrLeaseNotFound) {
		t.Errorf("renew after expiry: %v", err)
	}
}

// A lease that was granted can be renewed at once, before and after a restart.
func TestLeaseSurvivesRestart(t *testing.T) {
	r := newRig(t, nil)
	for id := range lease.ID(20) {
		r.propose(&command.LeaseGrant{ID: int64(id + 1), TTLSeconds: 100})
		if ttl, err := r.node.RenewLease(context.Background(), id+1); err != nil || ttl != 100 {
			t.Fatalf("renew %d: %d, %v", id+1, ttl, err)
		}
	}
	r.stop()
	r.start()
	if ttl, err := r.node.RenewLease(context.Background(), 3); err != nil || ttl != 100 {
		t.Errorf("renew after restart: %d, %v", ttl, err)
	}
	if got := len(r.node.Leases()); got != 20 {
		t.Errorf("%d leases, want 20", got)
	}
}

// Compaction ends with everything below the floor gone, and whoever waits for that is told.
func TestWaitSwept(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Sweep = SweepOptions{Records: 3, Pause: time.Microsecond} })
	for range 50 {
		r.propose(&command.Put{Key: []byte("a"), Value: []byte("1")})
	}
	r.propose(&command.Compact{Revision: 40})
	r.must(r.node.WaitSwept(context.Background()))
	if _, more, err := r.node.o.Machine.CompactStep(1000); err != nil || more {
		t.Errorf("more %v, %v after the sweep", more, err)
	}
}

// The log is cut below what the store has flushed, and the member comes back from what is left.
func TestLogIsTruncated(t *testing.T) {
	r := newRig(t, nil)
	for i := range 40 {
		r.propose(&command.Put{Key: []byte("a"), Value: make([]byte, 100<<10)})
		if i%10 == 9 {
			r.must(r.db.Flush())
			r.node.Sweep()
		}
	}
	for {
		if first, _ := r.log.FirstIndex(); first > 10 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r.stop()
	r.start()
	if got := len(r.get("a")); got != 100<<10 {
		t.Errorf("value of %d bytes after the restart", got)
	}
}

// A lease whose remaining time has gone through the log can be renewed: the record of it is taken back first.
func TestRenewAfterCheckpoint(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Lessor.CheckpointInterval = 100 * time.Millisecond
		o.RequestTimeout = 5 * time.Second
	})
	r.propose(&command.LeaseGrant{ID: 5, TTLSeconds: 100})
	recorded := func() bool {
		view := r.node.ReadLocal()
		defer view.Close()
		l, ok, err := view.Lease(5)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return l.RemainingSeconds != 0
	}
	until(recorded)
	for range 3 {
		if ttl, err := r.node.RenewLease(context.Background(), 5); err != nil || ttl != 100 {
			t.Fatalf("renew: %d, %v", ttl, err)
		}
	}
}

// Whoever waits for a lease to be gone is told when the member stops.
func TestStopWakesThoseWhoWaitForALease(t *testing.T) {
	r := newRig(t, nil)
	woken := make(chan error)
	go func() { woken <- r.node.waitGone(context.Background(), make(chan struct{})) }()
	r.node.Stop()
	if err := <-woken; !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}

// A write whose caller runs out of time has timed out; a read ends as its context did.
func TestDeadlines(t *testing.T) {
	r := newRig(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	timeouts := 0
	for range 50 {
		switch _, err := r.node.Propose(ctx, &command.Noop{}); {
		case errors.Is(err, ErrTimeout):
			timeouts++
		case err != nil:
			t.Fatal(err)
		}
	}
	if timeouts == 0 || r.node.FailedProposals() != uint64(timeouts) {
		t.Errorf("%d timeouts, %d proposals failed", timeouts, r.node.FailedProposals())
	}
	why := errors.New("why")
	ctx2, cancel2 := context.WithCancelCause(context.Background())
	cancel2(why)
	for range 50 {
		if err := r.node.readIndex(ctx2); err != nil && err != why {
			t.Fatal(err)
		}
	}
}

// What the member itself has to say is not measured by the limits of callers.
func TestProposeOwn(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxRequestBytes = 1 })
	if _, err := r.node.ProposeOwn(context.Background(), &command.ClusterVersion{Version: "3.7.0"}); err != nil {
		t.Error(err)
	}
}
