package v3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"keelson/api/v3electionpb"
	"keelson/api/v3lockpb"
	"keelson/state"
)

// Services are the v3 services of one member.
type Services struct {
	o       Options
	reads   *chunks
	streams *openStreams
	long    longCalls
	health  *health.Server
}

// New makes the services. Close them after the server that serves them has stopped.
func New(o Options) *Services {
	o = o.withDefaults()
	return &Services{
		o:       o,
		reads:   newChunks(newBudget(o.ReadBudgetBytes, 0)),
		streams: newOpenStreams(newLeaderWatch(o.Clock, o.ElectionTimeout, func() bool { return o.Member.Status().Leader != 0 })),
		health:  health.NewServer(),
	}
}

// Register registers every service. The server must use Codec, Unary and Stream.
func (s *Services) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&kvDesc, &kv{s})
	pb.RegisterWatchServer(r, &watchService{s: s})
	pb.RegisterLeaseServer(r, &leaseService{s: s})
	pb.RegisterClusterServer(r, &clusterService{s: s})
	pb.RegisterMaintenanceServer(r, &maintenance{s: s})
	v3lockpb.RegisterLockServer(r, &lockService{s: s})
	v3electionpb.RegisterElectionServer(r, &electionService{s: s})
	pb.RegisterAuthServer(r, &authService{s: s})
	healthpb.RegisterHealthServer(r, s.health)
}

// Shutdown tells those who ask for health that the member is going away, ends all streams and all calls that wait for other
// clients with ErrGRPCStopped, and refuses new ones with it. Other calls go on. Tell the clients first that their
// connections go away: otherwise they ask for new streams on them.
func (s *Services) Shutdown() {
	s.health.Shutdown()
	s.streams.shutdown()
	s.long.shutdown()
}

// Close is Shutdown for good: it waits for the handlers of what Shutdown ends, which use all that is in Options. The server
// that served them must have stopped.
func (s *Services) Close() {
	s.Shutdown()
	s.streams.wait()
	s.long.wait()
}

// header is the header of a reply at this moment.
func (s *Services) header(revision int64) header {
	st := s.o.Member.Status()
	return header{cluster: st.ClusterID, member: st.MemberID, revision: revision, term: st.Term}
}

// message is the header as a message.
func (h header) message() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: h.cluster, MemberId: h.member, Revision: h.revision, RaftTerm: h.term}
}

// currentHeader is a header with the newest revision this member has.
func (s *Services) currentHeader() *pb.ResponseHeader {
	v := s.o.Member.ReadLocal()
	defer v.Close()
	return s.header(v.Revision()).message()
}

// admitCost asks the quota for room. A request that stores nothing always has it.
func (s *Services) admitCost(ctx context.Context, costBytes int64) bool {
	return costBytes == 0 || s.o.Quota == nil || s.o.Quota.Admit(ctx, costBytes)
}

// view opens the view that a read asks for, if by what it shows the caller may have it. The error has its status.
func (s *Services) view(ctx context.Context, serializable bool) (*state.View, error) {
	var v *state.View
	if serializable {
		v = s.o.Member.ReadLocal()
	} else {
		var err error
		if v, err = s.o.Member.Read(ctx); err != nil {
			return nil, wireError(err)
		}
	}
	if err := s.confirm(ctx, v); err != nil {
		v.Close()
		return nil, wireError(err)
	}
	return v, nil
}
