package peer

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/api/identity"
	"keelson/node"
	"keelson/state/auth"
	"keelson/state/members"
	"keelson/state/mvcc"
)

// ErrOtherCluster: the member that was asked, or that asks, belongs to another cluster.
var ErrOtherCluster = errors.New("cluster ID mismatch")

// otherCluster is the text of ErrOtherCluster in replies; etcd writes it without a prefix.
const otherCluster = "cluster ID mismatch"

// wireErrors is the one table of the errors that members tell each other, and the HTTP status of a reply that is such an
// error. Whoever asked finds the error by its text. All others go out with status 500 and come back as nothing but their
// text.
var wireErrors = []struct {
	err    error
	text   string
	status int
}{
	{ErrOtherCluster, otherCluster, http.StatusPreconditionFailed},

	{members.ErrNotFound, rpctypes.ErrorDesc(rpctypes.ErrGRPCMemberNotFound), http.StatusNotFound},
	{members.ErrNotLearner, rpctypes.ErrorDesc(rpctypes.ErrGRPCMemberNotLearner), http.StatusPreconditionFailed},
	{node.ErrLearnerNotReady, rpctypes.ErrorDesc(rpctypes.ErrGRPCLearnerNotReady), http.StatusPreconditionFailed},
	{node.ErrNotEnoughStarted, rpctypes.ErrorDesc(rpctypes.ErrGRPCMemberNotEnoughStarted), http.StatusPreconditionFailed},
	{node.ErrUnhealthy, rpctypes.ErrorDesc(rpctypes.ErrGRPCUnhealthy), http.StatusPreconditionFailed},

	{identity.ErrInvalidToken, rpctypes.ErrorDesc(rpctypes.ErrGRPCInvalidAuthToken), http.StatusUnauthorized},
	{auth.ErrUserEmpty, rpctypes.ErrorDesc(rpctypes.ErrGRPCUserEmpty), http.StatusUnauthorized},
	{auth.ErrUserNotFound, rpctypes.ErrorDesc(rpctypes.ErrGRPCUserNotFound), http.StatusUnauthorized},
	{auth.ErrDenied, rpctypes.ErrorDesc(rpctypes.ErrGRPCPermissionDenied), http.StatusForbidden},

	{mvcc.ErrCompacted, rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted), http.StatusBadRequest},
	{mvcc.ErrFuture, rpctypes.ErrorDesc(rpctypes.ErrGRPCFutureRev), http.StatusBadRequest},

	{node.ErrNotLeader, rpctypes.ErrorDesc(rpctypes.ErrGRPCNotLeader), http.StatusServiceUnavailable},
	{node.ErrNoLeader, rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader), http.StatusServiceUnavailable},
	{node.ErrLeaderChanged, rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaderChanged), http.StatusServiceUnavailable},
	{node.ErrStopped, rpctypes.ErrorDesc(rpctypes.ErrGRPCStopped), http.StatusServiceUnavailable},
	{node.ErrTooManyRequests, rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests), http.StatusServiceUnavailable},

	{node.ErrTimeout, rpctypes.ErrorDesc(rpctypes.ErrGRPCTimeout), http.StatusRequestTimeout},
	{node.ErrTimeoutLeaderFail, rpctypes.ErrorDesc(rpctypes.ErrGRPCTimeoutDueToLeaderFail), http.StatusRequestTimeout},
	{node.ErrTimeoutConnectionLost, rpctypes.ErrorDesc(rpctypes.ErrGRPCTimeoutDueToConnectionLost), http.StatusRequestTimeout},
	{node.ErrTimeoutApplied, rpctypes.ErrorDesc(rpctypes.ErrGRPCTimeoutWaitAppliedIndex), http.StatusRequestTimeout},
	{context.DeadlineExceeded, "context deadline exceeded", http.StatusRequestTimeout},
}

// errorText is how an error is told to another member, and with which HTTP status.
func errorText(err error) (text string, status int) {
	for _, w := range wireErrors {
		if errors.Is(err, w.err) {
			return w.text, w.status
		}
	}
	return err.Error(), http.StatusInternalServerError
}

// textError is the error that another member told.
func textError(text string) error {
	text = strings.TrimSpace(text)
	for _, w := range wireErrors {
		if w.text == text {
			return w.err
		}
	}
	return errors.New(text)
}

// writeError makes an error the reply.
func writeError(w http.ResponseWriter, err error) {
	text, status := errorText(err)
	http.Error(w, text, status)
}
