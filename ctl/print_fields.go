package ctl

import (
	"fmt"
	"io"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fieldsPrinter writes one field a line, with names that do not change.
type fieldsPrinter struct {
	unsupported
	w   io.Writer
	hex bool
}

// line prints a name and a value; the value comes formatted.
func (p *fieldsPrinter) line(name, format string, args ...any) {
	fmt.Fprintf(p.w, "%q : "+format+"\n", append([]any{name}, args...)...)
}

// id prints a lease's or member's id.
func (p *fieldsPrinter) lease(name string, id int64) {
	if p.hex {
		p.line(name, "%016x", id)
		return
	}
	p.line(name, "%d", id)
}

func (p *fieldsPrinter) member(name string, id uint64) {
	if p.hex {
		p.line(name, "%x", id)
		return
	}
	p.line(name, "%d", id)
}

func (p *fieldsPrinter) header(h *header) error {
	p.member("ClusterID", h.GetClusterId())
	p.member("MemberID", h.GetMemberId())
	if h.GetRevision() > 0 { // answers about members have none
		p.line("Revision", "%d", h.GetRevision())
	}
	p.line("RaftTerm", "%d", h.GetRaftTerm())
	return nil
}

func (p *fieldsPrinter) pair(prefix string, kv *keyValue) {
	p.line(prefix+"Key", "%q", string(kv.Key))
	p.line(prefix+"CreateRevision", "%d", kv.CreateRevision)
	p.line(prefix+"ModRevision", "%d", kv.ModRevision)
	p.line(prefix+"Version", "%d", kv.Version)
	p.line(prefix+"Value", "%q", string(kv.Value))
	p.lease(prefix+"Lease", kv.Lease)
}

func (p *fieldsPrinter) get(r *clientv3.GetResponse) error {
	p.header(r.Header)
	for _, kv := range r.Kvs {
		p.pair("", kv)
	}
	p.line("More", "%v", r.More)
	p.line("Count", "%d", r.Count)
	return nil
}

func (p *fieldsPrinter) put(r *clientv3.PutResponse) error {
	p.header(r.Header)
	if r.PrevKv != nil {
		p.pair("Prev", r.PrevKv)
	}
	return nil
}

func (p *fieldsPrinter) del(r *clientv3.DeleteResponse) error {
	p.header(r.Header)
	p.line("Deleted", "%d", r.Deleted)
	for _, kv := range r.PrevKvs {
		p.pair("Prev", kv)
	}
	return nil
}

func (p *fieldsPrinter) txn(r *clientv3.TxnResponse) error {
	p.header(r.Header)
	p.line("Succeeded", "%v", r.Succeeded)
	for _, response := range r.Responses {
		switch {
		case response.GetResponsePut() != nil:
			p.put((*clientv3.PutResponse)(response.GetResponsePut()))
		case response.GetResponseRange() != nil:
			p.get((*clientv3.GetResponse)(response.GetResponseRange()))
		case response.GetResponseDeleteRange() != nil:
			p.del((*clientv3.DeleteResponse)(response.GetResponseDeleteRange()))
		}
	}
	return nil
}

func (p *fieldsPrinter) watch(r *clientv3.WatchResponse) error {
	p.header(r.Header)
	for _, e := range r.Events {
		p.line("Type", "%v", e.Type)
		if e.PrevKv != nil {
			p.pair("Prev", e.PrevKv)
		}
		p.pair("", e.Kv)
	}
	return nil
}

func (p *fieldsPrinter) grant(r *clientv3.LeaseGrantResponse) error {
	p.header(r.ResponseHeader)
	p.lease("ID", int64(r.ID))
	p.line("TTL", "%d", r.TTL)
	return nil
}

func (p *fieldsPrinter) revoke(_ clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) keepAlive(r *clientv3.LeaseKeepAliveResponse) error {
	p.header(r.ResponseHeader)
	p.lease("ID", int64(r.ID))
	p.line("TTL", "%d", r.TTL)
	return nil
}

func (p *fieldsPrinter) timeToLive(r *clientv3.LeaseTimeToLiveResponse, _ bool) error {
	p.header(r.ResponseHeader)
	p.lease("ID", int64(r.ID))
	p.line("TTL", "%d", r.TTL)
	p.line("GrantedTTL", "%d", r.GrantedTTL)
	for _, key := range r.Keys {
		p.line("Key", "%q", string(key))
	}
	return nil
}

func (p *fieldsPrinter) leases(r *clientv3.LeaseLeasesResponse) error {
	p.header(r.ResponseHeader)
	for _, l := range r.Leases {
		p.lease("ID", int64(l.ID))
	}
	return nil
}

func (p *fieldsPrinter) memberList(r *clientv3.MemberListResponse) error {
	p.header(r.Header)
	for _, m := range r.Members {
		p.member("ID", m.ID)
		p.line("Name", "%q", m.Name)
		for _, u := range m.PeerURLs {
			p.line("PeerURL", "%q", u)
		}
		for _, u := range m.ClientURLs {
			p.line("ClientURL", "%q", u)
		}
		p.line("IsLearner", "%v", m.IsLearner)
		fmt.Fprintln(p.w)
	}
	return nil
}

func (p *fieldsPrinter) health(list []endpointHealth) error {
	for _, h := range list {
		p.line("Endpoint", "%q", h.Endpoint)
		p.line("Health", "%v", h.Health)
		p.line("Took", "%v", h.Took)
		p.line("Error", "%v", h.Error)
		fmt.Fprintln(p.w)
	}
	return nil
}

func (p *fieldsPrinter) status(list []endpointStatus) error {
	for _, s := range list {
		r := s.Status
		p.header(r.Header)
		p.line("Version", "%q", r.Version)
		p.line("StorageVersion", "%q", r.StorageVersion)
		p.line("DBSize", "%d", r.DbSize)
		p.line("DBSizeInUse", "%d", r.DbSizeInUse)
		p.line("DBSizeQuota", "%d", r.DbSizeQuota)
		p.line("Leader", "%d", r.Leader)
		p.line("IsLearner", "%v", r.IsLearner)
		p.line("RaftIndex", "%d", r.RaftIndex)
		p.line("RaftTerm", "%d", r.RaftTerm)
		p.line("RaftAppliedIndex", "%d", r.RaftAppliedIndex)
		p.line("Errors", "%q", r.Errors)
		p.line("Endpoint", "%q", s.Endpoint)
		p.line("DowngradeTargetVersion", "%q", r.DowngradeInfo.GetTargetVersion())
		p.line("DowngradeEnabled", "%v", r.DowngradeInfo.GetEnabled())
		fmt.Fprintln(p.w)
	}
	return nil
}

func (p *fieldsPrinter) hashKV(list []endpointHashKV) error {
	for _, h := range list {
		p.header(h.HashKV.Header)
		p.line("Endpoint", "%q", h.Endpoint)
		p.line("Hash", "%d", h.HashKV.Hash)
		p.line("HashRevision", "%d", h.HashKV.HashRevision)
		fmt.Fprintln(p.w)
	}
	return nil
}

func (p *fieldsPrinter) alarm(r *clientv3.AlarmResponse) error {
	p.header(r.Header)
	for _, a := range r.Alarms {
		p.member("MemberID", a.MemberID)
		p.line("AlarmType", "%v", a.Alarm)
		fmt.Fprintln(p.w)
	}
	return nil
}

func (p *fieldsPrinter) roleAdd(_ string, r *clientv3.AuthRoleAddResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) roleGet(_ string, r *clientv3.AuthRoleGetResponse) error {
	p.header(r.Header)
	for _, perm := range r.Perm {
		p.line("PermType", " %s", perm.PermType)
		p.line("Key", "%q", string(perm.Key))
		p.line("RangeEnd", "%q", string(perm.RangeEnd))
	}
	return nil
}

func (p *fieldsPrinter) roleDelete(_ string, r *clientv3.AuthRoleDeleteResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) roleList(r *clientv3.AuthRoleListResponse) error {
	p.header(r.Header)
	text := `"Roles" :`
	for _, role := range r.Roles {
		text += fmt.Sprintf(" %q", role)
	}
	fmt.Fprintln(p.w, text)
	return nil
}

func (p *fieldsPrinter) roleGrant(_ string, r *clientv3.AuthRoleGrantPermissionResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) roleRevoke(_, _, _ string, r *clientv3.AuthRoleRevokePermissionResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) userAdd(_ string, r *clientv3.AuthUserAddResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) userPassword(r *clientv3.AuthUserChangePasswordResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) userGrant(_, _ string, r *clientv3.AuthUserGrantRoleResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) userRevoke(_, _ string, r *clientv3.AuthUserRevokeRoleResponse) error {
	return p.header(r.Header)
}

func (p *fieldsPrinter) userDelete(_ string, r *clientv3.AuthUserDeleteResponse) error {
	return p.header(r.Header)
}
