package ctl

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// printer writes one kind of response. There is one printer for each format; what a format has no shape for is an error
// with code 4.
type printer interface {
	get(*clientv3.GetResponse) error
	put(*clientv3.PutResponse) error
	del(*clientv3.DeleteResponse) error
	txn(*clientv3.TxnResponse) error
	watch(*clientv3.WatchResponse) error

	grant(*clientv3.LeaseGrantResponse) error
	revoke(clientv3.LeaseID, *clientv3.LeaseRevokeResponse) error
	keepAlive(*clientv3.LeaseKeepAliveResponse) error
	timeToLive(r *clientv3.LeaseTimeToLiveResponse, keys bool) error
	leases(*clientv3.LeaseLeasesResponse) error

	memberAdd(*clientv3.MemberAddResponse) error
	memberRemove(id uint64, r *clientv3.MemberRemoveResponse) error
	memberUpdate(id uint64, r *clientv3.MemberUpdateResponse) error
	memberPromote(id uint64, r *clientv3.MemberPromoteResponse) error
	memberList(*clientv3.MemberListResponse) error

	health([]endpointHealth) error
	status([]endpointStatus) error
	hashKV([]endpointHashKV) error
	moveLeader(leader, target uint64, r *clientv3.MoveLeaderResponse) error
	downgrade(action string, r *clientv3.DowngradeResponse) error
	alarm(*clientv3.AlarmResponse) error

	roleAdd(role string, r *clientv3.AuthRoleAddResponse) error
	roleGet(role string, r *clientv3.AuthRoleGetResponse) error
	roleDelete(role string, r *clientv3.AuthRoleDeleteResponse) error
	roleList(*clientv3.AuthRoleListResponse) error
	roleGrant(role string, r *clientv3.AuthRoleGrantPermissionResponse) error
	roleRevoke(role, key, end string, r *clientv3.AuthRoleRevokePermissionResponse) error
	userAdd(user string, r *clientv3.AuthUserAddResponse) error
	userGet(user string, r *clientv3.AuthUserGetResponse) error
	userList(*clientv3.AuthUserListResponse) error
	userPassword(*clientv3.AuthUserChangePasswordResponse) error
	userGrant(user, role string, r *clientv3.AuthUserGrantRoleResponse) error
	userRevoke(user, role string, r *clientv3.AuthUserRevokeRoleResponse) error
	userDelete(user string, r *clientv3.AuthUserDeleteResponse) error
	authStatus(*clientv3.AuthStatusResponse) error
}

