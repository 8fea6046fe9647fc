package peer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"keelson/command"
	"keelson/node"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/members"
)

// TestPromoteThroughAnyMember: section 5.4, trap 97.
func TestPromoteThroughAnyMember(t *testing.T) {
	for asked := range 3 {
		fakes := newCluster(t, 3, long)
		list, err := fakes[asked].promoter.Promote(t.Context(), 4)
		if err != nil || len(list) != 4 || list[3].IsLearner || list[3].Name != "m4" {
			t.Fatalf("through %d: %v, %v", asked+1, list, err)
		}
		if _, err := fakes[asked].promoter.Promote(t.Context(), 4); err != members.ErrNotLearner {
			t.Errorf("again, through %d: %v", asked+1, err)
		}
		if _, err := fakes[asked].promoter.Promote(t.Context(), 77); err != members.ErrNotFound {
			t.Errorf("unknown, through %d: %v", asked+1, err)
		}
		for i, f := range fakes {
			if _, changes := f.counts(); changes != map[bool]int{true: 3}[i == 0] {
				t.Errorf("through %d: member %d was asked %d times", asked+1, i+1, changes)
			}
		}
	}
}

// TestPromoteErrorsComeBack: section 5.4. What the leader says is what a follower says.
func TestPromoteErrorsComeBack(t *testing.T) {
	fakes := newCluster(t, 2, long)
	for _, want := range []error{
		node.ErrLearnerNotReady, node.ErrNotEnoughStarted, node.ErrUnhealthy, node.ErrTooManyRequests, node.ErrStopped,
		node.ErrTimeout, node.ErrTimeoutLeaderFail, node.ErrTimeoutConnectionLost, node.ErrTimeoutApplied,
	} {
		fakes[0].change = func(context.Context, command.Op) (state.Result, error) { return state.Result{}, want }
		for i, f := range fakes[:2] {
			if _, err := f.promoter.Promote(t.Context(), 3); err != want {
				t.Errorf("through %d: %v, want %v", i+1, err, want)
			}
		}
	}
	fakes[0].change = func(context.Context, command.Op) (state.Result, error) {
		return state.Result{}, fmt.Errorf("something else")
	}
	if _, err := fakes[1].promoter.Promote(t.Context(), 3); err == nil || err.Error() != "something else" {
		t.Errorf("unknown to the table: %v", err)
	}
}

// TestPromoteTakesTheCallerAlong: section 5.4, with the caller's credentials.
func TestPromoteTakesTheCallerAlong(t *testing.T) {
	fakes := newCluster(t, 2, long)
	var got string
	fakes[0].change = func(ctx context.Context, op command.Op) (state.Result, error) {
		got = tokenOf(ctx)
		return state.Result{}, node.ErrLearnerNotReady
	}
	for key, want := range map[string]string{rpctypes.TokenFieldNameGRPC: "secret.1", rpctypes.TokenFieldNameSwagger: "Bearer x", "other": ""} {
		value := want
		if want == "" {
			value = "nothing"
		}
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(key, value))
		if _, err := fakes[1].promoter.Promote(ctx, 3); err != node.ErrLearnerNotReady || got != want {
			t.Errorf("%s: %v, token %q, want %q", key, err, got, want)
		}
	}
}

// TestPromoteGivesUp: nobody leads, or who leads can't be reached.
func TestPromoteGivesUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(fakes []*fake)
		want  error
	}{
		{"nobody leads", func(fakes []*fake) { follow(fakes, 0) }, node.ErrNoLeader},
		{"the leader is gone", func(fakes []*fake) { fakes[0].stop() }, node.ErrTimeout},
		{"the leader does not answer", func(fakes []*fake) { fakes[0].serve(http.HandlerFunc(silent)) }, node.ErrTimeout},
		{"nobody admits to lead", func(fakes []*fake) {
			fakes[0].set(func(st *node.Status) { st.Leader, st.Leading = 2, false })
		}, node.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fakes := newCluster(t, 2, brief)
			c.spoil(fakes)
			if _, err := fakes[1].promoter.Promote(t.Context(), 3); err != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	fakes := newCluster(t, 2, long)
	follow(fakes, 0)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := fakes[1].promoter.Promote(gone, 3); err != node.ErrCanceled {
		t.Errorf("canceled: %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if _, err := fakes[1].promoter.Promote(late, 3); err != node.ErrTimeout {
		t.Errorf("late: %v", err)
	}
}

// TestPromoteWhoseReplyIsLost: the promotion came to pass, and asking again is no reason to say that it did not.
func TestPromoteWhoseReplyIsLost(t *testing.T) {
	fakes := newCluster(t, 2, long)
	leader, follower := fakes[0], fakes[1]
	real := *leader.handler.Load()
	var lost atomic.Bool
	leader.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lost.CompareAndSwap(false, true) {
			io.Copy(io.Discard, r.Body)
			for _, f := range fakes[:2] {
				if res, err := f.promoteInState(3); err != nil || res.Refusal != nil {
					t.Error(res.Refusal, err)
				}
			}
			panic(http.ErrAbortHandler)
		}
		real.ServeHTTP(w, r)
	}))
	list, err := follower.promoter.Promote(t.Context(), 3)
	if err != nil || len(list) != 3 || list[2].IsLearner {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := follower.promoter.Promote(t.Context(), 3); err != members.ErrNotLearner {
		t.Errorf("when nothing got lost: %v", err)
	}
}

// TestPromoteByCertificate: who has proven by a certificate who he is, and has no token, is named to the leader.
func TestPromoteByCertificate(t *testing.T) {
	fakes := newCluster(t, 2, long)
	var got auth.Caller
	fakes[0].change = func(ctx context.Context, op command.Op) (state.Result, error) {
		got, _ = auth.CallerOf(ctx)
		return state.Result{}, node.ErrLearnerNotReady
	}
	for _, who := range []auth.Caller{{User: "ann", Revision: 7}, {User: "a b/\u00e9\n%", Revision: 1 << 63}, {}} {
		got = auth.Caller{}
		if _, err := fakes[1].promoter.Promote(auth.WithCaller(t.Context(), who), 3); err != node.ErrLearnerNotReady || got != who {
			t.Errorf("%v became %v, %v", who, got, err)
		}
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(rpctypes.TokenFieldNameGRPC, "secret.1"))
	if got := vouchedFor(auth.WithCaller(ctx, auth.Caller{User: "ann", Revision: 7})); got != "" {
		t.Errorf("beside a token, %q", got)
	}
	for _, text := range []string{"x ann", "-1 ann", "1 %zz", ""} {
		if who, err := parseCaller(text); err == nil {
			t.Errorf("%q is %v", text, who)
		}
	}
}
