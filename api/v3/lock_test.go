package v3

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/api/v3lockpb"
	"keelson/command"
	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
)

// unknown is an error as locks and elections give it.
func unknown(text string) error { return status.Error(codes.Unknown, text) }

// granted makes a lease of 60 s with an id.
func (s *server) granted(t testing.TB, id int64) int64 {
	t.Helper()
	if _, err := s.lease.LeaseGrant(ctx(t), &pb.LeaseGrantRequest{ID: id, TTL: 60}); err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *server) revoke(t testing.TB, id int64) {
	t.Helper()
	if _, err := s.lease.LeaseRevoke(ctx(t), &pb.LeaseRevokeRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
}

// pending is a call that waits.
type pending[Reply any] struct {
	cancel context.CancelFunc
	done   chan struct{}
	reply  Reply
	err    error
}

// begin makes a call in the background.
func begin[Reply any](t testing.TB, call func(context.Context) (Reply, error)) *pending[Reply] {
	c, cancel := context.WithCancel(ctx(t))
	p := &pending[Reply]{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.reply, p.err = call(c)
	}()
	t.Cleanup(func() { cancel(); <-p.done })
	return p
}

func (p *pending[Reply]) get(t testing.TB) Reply {
	t.Helper()
	<-p.done
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.reply
}

// keys are those under a prefix, in the order in which they were created.
func (s *server) keys(t testing.TB, prefix string) []string {
	t.Helper()
	var keys []string
	for _, kv := range s.get(t, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: prefixEnd([]byte(prefix)), SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND}).Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// awaitKeys returns when there are so many keys under a prefix, and so many watchers.
func (s *server) awaitKeys(t testing.TB, prefix string, n, watchers int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(s.keys(t, prefix)) != n || s.hub.Watchers() != watchers; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("keys %q and %d watchers, want %d and %d", s.keys(t, prefix), s.hub.Watchers(), n, watchers)
		}
	}
}

func (s *server) lock(t testing.TB, name string, id int64) *pending[*v3lockpb.LockResponse] {
	return begin(t, func(c context.Context) (*v3lockpb.LockResponse, error) {
		return s.locks.Lock(c, &v3lockpb.LockRequest{Name: []byte(name), Lease: id})
	})
}

func TestLock(t *testing.T) {
	s := serve(t, nil)
	first, second, third := s.granted(t, 0xa1), s.granted(t, 0xa2), s.granted(t, -1)

	held := s.lock(t, "n", first).get(t)
	wantHeader(t, "lock", held.Header, 2)
	if string(held.Key) != "n/a1" {
		t.Errorf("key %q", held.Key)
	}
	if kv := s.get(t, &pb.RangeRequest{Key: held.Key}).Kvs[0]; kv.Lease != first || len(kv.Value) != 0 {
		t.Errorf("pair of the lock: %v", kv)
	}
	// The same lease has it already.
	again := s.lock(t, "n", first).get(t)
	wantHeader(t, "locked again", again.Header, 2)
	if string(again.Key) != "n/a1" {
		t.Errorf("key %q", again.Key)
	}

	next := s.lock(t, "n", second)
	s.awaitKeys(t, "n/", 2, 2)
	last := s.lock(t, "n", third)
	s.awaitKeys(t, "n/", 3, 4)
	reply, err := s.locks.Unlock(ctx(t), &v3lockpb.UnlockRequest{Key: held.Key})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, "unlock", reply.Header, 5)
	if got := next.get(t); string(got.Key) != "n/a2" {
		t.Errorf("second: %q", got.Key)
	}
	select {
	case <-last.done:
		t.Error("two hold the lock")
	default:
	}
	s.revoke(t, second) // the end of a lease is the end of the lock
	got := last.get(t)
	wantHeader(t, "after a wait", got.Header, 6)
	if string(got.Key) != "n/-1" {
		t.Errorf("third: %q", got.Key)
	}
	s.awaitKeys(t, "n/", 1, 0)
}