// endpointHealth is what one endpoint had to say of its health.
type endpointHealth struct {
	Endpoint string `json:"endpoint"`
	Health   bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

type endpointStatus struct {
	Endpoint string                   `json:"Endpoint"`
	Status   *clientv3.StatusResponse `json:"Status"`
}

type endpointHashKV struct {
	Endpoint string                   `json:"Endpoint"`
	HashKV   *clientv3.HashKVResponse `json:"HashKV"`
}

// newPrinter is the one for --write-out.
func newPrinter(s *session) (printer, error) {
	switch s.flags.writeOut {
	case "simple":
		return &simplePrinter{w: s.out, hex: s.flags.hex}, nil
	case "json":
		return &jsonPrinter{w: s.out, hex: s.flags.hex}, nil
	case "fields":
		return &fieldsPrinter{unsupported: unsupported{"fields"}, w: s.out, hex: s.flags.hex}, nil
	case "protobuf":
		return &protobufPrinter{unsupported: unsupported{"protobuf"}, w: s.out}, nil
	case "table":
		return &tablePrinter{unsupported: unsupported{"table"}, w: s.out}, nil
	}
	return nil, cli.Fail(cli.ExitBadFeature, "unsupported output format")
}

// unsupported is a printer without a shape for anything: formats embed it and say what they can do.
type unsupported struct{ format string }

func (u unsupported) no() error {
	return cli.Fail(cli.ExitBadFeature, "%s not supported as output format", u.format)
}

func (u unsupported) get(*clientv3.GetResponse) error                               { return u.no() }
func (u unsupported) put(*clientv3.PutResponse) error                               { return u.no() }
func (u unsupported) del(*clientv3.DeleteResponse) error                            { return u.no() }
func (u unsupported) txn(*clientv3.TxnResponse) error                               { return u.no() }
func (u unsupported) watch(*clientv3.WatchResponse) error                           { return u.no() }
func (u unsupported) grant(*clientv3.LeaseGrantResponse) error                      { return u.no() }
func (u unsupported) revoke(clientv3.LeaseID, *clientv3.LeaseRevokeResponse) error  { return u.no() }
func (u unsupported) keepAlive(*clientv3.LeaseKeepAliveResponse) error              { return u.no() }
func (u unsupported) timeToLive(*clientv3.LeaseTimeToLiveResponse, bool) error      { return u.no() }
func (u unsupported) leases(*clientv3.LeaseLeasesResponse) error                    { return u.no() }
func (u unsupported) memberAdd(*clientv3.MemberAddResponse) error                   { return u.no() }
func (u unsupported) memberRemove(uint64, *clientv3.MemberRemoveResponse) error     { return u.no() }
func (u unsupported) memberUpdate(uint64, *clientv3.MemberUpdateResponse) error     { return u.no() }
func (u unsupported) memberPromote(uint64, *clientv3.MemberPromoteResponse) error   { return u.no() }
func (u unsupported) memberList(*clientv3.MemberListResponse) error                 { return u.no() }
func (u unsupported) health([]endpointHealth) error                                 { return u.no() }
func (u unsupported) status([]endpointStatus) error                                 { return u.no() }
func (u unsupported) hashKV([]endpointHashKV) error                                 { return u.no() }
func (u unsupported) moveLeader(uint64, uint64, *clientv3.MoveLeaderResponse) error { return u.no() }
func (u unsupported) downgrade(string, *clientv3.DowngradeResponse) error           { return u.no() }
func (u unsupported) alarm(*clientv3.AlarmResponse) error                           { return u.no() }
func (u unsupported) roleAdd(string, *clientv3.AuthRoleAddResponse) error           { return u.no() }
func (u unsupported) roleGet(string, *clientv3.AuthRoleGetResponse) error           { return u.no() }
func (u unsupported) roleDelete(string, *clientv3.AuthRoleDeleteResponse) error     { return u.no() }
func (u unsupported) roleList(*clientv3.AuthRoleListResponse) error                 { return u.no() }
func (u unsupported) roleGrant(string, *clientv3.AuthRoleGrantPermissionResponse) error {
	return u.no()
}
func (u unsupported) roleRevoke(string, string, string, *clientv3.AuthRoleRevokePermissionResponse) error {
	return u.no()
}
func (u unsupported) userAdd(string, *clientv3.AuthUserAddResponse) error         { return u.no() }
func (u unsupported) userGet(string, *clientv3.AuthUserGetResponse) error         { return u.no() }
func (u unsupported) userList(*clientv3.AuthUserListResponse) error               { return u.no() }
func (u unsupported) userPassword(*clientv3.AuthUserChangePasswordResponse) error { return u.no() }
func (u unsupported) userGrant(string, string, *clientv3.AuthUserGrantRoleResponse) error {
	return u.no()
}
func (u unsupported) userRevoke(string, string, *clientv3.AuthUserRevokeRoleResponse) error {
	return u.no()
}
func (u unsupported) userDelete(string, *clientv3.AuthUserDeleteResponse) error { return u.no() }
func (u unsupported) authStatus(*clientv3.AuthStatusResponse) error             { return u.no() }

// Shorthands of the printers.
type (
	header   = pb.ResponseHeader
	keyValue = mvccpb.KeyValue
)
