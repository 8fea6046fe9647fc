package v3

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/api/identity"
	"keelson/node"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/members"
	"keelson/state/mvcc"
)

// Errors of this layer, beside those that package rpctypes names.
var (
	// etcd sends these two as Unknown.
	errTooManyRequests  = status.Error(codes.Unknown, rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests))
	errNotEnoughStarted = status.Error(codes.Unknown, rpctypes.ErrorDesc(rpctypes.ErrGRPCMemberNotEnoughStarted))

	errNotPrimary      = status.Error(codes.Unknown, "not a primary lessor")
	errTransferTimeout = status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")
	errConfiguration   = status.Error(codes.Unknown, "etcdserver: "+members.ErrConfiguration.Error())
	errMisplaced       = status.Error(codes.Unknown, "etcdserver: "+state.ErrMisplaced.Error())
	errNoPassword      = status.Error(codes.Unknown, identity.ErrNoPassword.Error())
	errVerifyOnly      = status.Error(codes.Unknown, identity.ErrVerifyOnly.Error())
	errUnknownMethod   = status.Error(codes.Unknown, "etcdserver: unknown method")
	errReplyTooLarge   = status.Error(codes.ResourceExhausted, fmt.Sprintf("trying to send message larger than max (%d)", mvcc.AnswerBytesMax))
	errStreamSort      = status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	errStreamFilter    = status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
)

// statuses is the one table from what the packages below refuse with to what goes over the wire. Clients recognise
// errors by their text alone.
var statuses = []struct{ err, wire error }{
	{state.ErrEmptyKey, rpctypes.ErrGRPCEmptyKey},
	{state.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{state.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{state.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{state.ErrLeaseExists, rpctypes.ErrGRPCLeaseExist},
	{state.ErrStaleTerm, errNotPrimary},
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFuture, rpctypes.ErrGRPCFutureRev},
	{mvcc.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{mvcc.ErrTooLarge, errReplyTooLarge},
	{members.ErrNotFound, rpctypes.ErrGRPCMemberNotFound},
	{members.ErrExists, rpctypes.ErrGRPCMemberExist},
	{members.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{members.ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{members.ErrNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{members.ErrLastVoter, errNotEnoughStarted}, // what the strict checks say of it
	{members.ErrConfiguration, errConfiguration},
	{members.ErrDowngrading, rpctypes.ErrGRPCDowngradeInProcess},
	{members.ErrNotDowngrading, rpctypes.ErrGRPCNoInflightDowngrade},
	{state.ErrMisplaced, errMisplaced},
	{auth.ErrNoRoot, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrNoRootRole, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrUserExists, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrRoleExists, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrInvalidManagement, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrDenied, rpctypes.ErrGRPCPermissionDenied},
	{auth.ErrOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	{identity.ErrInvalidToken, rpctypes.ErrGRPCInvalidAuthToken},
	{identity.ErrWrongPassword, rpctypes.ErrGRPCAuthFailed},
	{identity.ErrNoPassword, errNoPassword},
	{identity.ErrVerifyOnly, errVerifyOnly},
	{identity.ErrBusy, errTooManyRequests},
	{node.ErrTimeout, rpctypes.ErrGRPCTimeout},
	{node.ErrStopped, rpctypes.ErrGRPCStopped},
	{node.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
	{node.ErrLeaderChanged, rpctypes.ErrGRPCLeaderChanged},
	{node.ErrTooManyRequests, errTooManyRequests},
	{node.ErrTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{node.ErrCanceled, rpctypes.ErrGRPCCanceled},
	{node.ErrDropped, status.Error(codes.Unknown, "raft proposal dropped")},
	{node.ErrNotLeader, rpctypes.ErrGRPCNotLeader},
	{node.ErrTimeoutLeaderFail, rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{node.ErrTimeoutConnectionLost, rpctypes.ErrGRPCTimeoutDueToConnectionLost},
	{node.ErrTimeoutApplied, rpctypes.ErrGRPCTimeoutWaitAppliedIndex},
	{node.ErrNotEnoughStarted, errNotEnoughStarted},
	{node.ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{node.ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
	{node.ErrBadTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
	{node.ErrTransferTimeout, errTransferTimeout},
}

// Text is an error as clients are told it.
func Text(err error) string { return status.Convert(wireError(err)).Message() }

// wireError turns any error into one with a gRPC status. Contexts' errors keep their own text; what the table does not
// know is a failure, and goes out as Unknown.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.wire
		}
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unknown, err.Error())
}