func TestLockWithoutLease(t *testing.T) {
	s := serve(t, nil)
	held := s.lock(t, "n", 0).get(t)
	kv := s.get(t, &pb.RangeRequest{Key: held.Key}).Kvs[0]
	l, err := s.lease.LeaseTimeToLive(ctx(t), &pb.LeaseTimeToLiveRequest{ID: kv.Lease})
	if err != nil {
		t.Fatal(err)
	}
	if l.GrantedTTL != 60 || string(held.Key) != fmt.Sprintf("n/%x", kv.Lease) {
		t.Errorf("key %q, lease %v", held.Key, l)
	}
	// Who gives up takes along the lease that was granted for it.
	waiting := s.lock(t, "n", 0)
	s.awaitKeys(t, "n/", 2, 2)
	waiting.cancel()
	<-waiting.done
	s.awaitKeys(t, "n/", 1, 0)
	s.awaitLeases(t, 1)
}

func (s *server) awaitLeases(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(s.Leases()) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d leases, want %d", len(s.Leases()), n)
		}
	}
}

func TestLockGivenUp(t *testing.T) {
	s := serve(t, nil)
	for id := int64(1); id <= 3; id++ {
		s.granted(t, id)
	}
	s.lock(t, "n", 1).get(t)
	second := s.lock(t, "n", 2)
	s.awaitKeys(t, "n/", 2, 2)
	third := s.lock(t, "n", 3)
	s.awaitKeys(t, "n/", 3, 4)
	second.cancel()
	<-second.done
	wantError(t, "given up", second.err, status.Error(codes.Canceled, "context canceled"))
	s.awaitKeys(t, "n/", 2, 2)
	if got := s.keys(t, "n/"); got[0] != "n/1" || got[1] != "n/3" {
		t.Errorf("keys %q", got)
	}
	if _, err := s.locks.Unlock(ctx(t), &v3lockpb.UnlockRequest{Key: []byte("n/1")}); err != nil {
		t.Fatal(err)
	}
	third.get(t)
}

// Known bug L11: a lock granted to a lease that has run out.
func TestLockOfAnExpiredLease(t *testing.T) {
	clock := &expiringLessor{}
	s := serve(t, func(o *Options) {
		clock.Lessor = o.Lessor
		o.Lessor = clock
	})
	s.granted(t, 1)
	s.granted(t, 2)
	// It runs out while the client waits, and is revoked.
	s.lock(t, "n", 1).get(t)
	waiting := s.lock(t, "n", 2)
	s.awaitKeys(t, "n/", 2, 2)
	s.revoke(t, 2)
	<-waiting.done // although the lock is still held
	wantError(t, "lease revoked", waiting.err, unknown("mutex: session is expired"))
	// It has run out on the leader's clock, and is not revoked yet.
	s.granted(t, 3)
	waiting = s.lock(t, "n", 3)
	s.awaitKeys(t, "n/", 2, 2)
	clock.expired.Store(3)
	s.revoke(t, 1)
	<-waiting.done
	wantError(t, "lease expired", waiting.err, unknown("mutex: session is expired"))
	fresh := s.lock(t, "n", 3)
	<-fresh.done
	wantError(t, "lease expired before", fresh.err, unknown("mutex: session is expired"))
	s.awaitKeys(t, "n/", 0, 0)
}

// expiringLessor says that one lease has run out.
type expiringLessor struct {
	Lessor
	expired atomic.Int64
}

func (l *expiringLessor) LeaseTimes(ctx context.Context, id lease.ID) (node.LeaseTimes, bool, error) {
	t, ok, err := l.Lessor.LeaseTimes(ctx, id)
	if int64(id) == l.expired.Load() {
		t.RemainingSeconds = 0
	}
	return t, ok, err
}

