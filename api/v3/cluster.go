package v3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// clusterService is the service Cluster. Changes of the membership are not served yet.
type clusterService struct {
	pb.UnimplementedClusterServer
	s *Services
}

// MemberList lists the members by id.
func (c *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	v, err := c.s.view(ctx, !r.Linearizable)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	reply := &pb.MemberListResponse{Header: c.s.header(0).message()}
	for _, m := range v.Members().List() {
		reply.Members = append(reply.Members, &pb.Member{
			ID:         m.ID,
			Name:       m.Name,
			PeerURLs:   m.PeerURLs,
			ClientURLs: m.ClientURLs,
			IsLearner:  m.IsLearner,
		})
	}
	return reply, nil
}
