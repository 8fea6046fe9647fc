package v3

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"keelson/node"
	"keelson/rpc"
)

// Unary is the interceptor of unary calls. It goes inside the one that counts, so that what it refuses is counted.
func (s *Services) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		st := s.o.Member.Status()
		_, err := s.admit(ctx, st, "unary", !st.Learner || servedByLearner(req))
		if err == nil {
			err = s.admitState(ctx, info.FullMethod)
		}
		if err != nil {
			return nil, err
		}
		if d := rpc.Defer(ctx); d != nil {
			admitted, ok := s.authorizeAtOnce(ctx, info.FullMethod, req)
			if !ok {
				d.Go(func() { d.CompleteAndWrite(s.authorized(rpc.Undeferred(ctx), req, info, next)) })
				return d, nil
			}
			return next(admitted, req)
		}
		return s.authorized(ctx, req, info, next)
	}
}

// authorized carries out a call if it may have what it asks for.
func (s *Services) authorized(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authorize(ctx, info.FullMethod, req)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// Stream is the interceptor of streams. It goes inside the one that counts.
func (s *Services) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		st := s.o.Member.Status()
		served := !st.Learner || info.FullMethod == pb.Maintenance_Snapshot_FullMethodName
		needsLeader, err := s.admit(stream.Context(), st, "stream", served)
		if err == nil {
			err = s.admitState(stream.Context(), info.FullMethod)
		}
		if err != nil {
			return err
		}
		return s.streams.run(stream, needsLeader, func(stream grpc.ServerStream) error {
			return next(srv, s.authorizedStream(stream, info.FullMethod))
		})
	}
}

var (
	// ofState are the services that answer from the state.
	ofState = []string{"/etcdserverpb.KV/", "/etcdserverpb.Watch/", "/etcdserverpb.Lease/", "/v3lockpb.", "/v3electionpb."}
	// aboutState are the calls that tell how far the state has come or what it is, right or wrong.
	aboutState = []string{
		pb.Maintenance_Status_FullMethodName, pb.Maintenance_Hash_FullMethodName, pb.Maintenance_HashKV_FullMethodName,
		pb.Maintenance_Snapshot_FullMethodName,
	}
)

// admitState refuses what a member with a wrong state would answer wrongly, and holds back what one would answer from a state
// that is older than what it has answered from before.
func (s *Services) admitState(ctx context.Context, method string) error {
	if s.o.Corrupt != nil && s.o.Corrupt() && isOfState(method) {
		return rpctypes.ErrGRPCCorrupt
	}
	if s.caughtUp() || !isOfState(method) && !slices.Contains(aboutState, method) {
		return nil
	}
	select {
	case <-s.o.CaughtUp:
		return nil
	case <-ctx.Done():
		return status.FromContextError(context.Cause(ctx)).Err()
	}
}

func (s *Services) caughtUp() bool {
	if s.o.CaughtUp == nil {
		return true
	}
	select {
	case <-s.o.CaughtUp:
		return true
	default:
		return false
	}
}

func isOfState(method string) bool {
	for _, prefix := range ofState {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}

// EndCorrupt ends all streams under way, and calls that wait for others: what they tell may be wrong.
func (s *Services) EndCorrupt() {
	s.streams.endAll(rpctypes.ErrGRPCCorrupt)
	s.long.endAll(rpctypes.ErrGRPCCorrupt)
}

// servedByLearner tells the unary calls that a learner answers.
func servedByLearner(req any) bool {
	switch r := req.(type) {
	case *pb.StatusRequest:
		return true
	case *pb.RangeRequest:
		return r.Serializable
	}
	return false
}

// admit makes the checks that come before every call, in the order that decides which error wins. needsLeader says
// that the caller insists on a member that knows a leader.
func (s *Services) admit(ctx context.Context, st node.Status, kind string, served bool) (needsLeader bool, err error) {
	if s.o.Capable != nil && !s.o.Capable() {
		return false, rpctypes.ErrGRPCNotCapable
	}
	if !served {
		return false, rpctypes.ErrGRPCNotSupportedForLearner
	}
	version := "unknown"
	if v, ok := rpc.MetadataValue(ctx, rpctypes.MetadataClientAPIVersionKey); ok {
		version = v
	}
	if !utf8.ValidString(version) {
		return false, rpctypes.ErrGRPCInvalidClientAPIVersion
	}
	if s.o.Requests != nil {
		s.o.Requests.Count(kind, version)
	}
	v, _ := rpc.MetadataValue(ctx, rpctypes.MetadataRequireLeaderKey)
	needsLeader = v == rpctypes.MetadataHasLeader
	if needsLeader && st.Leader == 0 {
		return false, rpctypes.ErrGRPCNoLeader
	}
	return needsLeader, nil
}
