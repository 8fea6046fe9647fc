package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
)

// TestRenewOnTheLeader: section 4.3.
func TestRenewOnTheLeader(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	f.leases.grant(5, 60)
	if ttl, err := f.lessor.RenewLease(t.Context(), 5); ttl != 60 || err != nil {
		t.Errorf("%d, %v", ttl, err)
	}
	if reads, _ := f.counts(); reads != 0 {
		t.Errorf("a lease that is there cost %d rounds", reads)
	}
	if _, err := f.lessor.RenewLease(t.Context(), 6); err != state.ErrLeaseNotFound {
		t.Errorf("unknown: %v", err)
	}
	if reads, _ := f.counts(); reads != 1 {
		t.Errorf("a lease that is not there cost %d rounds, want 1", reads)
	}
	if list := f.lessor.Leases(); len(list) != 1 || list[0].ID != 1 {
		t.Errorf("leases %v", list)
	}
}

// TestGrantedElsewhere: section 4.3, known bug L6. Another member's grant that this leader has not applied yet is found
// once it has.
func TestGrantedElsewhere(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	f.onRead = func(context.Context) error { f.leases.grant(5, 60); return nil }
	if ttl, err := f.lessor.RenewLease(t.Context(), 5); ttl != 60 || err != nil {
		t.Errorf("renewal: %d, %v", ttl, err)
	}
	f = newCluster(t, 1, long)[0]
	f.onRead = func(context.Context) error { f.leases.grant(5, 60); return nil }
	if got, ok, err := f.lessor.LeaseTimes(t.Context(), 5); !ok || got.TTLSeconds != 60 || err != nil {
		t.Errorf("times: %+v, %v, %v", got, ok, err)
	}
}

// TestAppliedTooLate: section 4.3, TimeoutWaitAppliedIndex.
func TestAppliedTooLate(t *testing.T) {
	t.Parallel()
	f := newCluster(t, 1, long)[0]
	f.onRead = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	if _, err := f.lessor.RenewLease(t.Context(), 5); err != node.ErrTimeoutApplied {
		t.Errorf("renewal: %v", err)
	}
	if _, _, err := f.lessor.LeaseTimes(t.Context(), 5); err != node.ErrTimeoutApplied {
		t.Errorf("times: %v", err)
	}
}

// TestUnsureLeader: section 4.3, known bug R6. A leader that can't make sure of being one sends the client elsewhere.
func TestUnsureLeader(t *testing.T) {
	for _, unsure := range []error{node.ErrTimeout, node.ErrLeaderChanged, node.ErrNoLeader} {
		f := newCluster(t, 1, long)[0]
		f.leases.hook(func(context.Context, lease.ID) error { return unsure })
		if _, err := f.lessor.RenewLease(t.Context(), 5); err != node.ErrNotLeader {
			t.Errorf("%v: %v", unsure, err)
		}
	}
}

// TestRenewOnAFollower: section 4.3: the leader's answer, through any voter.
func TestRenewOnAFollower(t *testing.T) {
	fakes := newCluster(t, 3, long)
	fakes[0].leases.grant(5, 60)
	fakes[0].leases.grant(-6, 70)
	for _, f := range fakes[1:3] {
		for id, want := range map[lease.ID]int64{5: 60, -6: 70} {
			if ttl, err := f.lessor.RenewLease(t.Context(), id); ttl != want || err != nil {
				t.Errorf("%d: %d, %v", id, ttl, err)
			}
			got, ok, err := f.lessor.LeaseTimes(t.Context(), id)
			if want := (node.LeaseTimes{ID: id, TTLSeconds: want, RemainingSeconds: want - 1}); !ok || got != want || err != nil {
				t.Errorf("%d: %+v, %v, %v", id, got, ok, err)
			}
		}
		for _, id := range []lease.ID{0, 7} {
			if _, err := f.lessor.RenewLease(t.Context(), id); err != state.ErrLeaseNotFound {
				t.Errorf("%d: %v", id, err)
			}
			if got, ok, err := f.lessor.LeaseTimes(t.Context(), id); ok || err != nil {
				t.Errorf("%d: %+v, %v, %v", id, got, ok, err)
			}
		}
		if f.leases.calls != 0 {
			t.Error("it looked at its own leases")
		}
	}
}

// silent takes a request and does not answer.
func silent(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // until then the server does not look whether the caller is still there
	<-r.Context().Done()
}

