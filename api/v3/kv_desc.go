package v3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// kvDesc describes the service etcdserverpb.KV to a gRPC server. It differs from the generated description in one
// thing: replies are *encoded.
var kvDesc = grpc.ServiceDesc{
	ServiceName: pb.KV_ServiceDesc.ServiceName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		kvMethod("Range", (*kv).Range),
		kvMethod("Put", (*kv).Put),
		kvMethod("DeleteRange", (*kv).DeleteRange),
		kvMethod("Txn", (*kv).Txn),
		kvMethod("Compact", (*kv).Compact),
	},
	Streams: []grpc.StreamDesc{{
		StreamName:    "RangeStream",
		ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			r := new(pb.RangeRequest)
			if err := stream.RecvMsg(r); err != nil {
				return err
			}
			return srv.(*kv).RangeStream(r, stream)
		},
	}},
	Metadata: pb.KV_ServiceDesc.Metadata,
}

func kvMethod[Request any](name string, call func(*kv, context.Context, *Request) (any, error)) grpc.MethodDesc {
	full := "/" + pb.KV_ServiceDesc.ServiceName + "/" + name
	reply := func(srv any, ctx context.Context, req any) (any, error) { return call(srv.(*kv), ctx, req.(*Request)) }
	info := &grpc.UnaryServerInfo{FullMethod: full} // one for all calls; nobody asks for the server
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			r := new(Request)
			if err := decode(r); err != nil {
				return nil, err
			}
			if intercept == nil {
				return reply(srv, ctx, r)
			}
			return intercept(ctx, r, info, func(ctx context.Context, req any) (any, error) { return reply(srv, ctx, req) })
		},
	}
}

// Deferrable names the methods that may answer later.
func Deferrable() []string {
	return []string{pb.KV_Range_FullMethodName, pb.KV_Put_FullMethodName, pb.KV_DeleteRange_FullMethodName, pb.KV_Txn_FullMethodName}
}

// MayDefer reports that calls of these methods do not wait before they hand their answer on. When there is little room they may, to
// raise an alarm; and after a start, for the state to catch up.
func (s *Services) MayDefer() bool {
	return s.caughtUp() && (s.o.Quota == nil || s.o.Quota.Ample())
}
