package ctl

import (
	"encoding/json"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// jsonPrinter writes responses as Go's encoding/json sees their structs: the names of the protobuf fields, bytes in base64,
// 64-bit numbers as numbers. --hex makes ids of members strings.
type jsonPrinter struct {
	w   io.Writer
	hex bool
}

func (p *jsonPrinter) value(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.w, string(b))
	return err
}

func (p *jsonPrinter) get(r *clientv3.GetResponse) error { return p.value(r) }

func (p *jsonPrinter) put(r *clientv3.PutResponse) error { return p.value(r) }

func (p *jsonPrinter) del(r *clientv3.DeleteResponse) error { return p.value(r) }

func (p *jsonPrinter) moveLeader(_, _ uint64, r *clientv3.MoveLeaderResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) downgrade(_ string, r *clientv3.DowngradeResponse) error { return p.value(r) }

func (p *jsonPrinter) alarm(r *clientv3.AlarmResponse) error { return p.value(r) }

func (p *jsonPrinter) roleAdd(_ string, r *clientv3.AuthRoleAddResponse) error { return p.value(r) }

func (p *jsonPrinter) roleGet(_ string, r *clientv3.AuthRoleGetResponse) error { return p.value(r) }

func (p *jsonPrinter) roleDelete(_ string, r *clientv3.AuthRoleDeleteResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) roleList(r *clientv3.AuthRoleListResponse) error { return p.value(r) }

func (p *jsonPrinter) roleGrant(_ string, r *clientv3.AuthRoleGrantPermissionResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) roleRevoke(_, _, _ string, r *clientv3.AuthRoleRevokePermissionResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) userAdd(_ string, r *clientv3.AuthUserAddResponse) error { return p.value(r) }

func (p *jsonPrinter) userGet(_ string, r *clientv3.AuthUserGetResponse) error { return p.value(r) }

func (p *jsonPrinter) userList(r *clientv3.AuthUserListResponse) error { return p.value(r) }

func (p *jsonPrinter) userPassword(r *clientv3.AuthUserChangePasswordResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) userGrant(_, _ string, r *clientv3.AuthUserGrantRoleResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) userRevoke(_, _ string, r *clientv3.AuthUserRevokeRoleResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) userDelete(_ string, r *clientv3.AuthUserDeleteResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) authStatus(r *clientv3.AuthStatusResponse) error { return p.value(r) }

func (p *jsonPrinter) watch(r *clientv3.WatchResponse) error { return p.value(r) }

func (p *jsonPrinter) grant(r *clientv3.LeaseGrantResponse) error { return p.value(r) }

func (p *jsonPrinter) revoke(_ clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) error {
	return p.value(r)
}

func (p *jsonPrinter) keepAlive(r *clientv3.LeaseKeepAliveResponse) error { return p.value(r) }

func (p *jsonPrinter) timeToLive(r *clientv3.LeaseTimeToLiveResponse, _ bool) error {
	return p.value(r)
}

func (p *jsonPrinter) leases(r *clientv3.LeaseLeasesResponse) error { return p.value(r) }

func (p *jsonPrinter) health(list []endpointHealth) error { return p.value(list) }

func (p *jsonPrinter) status(list []endpointStatus) error { return p.value(list) }

func (p *jsonPrinter) hashKV(list []endpointHashKV) error { return p.value(list) }

// txnJSON is a TxnResponse whose operations bear the protobuf names, which encoding/json does not know for a oneof.
type txnJSON struct {
	Header    *header      `json:"header,omitempty"`
	Succeeded bool         `json:"succeeded,omitempty"`
	Responses []responseOp `json:"responses,omitempty"`
}

type responseOp struct {
	Response struct {
		Range       *pb.RangeResponse       `json:"response_range,omitempty"`
		Put         *pb.PutResponse         `json:"response_put,omitempty"`
		DeleteRange *pb.DeleteRangeResponse `json:"response_delete_range,omitempty"`
		Txn         *txnJSON                `json:"response_txn,omitempty"`
	}
}

func newTxnJSON(r *pb.TxnResponse) *txnJSON {
	if r == nil {
		return nil
	}
	j := &txnJSON{Header: r.Header, Succeeded: r.Succeeded}
	for _, response := range r.Responses {
		var op responseOp
		op.Response.Range, op.Response.Put = response.GetResponseRange(), response.GetResponsePut()
		op.Response.DeleteRange, op.Response.Txn = response.GetResponseDeleteRange(), newTxnJSON(response.GetResponseTxn())
		j.Responses = append(j.Responses, op)
	}
	return j
}

func (p *jsonPrinter) txn(r *clientv3.TxnResponse) error {
	return p.value(newTxnJSON((*pb.TxnResponse)(r)))
}

// The member commands' answers with ids as strings.
type (
	hexHeader struct {
		ClusterID string `json:"cluster_id"`
		MemberID  string `json:"member_id"`
		Revision  int64  `json:"revision,omitempty"`
		RaftTerm  uint64 `json:"raft_term,omitempty"`
	}
	hexMember struct {
		ID         string   `json:"ID"`
		Name       string   `json:"name,omitempty"`
		PeerURLs   []string `json:"peerURLs,omitempty"`
		ClientURLs []string `json:"clientURLs,omitempty"`
		IsLearner  bool     `json:"isLearner,omitempty"`
	}
	hexMembers struct {
		Header  hexHeader   `json:"header"`
		Member  *hexMember  `json:"member,omitempty"`
		Members []hexMember `json:"members,omitempty"`
	}
)

func newHexMember(m *pb.Member) hexMember {
	return hexMember{ID: fmt.Sprintf("%x", m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
}

// members prints an answer about members: r itself, or with --hex its contents.
func (p *jsonPrinter) members(r any, h *header, member *pb.Member, members []*pb.Member) error {
	if !p.hex {
		return p.value(r)
	}
	j := hexMembers{Header: hexHeader{
		ClusterID: fmt.Sprintf("%x", h.ClusterId), MemberID: fmt.Sprintf("%x", h.MemberId), Revision: h.Revision, RaftTerm: h.RaftTerm,
	}}
	if member != nil {
		m := newHexMember(member)
		j.Member = &m
	}
	for _, m := range members {
		j.Members = append(j.Members, newHexMember(m))
	}
	return p.value(j)
}

func (p *jsonPrinter) memberAdd(r *clientv3.MemberAddResponse) error {
	return p.members(r, r.Header, r.Member, r.Members)
}

func (p *jsonPrinter) memberRemove(_ uint64, r *clientv3.MemberRemoveResponse) error {
	return p.members(r, r.Header, nil, r.Members)
}

func (p *jsonPrinter) memberUpdate(_ uint64, r *clientv3.MemberUpdateResponse) error {
	return p.members(r, r.Header, nil, r.Members)
}

func (p *jsonPrinter) memberPromote(_ uint64, r *clientv3.MemberPromoteResponse) error {
	return p.members(r, r.Header, nil, r.Members)
}

func (p *jsonPrinter) memberList(r *clientv3.MemberListResponse) error {
	return p.members(r, r.Header, nil, r.Members)
}