// TestForwardingErrors: section 4.3 and 4.4. Nobody leads, or who leads can't be reached.
func TestForwardingErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(fakes []*fake)
		want  error
	}{
		{"nobody leads", func(fakes []*fake) { follow(fakes, 0) }, node.ErrNoLeader},
		{"the leader is gone", func(fakes []*fake) { fakes[0].stop() }, node.ErrTimeout},
		{"the leader does not answer", func(fakes []*fake) {
			fakes[0].serve(http.HandlerFunc(silent))
		}, node.ErrTimeout},
		{"the leader talks nonsense", func(fakes []*fake) {
			fakes[0].serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("\x10")) }))
		}, node.ErrTimeout},
		{"the leader's answers are for others", func(fakes []*fake) {
			fakes[0].serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/leases" {
					w.Write(appendRenewed(appendRenewed(nil, renewed{id: 5, ttlSeconds: 1}), renewed{id: 5, ttlSeconds: 1}))
					return
				}
				w.Write([]byte("\x10"))
			}))
		}, node.ErrTimeout},
		{"nobody admits to lead", func(fakes []*fake) {
			fakes[0].set(func(st *node.Status) { st.Leader, st.Leading = 2, false })
		}, node.ErrTimeout},
		{"the leader is of another cluster", func(fakes []*fake) {
			fakes[0].set(func(st *node.Status) { st.ClusterID++ })
		}, node.ErrTimeout},
		{"the leader is not sure to lead", func(fakes []*fake) {
			fakes[0].leases.hook(func(context.Context, lease.ID) error { return node.ErrLeaderChanged })
		}, node.ErrTimeout},
		{"the leader has no address", func(fakes []*fake) {
			fakes[1].set(func(st *node.Status) { st.Leader = 99 })
		}, node.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fakes := newCluster(t, 2, brief)
			c.spoil(fakes)
			_, err := fakes[1].lessor.RenewLease(t.Context(), 5)
			for tries := 1; err == node.ErrNoLeader && err != c.want && tries < 5; tries++ { // the time may be up before anybody has looked
				_, err = fakes[1].lessor.RenewLease(t.Context(), 5)
			}
			if err != c.want {
				t.Errorf("renewal: %v", err)
			}
			if _, _, err := fakes[1].lessor.LeaseTimes(t.Context(), 5); err != c.want {
				t.Errorf("times: %v", err)
			}
		})
	}
}

// TestForwardingEndsWithItsCaller: section 4.3, the caller is gone.
func TestForwardingEndsWithItsCaller(t *testing.T) {
	fakes := newCluster(t, 2, long)
	follow(fakes, 0)
	ctx, cancel := context.WithCancel(t.Context())
	ends := make(chan error, 2)
	go func() { _, err := fakes[1].lessor.RenewLease(ctx, 5); ends <- err }()
	go func() { _, _, err := fakes[1].lessor.LeaseTimes(ctx, 5); ends <- err }()
	cancel()
	for range 2 {
		if err := <-ends; err != context.Canceled {
			t.Error(err)
		}
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if _, err := fakes[1].lessor.RenewLease(late, 5); err != context.DeadlineExceeded {
		t.Error(err)
	}
}

// TestForwardingWaitsForALeader: a caller that comes while nobody leads is served once somebody does, here or elsewhere.
func TestForwardingWaitsForALeader(t *testing.T) {
	t.Parallel()
	for _, leader := range []uint64{1, 2, 3} {
		fakes := newCluster(t, 3, long)
		follow(fakes, 0)
		fakes[leader-1].leases.grant(5, 60)
		asked := atomic.Int32{}
		waits := statusCounter{fakes[1], &asked}
		fakes[1].client.o.Member = waits
		ends := make(chan error, 2)
		go func() {
			ttl, err := fakes[1].lessor.RenewLease(t.Context(), 5)
			if err == nil && ttl != 60 {
				err = errors.New("wrong TTL")
			}
			ends <- err
		}()
		go func() {
			_, ok, err := fakes[1].lessor.LeaseTimes(t.Context(), 5)
			if err == nil && !ok {
				err = errors.New("not found")
			}
			ends <- err
		}()
		for asked.Load() < 4 { // both have looked for a leader, twice on average
			time.Sleep(time.Millisecond)
		}
		follow(fakes, leader)
		for range 2 {
			if err := <-ends; err != nil {
				t.Errorf("leader %d: %v", leader, err)
			}
		}
	}
}

// statusCounter counts how often somebody looks for the leader.
type statusCounter struct {
	*fake
	n *atomic.Int32
}

func (s statusCounter) Status() node.Status {
	s.n.Add(1)
	return s.fake.Status()
}

// TestRenewalsShareCalls: all renewals that come while a call is under way go with the next one.
func TestRenewalsShareCalls(t *testing.T) {
	const tries = 10
	var got string
	for range tries { // a call that takes too long is made again
		begun := time.Now()
		if got = sharedCalls(t); got == "" {
			return
		}
		if time.Since(begun) < callTimeout {
			t.Fatal(got)
		}
	}
	t.Errorf("%d times too slow, the last time %s", tries, got)
}

// sharedCalls makes many renewals while a call is under way, and tells what is wrong with the calls they cost.
func sharedCalls(t *testing.T) (wrong string) {
	const n = 300
	fakes := newCluster(t, 2, long)
	leader, follower := fakes[0], fakes[1]
	real := *leader.handler.Load()
	var calls, inFlight, together atomic.Int32
	arrived, free := make(chan struct{}, n), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	leader.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if inFlight.Add(1) > 1 {
			together.Add(1)
		}
		arrived <- struct{}{}
		<-free
		inFlight.Add(-1)
		real.ServeHTTP(w, r)
	}))
	ends := make(chan error, n)
	renew := func(id lease.ID) {
		leader.leases.grant(id, 60)
		go func() {
			_, err := follower.lessor.RenewLease(t.Context(), id)
			ends <- err
		}()
	}
	renew(0)
	<-arrived
	for id := lease.ID(1); id < n; id++ {
		renew(id)
	}
	gathered := func() int {
		follower.lessor.renewals.mu.Lock()
		defer follower.lessor.renewals.mu.Unlock()
		return len(follower.lessor.renewals.gathered)
	}
	for gathered() < n-1 {
		time.Sleep(time.Millisecond)
	}
	release()
	for range n {
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
	}
	leader.leases.mu.Lock()
	defer leader.leases.mu.Unlock()
	if calls.Load() != 2 || together.Load() != 0 {
		return fmt.Sprintf("%d calls for %d renewals, %d at the same time as another", calls.Load(), n, together.Load())
	}
	if leader.leases.calls != n {
		return fmt.Sprintf("%d renewals, want %d", leader.leases.calls, n)
	}
	return ""
}

