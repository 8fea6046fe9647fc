package v3

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"keelson/command"
	"keelson/state/members"
)

// clusterService is the service Cluster. Its headers carry no revision. A reply to a change lists the members as they
// are after it, by id.
type clusterService struct {
	pb.UnimplementedClusterServer
	s *Services
}

// MemberAdd adds a voter or a learner. Whether the addresses make sense is checked before anything else.
func (c *clusterService) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	urls, err := parsePeerURLs(r.PeerURLs)
	if err != nil {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	add := &command.MemberAdd{
		ID:          members.ID(urls, "", c.s.o.Clock.Now().Unix()),
		PeerURLs:    urls,
		IsLearner:   r.IsLearner,
		LearnersMax: int64(c.s.o.MaxLearners),
		AutoPromote: r.IsLearner && asksAutoPromotion(ctx),
	}
	list, err := c.change(ctx, add)
	if err != nil {
		return nil, err
	}
	return &pb.MemberAddResponse{
		Header:  c.header(),
		Member:  &pb.Member{ID: add.ID, PeerURLs: urls, IsLearner: r.IsLearner},
		Members: list,
	}, nil
}

// autoPromoteKey is the metadata, not known to etcd, by which a caller asks that a learner become a voter by itself as soon as
// it has caught up.
const autoPromoteKey = "keelson-auto-promote"

func asksAutoPromotion(ctx context.Context) bool {
	return slices.Equal(metadata.ValueFromIncomingContext(ctx, autoPromoteKey), []string{"true"})
}

// MemberRemove removes a member for ever.
func (c *clusterService) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	list, err := c.change(ctx, &command.MemberRemove{ID: r.ID})
	if err != nil {
		return nil, err
	}
	return &pb.MemberRemoveResponse{Header: c.header(), Members: list}, nil
}

// MemberUpdate changes where the others reach a member. As in etcd, the addresses are taken as they are.
func (c *clusterService) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	list, err := c.change(ctx, &command.MemberUpdate{ID: r.ID, PeerURLs: slices.Sorted(slices.Values(r.PeerURLs))})
	if err != nil {
		return nil, err
	}
	return &pb.MemberUpdateResponse{Header: c.header(), Members: list}, nil
}

// MemberPromote makes a learner that has caught up a voter. The leader decides that, whichever member is asked.
func (c *clusterService) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	list, err := c.s.o.Promoter.Promote(ctx, r.ID)
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.MemberPromoteResponse{Header: c.header(), Members: memberMessages(list)}, nil
}

// MemberList lists the members.
func (c *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	v, err := c.s.view(ctx, !r.Linearizable)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return &pb.MemberListResponse{Header: c.header(), Members: memberMessages(v.Members().List())}, nil
}

// change carries out a change of the membership and lists the members. The error has its status.
func (c *clusterService) change(ctx context.Context, op command.Op) ([]*pb.Member, error) {
	if sizeCommand(op) > c.s.o.MaxRequestBytes {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	res, err := c.s.o.Cluster.ChangeMembers(ctx, op)
	if err == nil {
		err = res.Refusal
	}
	if err != nil {
		return nil, wireError(err)
	}
	v := c.s.o.Member.ReadLocal()
	defer v.Close()
	return memberMessages(v.Members().List()), nil
}

func (c *clusterService) header() *pb.ResponseHeader { return c.s.header(0).message() }

func memberMessages(list []members.Member) []*pb.Member {
	messages := make([]*pb.Member, len(list))
	for i, m := range list {
		messages[i] = &pb.Member{
			ID:         m.ID,
			Name:       m.Name,
			PeerURLs:   m.PeerURLs,
			ClientURLs: m.ClientURLs,
			IsLearner:  m.IsLearner,
		}
	}
	return messages
}
