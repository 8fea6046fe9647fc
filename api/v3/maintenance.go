package v3

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"

	"keelson/command"
	"keelson/state/alarm"
	"keelson/state/members"
)

// storageVersion is the level of etcd's storage format that clients are told of.
const storageVersion = "3.7.0"

// StorageVersion is the level of etcd's storage format that clients are told of: on the way to an earlier version it is that
// one's, because that is what operators wait for before they replace members. Empty while the cluster has no version.
func StorageVersion(set *members.Set) string {
	switch {
	case set.Version() == "":
		return ""
	case set.Downgrade() != "":
		return set.Downgrade()
	}
	return storageVersion
}

// maintenance is the service Maintenance.
type maintenance struct {
	pb.UnimplementedMaintenanceServer
	s *Services
}

// Status describes this member. It needs no leader and no quorum.
func (m *maintenance) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	v := m.s.o.Member.ReadLocal()
	defer v.Close()
	st := m.s.o.Member.Status()
	total, inUse := m.s.o.Sizes()
	reply := &pb.StatusResponse{
		Header:           m.s.header(v.Revision()).message(),
		Version:          version.Version,
		DbSize:           total,
		DbSizeInUse:      inUse,
		DbSizeQuota:      m.s.o.QuotaBytes(),
		Leader:           st.Leader,
		RaftIndex:        st.Committed,
		RaftAppliedIndex: st.Applied,
		RaftTerm:         st.Term,
		IsLearner:        st.Learner,
		DowngradeInfo:    &pb.DowngradeInfo{},
		StorageVersion:   StorageVersion(v.Members()),
	}
	if target := v.Members().Downgrade(); target != "" {
		reply.DowngradeInfo = &pb.DowngradeInfo{Enabled: true, TargetVersion: target}
	}
	if st.Leader == 0 {
		reply.Errors = append(reply.Errors, rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader))
	}
	for _, a := range v.Alarms().List(alarm.None) {
		reply.Errors = append(reply.Errors, alarmText(a))
	}
	return reply, nil
}

// alarmText is an alarm as Status lists it: a member that is not known is left out.
func alarmText(a alarm.Alarm) string {
	text := "alarm:" + pb.AlarmType(a.Type).String()
	if a.Member != 0 {
		text = fmt.Sprintf("memberID:%d %s", a.Member, text)
	}
	return text
}

// Defragment gives back space on disk. Nobody has to ask for it, and nothing waits for it.
func (m *maintenance) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if m.s.o.Shrink != nil {
		if err := m.s.o.Shrink(ctx); err != nil {
			return nil, wireError(err)
		}
	}
	return &pb.DefragmentResponse{}, nil
}

// MoveLeader hands leadership to another voter, from the member that has it.
func (m *maintenance) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := m.s.o.Cluster.MoveLeader(ctx, r.TargetID); err != nil {
		return nil, wireError(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}

// Hash hashes everything this member holds.
func (m *maintenance) Hash(context.Context, *pb.HashRequest) (*pb.HashResponse, error) {
	hash, revision, err := m.s.o.Store.Hash()
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.HashResponse{Header: m.s.header(revision).message(), Hash: hash}, nil
}

// HashKV hashes the pairs as of a revision.
func (m *maintenance) HashKV(_ context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	hash, err := m.s.o.Store.HashKV(r.Revision)
	if err != nil {
		return nil, wireError(err)
	}
	return &pb.HashKVResponse{
		Header:          m.s.header(hash.Current).message(),
		Hash:            hash.Hash,
		CompactRevision: hash.Compacted,
		HashRevision:    hash.Revision,
	}, nil
}

// Alarm lists, raises or clears alarms. The reply names the alarms asked for, or the one that is raised or was cleared.
func (m *maintenance) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	var alarms []alarm.Alarm
	var err error
	switch r.Action {
	case pb.AlarmRequest_GET:
		alarms, err = m.alarms(ctx, alarm.Type(r.Alarm))
	case pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE:
		alarms, err = m.setAlarm(ctx, r)
	default:
		err = errUnknownMethod
	}
	if err != nil {
		return nil, err
	}
	reply := &pb.AlarmResponse{Header: m.s.currentHeader()}
	for _, a := range alarms {
		reply.Alarms = append(reply.Alarms, &pb.AlarmMember{MemberID: a.Member, Alarm: pb.AlarmType(a.Type)})
	}
	return reply, nil
}

// alarms lists the alarms of a type, with a quorum's consent.
func (m *maintenance) alarms(ctx context.Context, t alarm.Type) ([]alarm.Alarm, error) {
	v, err := m.s.view(ctx, false)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.Alarms().List(t), nil
}

func (m *maintenance) setAlarm(ctx context.Context, r *pb.AlarmRequest) ([]alarm.Alarm, error) {
	raise := r.Action == pb.AlarmRequest_ACTIVATE
	res, err := m.s.propose(ctx, &command.Alarm{Member: r.MemberID, Type: int32(r.Alarm), Raise: raise})
	if err != nil || res.Alarm == nil {
		return nil, err
	}
	return []alarm.Alarm{*res.Alarm}, nil
}
