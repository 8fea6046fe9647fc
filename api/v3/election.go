package v3

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"keelson/api/v3electionpb"
)

// electionService is the service Election. Its calls are made of those of KV, Lease and Watch.
type electionService struct {
	v3electionpb.UnimplementedElectionServer
	s *Services
}

var (
	errNoLeaderKey = errors.New(`"leader" field must be provided`)
	errNotElected  = errors.New("election: not leader")
	errNobodyLeads = errors.New("election: no leader")
)

// Campaign waits until the client's key is the first under the election's name. One that campaigns again changes its value.
func (e *electionService) Campaign(ctx context.Context, r *v3electionpb.CampaignRequest) (reply *v3electionpb.CampaignResponse, err error) {
	err = e.s.long.run(ctx, func(ctx context.Context) error {
		reply, err = e.campaign(ctx, r)
		return err
	})
	return reply, err
}

func (e *electionService) campaign(ctx context.Context, r *v3electionpb.CampaignRequest) (_ *v3electionpb.CampaignResponse, err error) {
	c := contest{inner{e.s}, r.Name}
	leaseID, end, err := c.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	defer func() { end(err) }()
	k, err := c.enter(ctx, leaseID, r.Value)
	if err != nil {
		return nil, err
	}
	leader := &v3electionpb.LeaderKey{Name: r.Name, Key: k.key, Rev: k.revision, Lease: leaseID}
	if !bytes.Equal(k.value, r.Value) {
		if _, err := e.proclaim(ctx, leader, r.Value); err != nil {
			k.leave(ctx)
			return nil, err
		}
	}
	if err := k.await(ctx); errors.Is(err, errGone) {
		return nil, errNotElected
	} else if err != nil {
		return nil, err
	}
	return &v3electionpb.CampaignResponse{Header: k.header, Leader: leader}, nil
}

// Proclaim changes the value of the one who leads.
func (e *electionService) Proclaim(ctx context.Context, r *v3electionpb.ProclaimRequest) (*v3electionpb.ProclaimResponse, error) {
	if r.Leader == nil {
		return nil, composite(ctx, errNoLeaderKey)
	}
	h, err := e.proclaim(ctx, r.Leader, r.Value)
	if err != nil {
		return nil, composite(ctx, err)
	}
	return &v3electionpb.ProclaimResponse{Header: h}, nil
}

func (e *electionService) proclaim(ctx context.Context, leader *v3electionpb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	reply, err := inner{e.s}.txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(leader.Key, leader.Rev)},
		Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: leader.Key, Value: value, Lease: leader.Lease})},
	})
	if err == nil && !reply.Succeeded {
		err = errNotElected
	}
	return reply.GetHeader(), err
}

// Leader tells who leads.
func (e *electionService) Leader(ctx context.Context, r *v3electionpb.LeaderRequest) (*v3electionpb.LeaderResponse, error) {
	c := contest{inner{e.s}, r.Name}
	reply, err := c.get(ctx, c.first())
	if err == nil && len(reply.Kvs) == 0 {
		err = errNobodyLeads
	}
	if err != nil {
		return nil, composite(ctx, err)
	}
	return &v3electionpb.LeaderResponse{Header: reply.Header, Kv: reply.Kvs[0]}, nil
}

// Resign gives up the leadership that is meant, if it has not ended already.
func (e *electionService) Resign(ctx context.Context, r *v3electionpb.ResignRequest) (*v3electionpb.ResignResponse, error) {
	if r.Leader == nil {
		return nil, composite(ctx, errNoLeaderKey)
	}
	reply, err := inner{e.s}.remove(ctx, r.Leader.Key, r.Leader.Rev)
	if err != nil {
		return nil, composite(ctx, err)
	}
	return &v3electionpb.ResignResponse{Header: reply.Header}, nil
}

// Observe tells who leads, then each value that the leader proclaims, then each leader that follows. While nobody leads it
// is silent.
func (e *electionService) Observe(r *v3electionpb.LeaderRequest, stream grpc.ServerStreamingServer[v3electionpb.LeaderResponse]) error {
	o := &observation{contest: contest{inner{e.s}, r.Name}, stream: stream}
	for {
		if err := o.leadership(stream.Context()); err != nil {
			return composite(stream.Context(), err)
		}
	}
}

// observation is one client's view of an election.
type observation struct {
	contest
	stream grpc.ServerStreamingServer[v3electionpb.LeaderResponse]
	// told is the newest pair that the client has been told of.
	told *mvccpb.KeyValue
}

// leadership tells of one leader, from its beginning or from now on, to its end.
func (o *observation) leadership(ctx context.Context) error {
	reply, err := o.get(ctx, o.first())
	if err != nil {
		return err
	}
	if len(reply.Kvs) == 0 {
		return o.follow(ctx, nil, reply.Header.Revision+1)
	}
	if err := o.tell(reply.Header, reply.Kvs[0]); err != nil {
		return err
	}
	return o.follow(ctx, reply.Kvs[0].Key, reply.Header.Revision+1)
}

// follow tells what becomes of a leader's key from a revision on, until it is deleted. Without a key it waits for the first
// of the election. It also returns when the revision has been compacted, and the state has to be looked at again.
func (o *observation) follow(ctx context.Context, key []byte, from int64) error {
	create := &pb.WatchCreateRequest{Key: key, StartRevision: from}
	if key == nil {
		create.Key = o.prefix()
		create.RangeEnd = prefixEnd(create.Key)
	}
	w := o.watch(ctx, create)
	defer w.close()
	for {
		r, err := w.next()
		if err != nil {
			return err
		}
		if r.Canceled {
			if r.CompactRevision == 0 {
				return errors.New(r.CancelReason)
			}
			return nil
		}
		for _, event := range r.Events {
			if event.Type == mvccpb.Event_DELETE {
				return nil // also without a key: then it was not the only one that came
			}
			if key == nil {
				key = event.Kv.Key
			}
			if !bytes.Equal(event.Kv.Key, key) {
				continue // whoever stands in line
			}
			h := r.Header
			h.Revision = event.Kv.ModRevision
			if err := o.tell(h, event.Kv); err != nil {
				return err
			}
		}
	}
}

// tell sends a leader's pair, unless the client knows that one or a newer one of this leadership.
func (o *observation) tell(h *pb.ResponseHeader, kv *mvccpb.KeyValue) error {
	if kv.CreateRevision == o.told.GetCreateRevision() && kv.ModRevision <= o.told.ModRevision {
		return nil
	}
	o.told = kv
	return o.stream.Send(&v3electionpb.LeaderResponse{Header: h, Kv: kv})
}
