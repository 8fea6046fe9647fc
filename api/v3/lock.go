package v3

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/api/v3lockpb"
)

// lockService is the service Lock. Its calls are made of those of KV, Lease and Watch.
//
// A lock can be lost without its holder noticing, when the lease runs out. What it protects has to be fenced with the create
// revision of the lock's key.
type lockService struct {
	v3lockpb.UnimplementedLockServer
	s *Services
}

var errSessionExpired = errors.New("mutex: session is expired")

// Lock waits until the client's key is the first under the lock's name. A client whose lease holds the lock already has it
// at once.
func (l *lockService) Lock(ctx context.Context, r *v3lockpb.LockRequest) (reply *v3lockpb.LockResponse, err error) {
	err = l.s.long.run(ctx, func(ctx context.Context) error {
		reply, err = l.lock(ctx, r)
		return err
	})
	return reply, err
}

func (l *lockService) lock(ctx context.Context, r *v3lockpb.LockRequest) (_ *v3lockpb.LockResponse, err error) {
	c := contest{inner{l.s}, r.Name}
	leaseID, end, err := c.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	defer func() { end(err) }()
	k, err := c.enter(ctx, leaseID, nil)
	if err != nil {
		return nil, err
	}
	if err := k.await(ctx); errors.Is(err, errGone) {
		return nil, errSessionExpired
	} else if err != nil {
		return nil, err
	}
	return &v3lockpb.LockResponse{Header: k.header, Key: k.key}, nil
}

// Unlock deletes a lock's key. The key is deleted as it is at the time of the call: a later lock of the same lease, which has
// the same key, has another create revision. Who may write the key but not read it deletes what is there.
func (l *lockService) Unlock(ctx context.Context, r *v3lockpb.UnlockRequest) (*v3lockpb.UnlockResponse, error) {
	i := inner{l.s}
	found, err := i.get(ctx, &pb.RangeRequest{Key: r.Key, KeysOnly: true})
	if errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
		reply, err := i.txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{deletion(r.Key)}})
		if err != nil {
			return nil, composite(ctx, err)
		}
		return &v3lockpb.UnlockResponse{Header: reply.Header}, nil
	}
	if err != nil {
		return nil, composite(ctx, err)
	}
	if len(found.Kvs) == 0 {
		return &v3lockpb.UnlockResponse{Header: found.Header}, nil
	}
	reply, err := i.remove(ctx, r.Key, found.Kvs[0].CreateRevision)
	if err != nil {
		return nil, composite(ctx, err)
	}
	return &v3lockpb.UnlockResponse{Header: reply.Header}, nil
}