func TestLockErrors(t *testing.T) {
	s := serve(t, nil)
	missing := s.lock(t, "n", 99)
	<-missing.done
	wantError(t, "no such lease", missing.err, unknown("etcdserver: requested lease not found"))
	_, err := s.locks.Unlock(ctx(t), &v3lockpb.UnlockRequest{})
	wantError(t, "no key", err, unknown("etcdserver: key is not provided"))
	reply, err := s.locks.Unlock(ctx(t), &v3lockpb.UnlockRequest{Key: []byte("n/1")})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, "nothing to unlock", reply.Header, 1)
	s.granted(t, 1)
	failed := errors.New("out of order")
	s.proposeErr.Store(&failed)
	broken := s.lock(t, "n", 1)
	<-broken.done
	wantError(t, "failure", broken.err, unknown("out of order"))
}

// Known bug L12: an unlock that comes late must not end a later lock of the same lease.
func TestUnlockComparesTheRevision(t *testing.T) {
	s := serve(t, nil)
	s.granted(t, 1)
	held := s.lock(t, "n", 1).get(t)
	// Between the unlock's look at the key and its deletion, the key is deleted and created again.
	s.between.Store(func(op command.Op) {
		if _, ok := op.(*command.Txn); !ok {
			return
		}
		s.between.Store(func(command.Op) {})
		for _, op := range []command.Op{&command.DeleteRange{Key: held.Key}, &command.Put{Key: held.Key, Lease: 1}} {
			if r, err := s.apply(op, state.Entry{}); err != nil || r.Refusal != nil {
				t.Error(err, r.Refusal)
			}
		}
	})
	if _, err := s.locks.Unlock(ctx(t), &v3lockpb.UnlockRequest{Key: held.Key}); err != nil {
		t.Fatal(err)
	}
	if kvs := s.get(t, &pb.RangeRequest{Key: held.Key}).Kvs; len(kvs) != 1 || kvs[0].CreateRevision != 4 {
		t.Errorf("the later lock: %v", kvs)
	}
}

// Whoever waits when the member goes away is told so at once, and leaves nothing behind.
func TestLockEndsWithTheServices(t *testing.T) {
	s := serve(t, nil)
	s.granted(t, 1)
	s.granted(t, 2)
	s.lock(t, "n", 1).get(t)
	waiting := s.lock(t, "n", 2)
	s.awaitKeys(t, "n/", 2, 2)
	s.services.Shutdown()
	<-waiting.done
	wantError(t, "shut down", waiting.err, rpctypes.ErrGRPCStopped)
	s.awaitKeys(t, "n/", 1, 0)
	late := s.lock(t, "n", 2)
	<-late.done
	wantError(t, "too late", late.err, rpctypes.ErrGRPCStopped)
}

func TestLockOnACorruptMember(t *testing.T) {
	s := serve(t, nil)
	s.granted(t, 1)
	s.granted(t, 2)
	s.lock(t, "n", 1).get(t)
	waiting := s.lock(t, "n", 2)
	s.awaitKeys(t, "n/", 2, 2)
	s.services.EndCorrupt()
	<-waiting.done
	wantError(t, "corrupt", waiting.err, rpctypes.ErrGRPCCorrupt)
}

// A wait survives that the history it watches is compacted away.
func TestLockOverACompaction(t *testing.T) {
	s := serve(t, nil)
	s.granted(t, 1)
	s.granted(t, 2)
	held := s.lock(t, "n", 1).get(t)
	waiting := s.lock(t, "n", 2)
	s.awaitKeys(t, "n/", 2, 2)
	s.put(t, "x", "1")
	rev := s.put(t, "x", "2")
	if _, err := s.kv.Compact(ctx(t), &pb.CompactionRequest{Revision: rev}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.locks.Unlock(ctx(t), &v3lockpb.UnlockRequest{Key: held.Key}); err != nil {
		t.Fatal(err)
	}
	waiting.get(t)
}
