package ctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// simplePrinter is the format for people and for shell scripts.
type simplePrinter struct {
	w         io.Writer
	hex       bool
	valueOnly bool
}

// text is bytes as the format shows them.
func (p *simplePrinter) text(b []byte) string {
	if p.hex {
		return escaped(b)
	}
	return string(b)
}

// escaped writes every byte as \xNN.
func escaped(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

func (p *simplePrinter) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(p.w, format, args...)
	return err
}

func (p *simplePrinter) pair(kv *keyValue) error {
	if !p.valueOnly {
		if err := p.printf("%s\n", p.text(kv.Key)); err != nil {
			return err
		}
	}
	return p.printf("%s\n", p.text(kv.Value))
}

func (p *simplePrinter) get(r *clientv3.GetResponse) error {
	for _, kv := range r.Kvs {
		if err := p.pair(kv); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) put(r *clientv3.PutResponse) error {
	if err := p.printf("OK\n"); err != nil || r.PrevKv == nil {
		return err
	}
	return p.pair(r.PrevKv)
}

func (p *simplePrinter) del(r *clientv3.DeleteResponse) error {
	if err := p.printf("%d\n", r.Deleted); err != nil {
		return err
	}
	for _, kv := range r.PrevKvs {
		if err := p.pair(kv); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) txn(r *clientv3.TxnResponse) error {
	verdict := "FAILURE\n"
	if r.Succeeded {
		verdict = "SUCCESS\n"
	}
	if err := p.printf("%s", verdict); err != nil {
		return err
	}
	for _, response := range r.Responses {
		err := p.printf("\n")
		switch {
		case err != nil:
		case response.GetResponsePut() != nil:
			err = p.put((*clientv3.PutResponse)(response.GetResponsePut()))
		case response.GetResponseRange() != nil:
			err = p.get((*clientv3.GetResponse)(response.GetResponseRange()))
		case response.GetResponseDeleteRange() != nil:
			err = p.del((*clientv3.DeleteResponse)(response.GetResponseDeleteRange()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) watch(r *clientv3.WatchResponse) error {
	if r.IsProgressNotify() {
		return p.printf("progress notify: %d\n", r.Header.Revision)
	}
	for _, e := range r.Events {
		if err := p.printf("%s\n", e.Type); err != nil {
			return err
		}
		if e.PrevKv != nil {
			if err := p.pair(e.PrevKv); err != nil {
				return err
			}
		}
		if err := p.pair(e.Kv); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) grant(r *clientv3.LeaseGrantResponse) error {
	return p.printf("lease %016x granted with TTL(%ds)\n", r.ID, r.TTL)
}

func (p *simplePrinter) revoke(id clientv3.LeaseID, _ *clientv3.LeaseRevokeResponse) error {
	return p.printf("lease %016x revoked\n", id)
}

func (p *simplePrinter) keepAlive(r *clientv3.LeaseKeepAliveResponse) error {
	return p.printf("lease %016x keepalived with TTL(%d)\n", r.ID, r.TTL)
}

func (p *simplePrinter) timeToLive(r *clientv3.LeaseTimeToLiveResponse, keys bool) error {
	if r.GrantedTTL == 0 && r.TTL == -1 {
		return p.printf("lease %016x already expired\n", r.ID)
	}
	text := fmt.Sprintf("lease %016x granted with TTL(%ds), remaining(%ds)", r.ID, r.GrantedTTL, r.TTL)
	if keys {
		attached := make([]string, len(r.Keys))
		for i, key := range r.Keys {
			attached[i] = string(key)
		}
		text += fmt.Sprintf(", attached keys(%v)", attached)
	}
	return p.printf("%s\n", text)
}

func (p *simplePrinter) leases(r *clientv3.LeaseLeasesResponse) error {
	if err := p.printf("found %d leases\n", len(r.Leases)); err != nil {
		return err
	}
	for _, l := range r.Leases {
		if err := p.printf("%016x\n", l.ID); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) memberAdd(r *clientv3.MemberAddResponse) error {
	as := ""
	if r.Member.IsLearner {
		as = "as learner "
	}
	return p.printf("Member %16x added %sto cluster %16x\n", r.Member.ID, as, r.Header.ClusterId)
}

func (p *simplePrinter) memberRemove(id uint64, r *clientv3.MemberRemoveResponse) error {
	return p.printf("Member %16x removed from cluster %16x\n", id, r.Header.ClusterId)
}

func (p *simplePrinter) memberUpdate(id uint64, r *clientv3.MemberUpdateResponse) error {
	return p.printf("Member %16x updated in cluster %16x\n", id, r.Header.ClusterId)
}

func (p *simplePrinter) memberPromote(id uint64, r *clientv3.MemberPromoteResponse) error {
	return p.printf("Member %16x promoted in cluster %16x\n", id, r.Header.ClusterId)
}

func (p *simplePrinter) memberList(r *clientv3.MemberListResponse) error {
	_, rows := memberTable(r)
	return p.rows(rows)
}

func (p *simplePrinter) rows(rows [][]string) error {
	for _, row := range rows {
		if err := p.printf("%s\n", strings.Join(row, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// health prints what is well; what is not goes to stderr, and has been said already.
func (p *simplePrinter) health(list []endpointHealth) error {
	for _, h := range list {
		if h.Error != "" {
			continue
		}
		if err := p.printf("%s is healthy: successfully committed proposal: took = %s\n", h.Endpoint, h.Took); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) status(list []endpointStatus) error {
	_, rows := statusTable(list)
	return p.rows(rows)
}

func (p *simplePrinter) hashKV(list []endpointHashKV) error {
	_, rows := hashKVTable(list)
	return p.rows(rows)
}

func (p *simplePrinter) moveLeader(leader, target uint64, _ *clientv3.MoveLeaderResponse) error {
	return p.printf("Leadership transferred from %16x to %16x\n", leader, target)
}

func (p *simplePrinter) downgrade(action string, r *clientv3.DowngradeResponse) error {
	return p.printf("Downgrade %s success, cluster version %s\n", action, r.Version)
}

func (p *simplePrinter) alarm(r *clientv3.AlarmResponse) error {
	for _, a := range r.Alarms {
		if err := p.printf("memberID:%d alarm:%s\n", a.MemberID, a.Alarm); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) roleAdd(role string, _ *clientv3.AuthRoleAddResponse) error {
	return p.printf("Role %s created\n", role)
}

func (p *simplePrinter) roleDelete(role string, _ *clientv3.AuthRoleDeleteResponse) error {
	return p.printf("Role %s deleted\n", role)
}

func (p *simplePrinter) roleList(r *clientv3.AuthRoleListResponse) error {
	for _, role := range r.Roles {
		if err := p.printf("%s\n", role); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) roleGrant(role string, _ *clientv3.AuthRoleGrantPermissionResponse) error {
	return p.printf("Role %s updated\n", role)
}

func (p *simplePrinter) roleRevoke(role, key, end string, _ *clientv3.AuthRoleRevokePermissionResponse) error {
	if end == "" {
		return p.printf("Permission of key %s is revoked from role %s\n", key, role)
	}
	if end == openEnd {
		return p.printf("Permission of range [%s, <open ended> is revoked from role %s\n", key, role)
	}
	return p.printf("Permission of range [%s, %s) is revoked from role %s\n", key, end, role)
}

func (p *simplePrinter) roleGet(role string, r *clientv3.AuthRoleGetResponse) error {
	text := "Role " + role + "\n"
	if role == rootRole && len(r.Perm) == 0 {
		text += "KV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n"
		return p.printf("%s", text)
	}
	for _, side := range []struct {
		title string
		other authpb.Permission_Type
	}{{"KV Read:\n", authpb.Permission_READ}, {"KV Write:\n", authpb.Permission_WRITE}} {
		text += side.title
		for _, perm := range r.Perm {
			if perm.PermType == side.other || perm.PermType == authpb.Permission_READWRITE {
				text += "\t" + permittedRange(string(perm.Key), string(perm.RangeEnd)) + "\n"
			}
		}
	}
	return p.printf("%s", text)
}

// permittedRange is a range as role get shows it.
func permittedRange(key, end string) string {
	switch {
	case end == "":
		return key
	case end == openEnd:
		return "[" + key + ", <open ended>"
	case end == clientv3.GetPrefixRangeEnd(key):
		return "[" + key + ", " + end + ") (prefix " + key + ")"
	}
	return "[" + key + ", " + end + ")"
}

func (p *simplePrinter) userAdd(user string, _ *clientv3.AuthUserAddResponse) error {
	return p.printf("User %s created\n", user)
}

func (p *simplePrinter) userGet(user string, r *clientv3.AuthUserGetResponse) error {
	text := "User: " + user + "\nRoles:"
	for _, role := range r.Roles {
		text += " " + role
	}
	return p.printf("%s\n", text)
}

func (p *simplePrinter) userList(r *clientv3.AuthUserListResponse) error {
	for _, user := range r.Users {
		if err := p.printf("%s\n", user); err != nil {
			return err
		}
	}
	return nil
}

func (p *simplePrinter) userPassword(*clientv3.AuthUserChangePasswordResponse) error {
	return p.printf("Password updated\n")
}

func (p *simplePrinter) userGrant(user, role string, _ *clientv3.AuthUserGrantRoleResponse) error {
	return p.printf("Role %s is granted to user %s\n", role, user)
}

func (p *simplePrinter) userRevoke(user, role string, _ *clientv3.AuthUserRevokeRoleResponse) error {
	return p.printf("Role %s is revoked from user %s\n", role, user)
}

func (p *simplePrinter) userDelete(user string, _ *clientv3.AuthUserDeleteResponse) error {
	return p.printf("User %s deleted\n", user)
}

func (p *simplePrinter) authStatus(r *clientv3.AuthStatusResponse) error {
	return p.printf("Authentication Status: %v\nAuthRevision: %d\n", r.Enabled, r.AuthRevision)
}

// memberTable is member list as rows; simple and table show the same.
func memberTable(r *clientv3.MemberListResponse) (titles []string, rows [][]string) {
	for _, m := range r.Members {
		state := "started"
		if m.Name == "" {
			state = "unstarted"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%x", m.ID), state, m.Name, strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","), strconv.FormatBool(m.IsLearner),
		})
	}
	return []string{"ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"}, rows
}

func statusTable(list []endpointStatus) (titles []string, rows [][]string) {
	for _, s := range list {
		r := s.Status
		info := r.DowngradeInfo
		unused := int64(0)
		if r.DbSize > 0 {
			unused = int64(float64(r.DbSize-r.DbSizeInUse) / float64(r.DbSize) * 100)
		}
		rows = append(rows, []string{
			s.Endpoint, fmt.Sprintf("%x", r.Header.MemberId), r.Version, r.StorageVersion, cli.Bytes(r.DbSize), cli.Bytes(r.DbSizeInUse),
			fmt.Sprintf("%d%%", unused), cli.Bytes(r.DbSizeQuota), strconv.FormatBool(r.Leader == r.Header.MemberId), strconv.FormatBool(r.IsLearner),
			strconv.FormatUint(r.RaftTerm, 10), strconv.FormatUint(r.RaftIndex, 10), strconv.FormatUint(r.RaftAppliedIndex, 10),
			strings.Join(r.Errors, ", "), info.GetTargetVersion(), strconv.FormatBool(info.GetEnabled()),
		})
	}
	return []string{
		"Endpoint", "ID", "Version", "Storage Version", "DB Size", "In Use", "Percentage Not In Use", "Quota", "Is Leader", "Is Learner",
		"Raft Term", "Raft Index", "Raft Applied Index", "Errors", "Downgrade Target Version", "Downgrade Enabled",
	}, rows
}

func hashKVTable(list []endpointHashKV) (titles []string, rows [][]string) {
	for _, h := range list {
		rows = append(rows, []string{h.Endpoint, strconv.FormatUint(uint64(h.HashKV.Hash), 10), strconv.FormatInt(h.HashKV.HashRevision, 10)})
	}
	return []string{"Endpoint", "Hash", "Hash Revision"}, rows
}

func healthTable(list []endpointHealth) (titles []string, rows [][]string) {
	for _, h := range list {
		rows = append(rows, []string{h.Endpoint, strconv.FormatBool(h.Health), h.Took, h.Error})
	}
	return []string{"Endpoint", "Health", "Took", "Error"}, rows
}