// TestUndecidedRenewalsHoldUpNobody: section 4.3. A renewal waits until it is known what becomes of its lease, and those
// behind it don't wait with it.
func TestUndecidedRenewalsHoldUpNobody(t *testing.T) {
	t.Parallel()
	fakes := newCluster(t, 2, long)
	leader, follower := fakes[0], fakes[1]
	decided := make(chan struct{})
	leader.leases.hook(func(ctx context.Context, id lease.ID) error {
		if id >= 0 {
			return nil
		}
		select {
		case <-decided:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	const going = 2 * renewalWorkers
	ends := make(chan error, going)
	for i := range going {
		leader.leases.grant(lease.ID(-1-i), 60)
		go func() {
			_, err := follower.lessor.RenewLease(t.Context(), lease.ID(-1-i))
			ends <- err
		}()
	}
	for id := range lease.ID(50) {
		leader.leases.grant(id, 60)
		if ttl, err := follower.lessor.RenewLease(t.Context(), id); ttl != 60 || err != nil {
			t.Fatal(ttl, err)
		}
		if id == 5 && len(ends) != 0 {
			t.Fatalf("decided although it can't be: %v", <-ends)
		}
		if id == 5 {
			close(decided)
		}
	}
	for range going {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}

// TestRenewalsOfOneCallAreBounded: those beyond go with the next one.
func TestRenewalsOfOneCallAreBounded(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	r := newRenewals(f.client, f)
	const n = renewalsMax + 3
	var all []*renewal
	for i := range n {
		all = append(all, &renewal{id: lease.ID(i)})
	}
	all[7].gone.Store(true)
	r.gathered = slices.Clone(all)
	first, second := r.take(), r.take()
	if len(first) != renewalsMax || len(second) != 2 || first[7] != all[8] || second[1] != all[n-1] {
		t.Errorf("%d and %d", len(first), len(second))
	}
	if r.take() != nil {
		t.Error("somebody is left")
	}
}

// TestLessorClose: who waits is let go, and whoever comes later is refused.
func TestLessorClose(t *testing.T) {
	fakes := newCluster(t, 2, long)
	follow(fakes, 0)
	f := fakes[1]
	ends := make(chan error, 1)
	go func() { _, err := f.lessor.RenewLease(t.Context(), 5); ends <- err }()
	running := func() bool {
		f.lessor.renewals.mu.Lock()
		defer f.lessor.renewals.mu.Unlock()
		return f.lessor.renewals.running
	}
	for !running() {
		time.Sleep(time.Millisecond)
	}
	f.lessor.Close()
	if err := <-ends; err != node.ErrStopped {
		t.Error(err)
	}
	if _, err := f.lessor.RenewLease(t.Context(), 5); err != node.ErrStopped {
		t.Error(err)
	}
}

// TestDeposedLeaderAsksTheNext: a member that finds out in the middle of a renewal that another leads asks that one.
func TestDeposedLeaderAsksTheNext(t *testing.T) {
	fakes := newCluster(t, 2, long)
	fakes[1].leases.grant(5, 60)
	fakes[0].leases.hook(func(context.Context, lease.ID) error {
		follow(fakes, 2)
		return node.ErrNotLeader
	})
	if ttl, err := fakes[0].lessor.RenewLease(t.Context(), 5); ttl != 60 || err != nil {
		t.Errorf("renewal: %d, %v", ttl, err)
	}
	follow(fakes, 1)
	if got, ok, err := fakes[0].lessor.LeaseTimes(t.Context(), 5); !ok || got.TTLSeconds != 60 || err != nil {
		t.Errorf("times: %+v, %v, %v", got, ok, err)
	}
}
