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

func kvMethod[Request any](name string, call func(*kv, context.Context, *Request) (*encoded, error)) grpc.MethodDesc {
	full := "/" + pb.KV_ServiceDesc.ServiceName + "/" + name
	// A nil *encoded must not become a reply that is not nil.
	reply := func(srv any, ctx context.Context, req any) (any, error) {
		e, err := call(srv.(*kv), ctx, req.(*Request))
		if err != nil {
			return nil, err
		}
		return e, nil
	}
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
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: full}
			return intercept(ctx, r, info, func(ctx context.Context, req any) (any, error) { return reply(srv, ctx, req) })
		},
	}
}
