package ctl

import (
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"keelson/internal/cli"
)

// protobufPrinter writes the message as it came over the wire. Answers that the client made up of several messages are
// reduced to their header, as etcdctl has it.
type protobufPrinter struct {
	unsupported
	w io.Writer
}

func (p *protobufPrinter) message(m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return cli.With(cli.ExitError, err)
	}
	_, err = p.w.Write(b)
	return err
}

func (p *protobufPrinter) get(r *clientv3.GetResponse) error {
	return p.message((*pb.RangeResponse)(r))
}

func (p *protobufPrinter) put(r *clientv3.PutResponse) error {
	return p.message((*pb.PutResponse)(r))
}

func (p *protobufPrinter) del(r *clientv3.DeleteResponse) error {
	return p.message((*pb.DeleteRangeResponse)(r))
}

func (p *protobufPrinter) memberAdd(r *clientv3.MemberAddResponse) error {
	return p.message((*pb.MemberAddResponse)(r))
}

func (p *protobufPrinter) memberRemove(_ uint64, r *clientv3.MemberRemoveResponse) error {
	return p.message((*pb.MemberRemoveResponse)(r))
}

func (p *protobufPrinter) memberUpdate(_ uint64, r *clientv3.MemberUpdateResponse) error {
	return p.message((*pb.MemberUpdateResponse)(r))
}

func (p *protobufPrinter) memberPromote(_ uint64, r *clientv3.MemberPromoteResponse) error {
	return p.message((*pb.MemberPromoteResponse)(r))
}

func (p *protobufPrinter) memberList(r *clientv3.MemberListResponse) error {
	return p.message((*pb.MemberListResponse)(r))
}

func (p *protobufPrinter) moveLeader(_, _ uint64, r *clientv3.MoveLeaderResponse) error {
	return p.message((*pb.MoveLeaderResponse)(r))
}

func (p *protobufPrinter) downgrade(_ string, r *clientv3.DowngradeResponse) error {
	return p.message((*pb.DowngradeResponse)(r))
}

func (p *protobufPrinter) alarm(r *clientv3.AlarmResponse) error {
	return p.message((*pb.AlarmResponse)(r))
}

func (p *protobufPrinter) roleAdd(_ string, r *clientv3.AuthRoleAddResponse) error {
	return p.message((*pb.AuthRoleAddResponse)(r))
}

func (p *protobufPrinter) roleGet(_ string, r *clientv3.AuthRoleGetResponse) error {
	return p.message((*pb.AuthRoleGetResponse)(r))
}

func (p *protobufPrinter) roleDelete(_ string, r *clientv3.AuthRoleDeleteResponse) error {
	return p.message((*pb.AuthRoleDeleteResponse)(r))
}

func (p *protobufPrinter) roleList(r *clientv3.AuthRoleListResponse) error {
	return p.message((*pb.AuthRoleListResponse)(r))
}

func (p *protobufPrinter) roleGrant(_ string, r *clientv3.AuthRoleGrantPermissionResponse) error {
	return p.message((*pb.AuthRoleGrantPermissionResponse)(r))
}

func (p *protobufPrinter) roleRevoke(_, _, _ string, r *clientv3.AuthRoleRevokePermissionResponse) error {
	return p.message((*pb.AuthRoleRevokePermissionResponse)(r))
}

func (p *protobufPrinter) userAdd(_ string, r *clientv3.AuthUserAddResponse) error {
	return p.message((*pb.AuthUserAddResponse)(r))
}

func (p *protobufPrinter) userGet(_ string, r *clientv3.AuthUserGetResponse) error {
	return p.message((*pb.AuthUserGetResponse)(r))
}

func (p *protobufPrinter) userList(r *clientv3.AuthUserListResponse) error {
	return p.message((*pb.AuthUserListResponse)(r))
}

func (p *protobufPrinter) userPassword(r *clientv3.AuthUserChangePasswordResponse) error {
	return p.message((*pb.AuthUserChangePasswordResponse)(r))
}

func (p *protobufPrinter) userGrant(_, _ string, r *clientv3.AuthUserGrantRoleResponse) error {
	return p.message((*pb.AuthUserGrantRoleResponse)(r))
}

func (p *protobufPrinter) userRevoke(_, _ string, r *clientv3.AuthUserRevokeRoleResponse) error {
	return p.message((*pb.AuthUserRevokeRoleResponse)(r))
}

func (p *protobufPrinter) userDelete(_ string, r *clientv3.AuthUserDeleteResponse) error {
	return p.message((*pb.AuthUserDeleteResponse)(r))
}

func (p *protobufPrinter) authStatus(r *clientv3.AuthStatusResponse) error {
	return p.message((*pb.AuthStatusResponse)(r))
}

func (p *protobufPrinter) txn(r *clientv3.TxnResponse) error {
	return p.message((*pb.TxnResponse)(r))
}

// watch puts the events back into the message that they came in.
func (p *protobufPrinter) watch(r *clientv3.WatchResponse) error {
	m := &pb.WatchResponse{
		Header: r.Header, Created: r.Created, CompactRevision: r.CompactRevision, Canceled: r.Canceled, CancelReason: r.CancelReason,
	}
	for _, e := range r.Events {
		m.Events = append(m.Events, (*mvccpb.Event)(e))
	}
	return p.message(m)
}

func (p *protobufPrinter) grant(r *clientv3.LeaseGrantResponse) error {
	return p.message(r.ResponseHeader)
}

func (p *protobufPrinter) revoke(_ clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) error {
	return cli.Fail(cli.ExitBadFeature, "marshal unsupported for type %T (%v)", r, r)
}

func (p *protobufPrinter) keepAlive(r *clientv3.LeaseKeepAliveResponse) error {
	return p.message(r.ResponseHeader)
}

func (p *protobufPrinter) timeToLive(r *clientv3.LeaseTimeToLiveResponse, _ bool) error {
	return p.message(r.ResponseHeader)
}

func (p *protobufPrinter) leases(r *clientv3.LeaseLeasesResponse) error {
	return p.message(r.ResponseHeader)
}
