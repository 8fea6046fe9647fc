package differential

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// probe is one call of another service; local, if a member without a quorum answers it at once.
type probe struct {
	name  string
	local bool
	do    func(context.Context, grpc.ClientConnInterface) error
}

var probes = []probe{
	{"range", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		return err
	}},
	{"serializable range", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
		return err
	}},
	{"put", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("k")})
		return err
	}},
	{"delete", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewKVClient(conn).DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("none")})
		return err
	}},
	{"empty transaction", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewKVClient(conn).Txn(ctx, &pb.TxnRequest{})
		return err
	}},
	{"serializable transaction", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k"), Serializable: true}}}
		_, err := pb.NewKVClient(conn).Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{get}})
		return err
	}},
	{"compact", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewKVClient(conn).Compact(ctx, &pb.CompactionRequest{Revision: 1 << 40})
		return err
	}},
	{"grant", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
		return err
	}},
	{"leases", false, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewLeaseClient(conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		return err
	}},
	{"alarms", false, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewMaintenanceClient(conn).Alarm(ctx, &pb.AlarmRequest{})
		return err
	}},
	{"hash", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewMaintenanceClient(conn).HashKV(ctx, &pb.HashKVRequest{})
		return err
	}},
	{"defragment", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := pb.NewMaintenanceClient(conn).Defragment(ctx, &pb.DefragmentRequest{})
		return err
	}},
	{"watch", true, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		stream, err := pb.NewWatchClient(conn).Watch(ctx)
		if err != nil {
			return err
		}
		create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}
		if err := stream.Send(create); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}},
}
