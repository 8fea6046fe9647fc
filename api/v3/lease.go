package v3

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/command"
	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
)

// leaseTTLMaxSeconds is the longest TTL that can be asked for.
const leaseTTLMaxSeconds = 9_000_000_000

// leaseService is the service Lease.
type leaseService struct {
	pb.UnimplementedLeaseServer
	s *Services
}

// LeaseGrant makes a lease.
func (l *leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if !l.s.admitCost(ctx, leaseCostBytes) {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	if r.TTL > leaseTTLMaxSeconds {
		return nil, l.refuseTTL(ctx)
	}
	res, err := l.grant(ctx, r.ID, max(r.TTL, l.s.o.LeaseTTLMinSeconds))
	if err == nil {
		err = l.s.checkRoom(ctx, leaseCostBytes)
	}
	if err != nil {
		return nil, err
	}
	return &pb.LeaseGrantResponse{
		Header: l.s.header(res.Revision).message(),
		ID:     int64(res.Lease),
		TTL:    res.TTLSeconds,
	}, nil
}

// refuseTTL is why a lease of too long a life is refused: for an alarm that forbids any lease, or else for that.
func (l *leaseService) refuseTTL(ctx context.Context) error {
	v, err := l.s.view(ctx, false)
	if err != nil {
		return err
	}
	defer v.Close()
	switch alarms := v.Alarms(); {
	case alarms.Corrupt():
		return rpctypes.ErrGRPCCorrupt
	case alarms.NoSpace():
		return rpctypes.ErrGRPCNoSpace
	}
	return rpctypes.ErrGRPCLeaseTTLTooLarge
}

// grant proposes the lease; for id 0 it picks a free one.
func (l *leaseService) grant(ctx context.Context, id, ttlSeconds int64) (state.Result, error) {
	for {
		pick := id
		for pick == 0 {
			pick = int64(l.s.o.Chance.Uint64() & math.MaxInt64)
		}
		res, err := l.s.propose(ctx, &command.LeaseGrant{ID: pick, TTLSeconds: ttlSeconds})
		if id != 0 || err != rpctypes.ErrGRPCLeaseExist {
			return res, err
		}
	}
}

// LeaseRevoke ends a lease and removes its keys.
func (l *leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	res, err := l.s.propose(ctx, &command.LeaseRevoke{ID: r.ID})
	if err != nil {
		return nil, err
	}
	return &pb.LeaseRevokeResponse{Header: l.s.header(res.Revision).message()}, nil
}

// LeaseKeepAlive renews leases, one reply to each request, in order.
func (l *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			l.s.noteBroken("lease-keepalive", true, err)
			return wireError(err)
		}
		reply, err := l.renew(stream.Context(), r.ID)
		if err != nil {
			return err
		}
		if err := stream.Send(reply); err != nil {
			l.s.noteBroken("lease-keepalive", false, err)
			return wireError(err)
		}
	}
}

// renew renews one lease. The header is filled in first, so that it never claims a revision at which the lease may have
// been gone already.
func (l *leaseService) renew(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	reply := &pb.LeaseKeepAliveResponse{ID: id, Header: l.s.currentHeader()}
	ttl, err := l.s.o.Lessor.RenewLease(ctx, lease.ID(id))
	switch {
	case errors.Is(err, state.ErrLeaseNotFound):
		return reply, nil
	case errors.Is(err, node.ErrNotLeader):
		return nil, errNotPrimary
	case err != nil:
		return nil, wireError(err)
	}
	reply.TTL = ttl
	return reply, nil
}

// LeaseTimeToLive tells how long a lease has left. That it does not exist is no error. The time is the leader's; the keys
// are read here, once this member has all that the others have acknowledged.
func (l *leaseService) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	t, ok, err := l.s.o.Lessor.LeaseTimes(ctx, lease.ID(r.ID))
	if err != nil {
		return nil, wireError(err)
	}
	v, err := l.s.view(ctx, !r.Keys)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	reply := &pb.LeaseTimeToLiveResponse{Header: l.s.header(v.Revision()).message(), ID: r.ID, TTL: -1}
	if !ok {
		return reply, nil
	}
	if r.Keys {
		if _, reply.Keys, ok, err = v.LeaseWithKeys(lease.ID(r.ID)); err != nil {
			return nil, wireError(err)
		}
		if !ok { // revoked meanwhile
			return reply, nil
		}
		if err := l.s.mayRead(ctx, v, reply.Keys); err != nil {
			return nil, wireError(err)
		}
	}
	reply.TTL, reply.GrantedTTL = t.RemainingSeconds, t.TTLSeconds
	return reply, nil
}

// LeaseLeases lists the leases, the one that expires first in front. A member that does not lead can't tell which
// that is, and goes by their full TTLs.
func (l *leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	v, err := l.s.view(ctx, true)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	times := l.s.o.Lessor.Leases()
	if !l.s.o.Member.Status().Leading {
		if times, err = granted(v); err != nil {
			return nil, wireError(err)
		}
	}
	leases := make([]*pb.LeaseStatus, len(times))
	for i, t := range times {
		leases[i] = &pb.LeaseStatus{ID: int64(t.ID)}
	}
	return &pb.LeaseLeasesResponse{Header: l.s.header(v.Revision()).message(), Leases: leases}, nil
}

// granted lists the leases of a view by TTL, equal ones in the order they were granted.
func granted(v *state.View) ([]node.LeaseTimes, error) {
	var leases []lease.Lease
	err := v.Leases(func(l lease.Lease) bool {
		leases = append(leases, l)
		return true
	})
	slices.SortFunc(leases, func(a, b lease.Lease) int {
		switch {
		case a.TTLSeconds != b.TTLSeconds:
			return cmp.Compare(a.TTLSeconds, b.TTLSeconds)
		case a.Grant.Less(b.Grant):
			return -1
		}
		return 1
	})
	times := make([]node.LeaseTimes, len(leases))
	for i, l := range leases {
		times[i] = node.LeaseTimes{ID: l.ID, TTLSeconds: l.TTLSeconds, RemainingSeconds: l.TTLSeconds}
	}
	return times, err
}
