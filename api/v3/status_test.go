package v3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/api/identity"
	"keelson/node"
	"keelson/state"
	"keelson/state/members"
	"keelson/state/mvcc"
)

// nodeErrors are all sentinels of package node.
var nodeErrors = []error{
	node.ErrTimeout, node.ErrStopped, node.ErrNoLeader, node.ErrLeaderChanged, node.ErrTooManyRequests, node.ErrTooLarge,
	node.ErrCanceled, node.ErrDropped, node.ErrNotLeader, node.ErrTimeoutLeaderFail, node.ErrTimeoutConnectionLost,
	node.ErrTimeoutApplied, node.ErrNotEnoughStarted, node.ErrUnhealthy, node.ErrLearnerNotReady, node.ErrBadTransferee,
	node.ErrTransferTimeout,
}

// identityErrors are the sentinels of package identity that a call can meet.
var identityErrors = []error{
	identity.ErrInvalidToken, identity.ErrWrongPassword, identity.ErrNoPassword, identity.ErrVerifyOnly, identity.ErrBusy,
}

// readErrors are what only reading can meet.
var readErrors = []error{mvcc.ErrTooLarge}

// TestStatusesGolden compares the table, code and text, with testdata/statuses.txt, which was written from chapter 10 of
// the API's specification. Clients go by these texts.
func TestStatusesGolden(t *testing.T) {
	var got strings.Builder
	for _, s := range statuses {
		st := status.Convert(wireError(s.err))
		fmt.Fprintf(&got, "%-18s %s | %s\n", st.Code(), st.Message(), s.err)
	}
	want, err := os.ReadFile("testdata/statuses.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("table is\n%s\nwant\n%s", got.String(), want)
	}
}

// TestEveryRefusalHasItsStatus walks all refusals of the state and all errors of the node through the table.
func TestEveryRefusalHasItsStatus(t *testing.T) {
	seen := map[string]error{}
	for _, err := range slices.Concat(state.Refusals(), nodeErrors, identityErrors, readErrors) {
		wire := wireError(err)
		if !slices.ContainsFunc(statuses, func(s struct{ err, wire error }) bool { return s.err == err && s.wire == wire }) {
			t.Errorf("%v is not in the table: it goes out as %v", err, wire)
		}
		if other, ok := seen[wire.Error()]; ok && err != members.ErrLastVoter && other != members.ErrLastVoter && err != identity.ErrBusy {
			t.Errorf("%v and %v both go out as %v", err, other, wire)
		}
		seen[wire.Error()] = err
	}
	if want := len(state.Refusals()) + len(nodeErrors) + len(identityErrors) + len(readErrors); len(statuses) != want {
		t.Errorf("the table has %d rows for %d errors", len(statuses), want)
	}
}

func TestWireError(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code codes.Code
		text string
	}{
		{"wrapped refusal", fmt.Errorf("somewhere: %w", state.ErrNoSpace), codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
		{"status passes", rpctypes.ErrGRPCTooManyOps, codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{"canceled context", context.Canceled, codes.Canceled, "context canceled"},
		{"wrapped deadline", fmt.Errorf("read: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "read: context deadline exceeded"},
		{"failure", errors.New("storage: get: disk gone"), codes.Unknown, "storage: get: disk gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := status.Convert(wireError(c.err))
			if st.Code() != c.code || st.Message() != c.text {
				t.Errorf("got %v %q, want %v %q", st.Code(), st.Message(), c.code, c.text)
			}
		})
	}
	if wireError(nil) != nil {
		t.Error("no error became one")
	}
}
