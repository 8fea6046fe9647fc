package differential

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/peer/process"
)

var authOps = flag.Int("auth-ops", 1500, "operations of TestAuthAgreement")

// authRun sends the same requests under the same names to both sides, with the tokens that each side has given.
type authRun struct {
	t      *testing.T
	rng    *rand.Rand
	sides  [2]*Side
	tokens [2]map[string]string // by user
	done   []string             // the operations so far
	tally  map[string]int       // outcomes seen
}

// The names in play. One user and one role never exist.
var (
	authUsers = []string{"root", "ann", "ben", "cid", "zoe"}
	authRoles = []string{"root", "r1", "r2", "r3", "r9"}
)

// caller says under whose name a request goes: a user, "" for nobody, "bad" for a token that is none.
func (r *authRun) caller() string {
	switch n := r.rng.IntN(20); {
	case n < 7:
		return "root"
	case n < 18:
		return authUsers[1+r.rng.IntN(3)]
	case n < 19:
		return ""
	}
	return "bad"
}

func (r *authRun) user() string      { return authUsers[r.rng.IntN(len(authUsers))] }
func (r *authRun) role() string      { return authRoles[r.rng.IntN(len(authRoles))] }
func (r *authRun) chance(n int) bool { return r.rng.IntN(n) == 0 }

func (r *authRun) key() []byte { return []byte{byte('a' + r.rng.IntN(6))} }

// keys is a range selector of a key at least. (Whether a user may read a range of no keys depends, in etcd, on the
// number of his permissions.)
func (r *authRun) keys() (key, end []byte) {
	key = r.key()
	switch r.rng.IntN(8) {
	case 0:
		return key, []byte{0}
	case 1, 2, 3:
		if end = r.key(); string(end) > string(key) {
			return key, end
		}
	case 4:
		if r.chance(3) {
			return []byte{0}, []byte{0}
		}
	}
	return key, nil
}

// granted is a range selector for a permission: each key has one end. (A role of etcd's may have the same permission twice if
// it has another one that begins with the same key.)
func (r *authRun) granted() (key, end []byte) {
	key = r.key()
	switch key[0] {
	case 'a':
		return key, []byte("c")
	case 'c':
		return key, []byte("e")
	case 'e':
		return key, []byte{0}
	}
	return key, nil
}

func (r *authRun) lease() int64 { return int64(1 + r.rng.IntN(4)) }

// op makes a request and says which method it is for.
func (r *authRun) op() (method string, request, reply proto.Message) {
	key, end := r.keys()
	switch n := r.rng.IntN(100); {
	case n < 14:
		return "KV/Range", &pb.RangeRequest{Key: key, RangeEnd: end, Serializable: r.chance(4), CountOnly: r.chance(6), KeysOnly: r.chance(6)}, &pb.RangeResponse{}
	case n < 30:
		return "KV/Put", r.put(), &pb.PutResponse{}
	case n < 36:
		return "KV/DeleteRange", &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: r.chance(3)}, &pb.DeleteRangeResponse{}
	case n < 48:
		return "KV/Txn", r.txn(2), &pb.TxnResponse{}
	case n < 50:
		return "Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: r.lease(), TTL: 3600}, &pb.LeaseGrantResponse{}
	case n < 52:
		return "Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: r.lease()}, &pb.LeaseRevokeResponse{}
	case n < 55:
		return "Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: r.lease(), Keys: r.chance(2)}, &pb.LeaseTimeToLiveResponse{}
	case n < 56:
		return "Lease/LeaseLeases", &pb.LeaseLeasesRequest{}, &pb.LeaseLeasesResponse{}
	case n < 57:
		return "Auth/AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}
	case n < 58:
		if r.chance(3) {
			return "Auth/AuthDisable", &pb.AuthDisableRequest{}, &pb.AuthDisableResponse{}
		}
		return "Auth/AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}
	case n < 60:
		return "Auth/AuthStatus", &pb.AuthStatusRequest{}, &pb.AuthStatusResponse{}
	case n < 63:
		u := r.user()
		if r.chance(12) {
			u = ""
		}
		noPassword := r.chance(5) && u != "root" // or else nobody could log in as root any more
		return "Auth/UserAdd", &pb.AuthUserAddRequest{Name: u, Password: u, Options: &authpb.UserAddOptions{NoPassword: noPassword}}, &pb.AuthUserAddResponse{}
	case n < 64:
		return "Auth/UserDelete", &pb.AuthUserDeleteRequest{Name: r.user()}, &pb.AuthUserDeleteResponse{}
	case n < 65:
		u := r.user()
		return "Auth/UserChangePassword", &pb.AuthUserChangePasswordRequest{Name: u, Password: u}, &pb.AuthUserChangePasswordResponse{}
	case n < 67:
		return "Auth/UserGet", &pb.AuthUserGetRequest{Name: r.user()}, &pb.AuthUserGetResponse{}
	case n < 68:
		return "Auth/UserList", &pb.AuthUserListRequest{}, &pb.AuthUserListResponse{}
	case n < 74:
		return "Auth/UserGrantRole", &pb.AuthUserGrantRoleRequest{User: r.user(), Role: r.role()}, &pb.AuthUserGrantRoleResponse{}
	case n < 76:
		return "Auth/UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: r.user(), Role: r.role()}, &pb.AuthUserRevokeRoleResponse{}
	case n < 79:
		role := r.role()
		if r.chance(12) {
			role = ""
		}
		return "Auth/RoleAdd", &pb.AuthRoleAddRequest{Name: role}, &pb.AuthRoleAddResponse{}
	case n < 80:
		return "Auth/RoleDelete", &pb.AuthRoleDeleteRequest{Role: r.role()}, &pb.AuthRoleDeleteResponse{}
	case n < 82:
		return "Auth/RoleGet", &pb.AuthRoleGetRequest{Role: r.role()}, &pb.AuthRoleGetResponse{}
	case n < 83:
		return "Auth/RoleList", &pb.AuthRoleListRequest{}, &pb.AuthRoleListResponse{}
	case n < 92:
		key, end = r.granted()
		p := &authpb.Permission{PermType: authpb.Permission_Type(r.rng.IntN(3)), Key: key, RangeEnd: end}
		if r.chance(15) {
			p = nil
		} else if r.chance(15) {
			p.Key = nil
		} else if r.chance(15) {
			p.RangeEnd = []byte{'a' + byte(r.rng.IntN(int(key[0]-'a')+1))} // of no keys
		}
		return "Auth/RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: r.role(), Perm: p}, &pb.AuthRoleGrantPermissionResponse{}
	case n < 94:
		if r.chance(2) {
			key, end = r.granted()
		}
		return "Auth/RoleRevokePermission", &pb.AuthRoleRevokePermissionRequest{Role: r.role(), Key: key, RangeEnd: end}, &pb.AuthRoleRevokePermissionResponse{}
	case n < 95:
		return "KV/Compact", &pb.CompactionRequest{Revision: int64(1 + r.rng.IntN(3))}, &pb.CompactionResponse{}
	case n < 96:
		return "Maintenance/Alarm", &pb.AlarmRequest{}, &pb.AlarmResponse{}
	case n < 97:
		return "Cluster/MemberRemove", &pb.MemberRemoveRequest{ID: 12345}, &pb.MemberRemoveResponse{}
	case n < 98:
		return "Maintenance/HashKV", &pb.HashKVRequest{}, &pb.HashKVResponse{}
	case n < 99:
		return "Maintenance/MoveLeader", &pb.MoveLeaderRequest{TargetID: 12345}, &pb.MoveLeaderResponse{}
	}
	return "KV/Put", &pb.PutRequest{}, &pb.PutResponse{} // of no shape
}

func (r *authRun) put() *pb.PutRequest {
	p := &pb.PutRequest{Key: r.key(), Value: []byte{byte('0' + r.rng.IntN(10))}, PrevKv: r.chance(3)}
	if r.chance(5) {
		p.Lease = r.lease()
	}
	return p
}

func (r *authRun) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	if r.chance(2) {
		key, end := r.keys()
		t.Compare = append(t.Compare, &pb.Compare{Key: key, RangeEnd: end, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{}})
	}
	for _, branch := range []*[]*pb.RequestOp{&t.Success, &t.Failure} {
		for range r.rng.IntN(3) {
			*branch = append(*branch, r.txnOp(depth))
		}
	}
	if len(t.Compare)+len(t.Success)+len(t.Failure) == 0 { // etcd lets anybody do nothing
		t.Success = []*pb.RequestOp{r.txnOp(depth)}
	}
	return t
}

func (r *authRun) txnOp(depth int) *pb.RequestOp {
	key, end := r.keys()
	switch n := r.rng.IntN(8); {
	case n < 3:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r.put()}}
	case n < 5 || depth == 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end}}}
	case n < 6:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: r.chance(3)}}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r.txn(depth - 1)}}
}

// ask sends a request to one side.
func (r *authRun) ask(side int, who, method string, request, reply proto.Message) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	token := r.tokens[side][who]
	if who == "bad" {
		token = "abcdefghijklmnop.1"
	}
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", token)
	}
	if err := r.sides[side].conn.Invoke(ctx, "/etcdserverpb."+method, request, reply); err != nil {
		st := status.Convert(err)
		return fmt.Sprintf("%v %q", st.Code(), st.Message())
	}
	normaliseHeaders(reply.ProtoReflect())
	if ttl, ok := reply.(*pb.LeaseTimeToLiveResponse); ok && ttl.TTL > 0 {
		ttl.TTL = 1
		slices.SortFunc(ttl.Keys, func(a, b []byte) int { return strings.Compare(string(a), string(b)) })
	}
	if role, ok := reply.(*pb.AuthRoleGetResponse); ok { // in etcd, those of one key have no order
		slices.SortFunc(role.Perm, func(a, b *authpb.Permission) int {
			return cmp.Or(strings.Compare(string(a.Key), string(b.Key)), strings.Compare(string(a.RangeEnd), string(b.RangeEnd)))
		})
	}
	if l, ok := reply.(*pb.LeaseLeasesResponse); ok {
		slices.SortFunc(l.Leases, func(a, b *pb.LeaseStatus) int { return int(a.ID - b.ID) })
	}
	return rendered(reply)
}

// both sends a request to both sides and holds the answers together.
func (r *authRun) both(who, method string, request, reply proto.Message) string {
	r.t.Helper()
	r.done = append(r.done, fmt.Sprintf("%q %s {%s}", who, method, rendered(request)))
	var got [2]string
	replies := [2]proto.Message{proto.Clone(reply), proto.Clone(reply)}
	for side := range r.sides {
		got[side] = r.ask(side, who, method, request, replies[side])
	}
	if q, ok := request.(*pb.RangeRequest); ok && got[0] != got[1] {
		again := func(q *pb.RangeRequest) []*mvccpb.KeyValue {
			var kvs pb.RangeResponse
			r.ask(0, who, "KV/Range", q, &kvs)
			return kvs.Kvs
		}
		a, b := replies[0].(*pb.RangeResponse), replies[1].(*pb.RangeResponse)
		if acceptLeases(q, a.Header.GetRevision(), a, b, again) {
			got[0] = rendered(a)
		}
	}
	if got[0] != got[1] {
		r.t.Fatalf("after\n%s\netcd answers    %s\nkeelson answers %s", strings.Join(r.done[max(0, len(r.done)-2000):], "\n"), got[0], got[1])
	}
	return got[0]
}

// login gets tokens for a user on both sides; either both give one, or both refuse with the same words.
func (r *authRun) login(name, password string) {
	r.t.Helper()
	var answers [2]string
	for side := range r.sides {
		var reply pb.AuthenticateResponse
		answers[side] = r.ask(side, "", "Auth/Authenticate", &pb.AuthenticateRequest{Name: name, Password: password}, &reply)
		if reply.Token != "" {
			r.tokens[side][name], answers[side] = reply.Token, "a token"
		}
	}
	r.done = append(r.done, fmt.Sprintf("login %q %q: %s", name, password, answers[0]))
	if answers[0] != answers[1] {
		r.t.Fatalf("after\n%s\netcd answers    %s\nkeelson answers %s", strings.Join(r.done[max(0, len(r.done)-2000):], "\n"), answers[0], answers[1])
	}
}

// enable has everybody say who he is, and has users who are not root, or else some seeds would lose them all and ask little
// that the others may not.
func (r *authRun) enable() {
	r.t.Helper()
	r.both("root", "Auth/UserAdd", &pb.AuthUserAddRequest{Name: "root", Password: "root"}, &pb.AuthUserAddResponse{})
	r.both("root", "Auth/UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}, &pb.AuthUserGrantRoleResponse{})
	r.both("root", "Auth/AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{})
	r.login("root", "root")
	for _, name := range authUsers[1:4] {
		if r.chance(2) {
			r.both("root", "Auth/UserAdd", &pb.AuthUserAddRequest{Name: name, Password: name}, &pb.AuthUserAddResponse{})
			r.both("root", "Auth/UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: name, Role: "root"}, &pb.AuthUserRevokeRoleResponse{})
		}
	}
}

// TestAuthAgreement runs random operations about users and roles, and others under users' names, against both: the same
// answers to the letter, to those who may and to those who may not.
func TestAuthAgreement(t *testing.T) {
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	t.Logf("seed %d: replay with -run TestAuthAgreement -seed %d", seed, seed)
	if _, err := os.Stat(*keelsonPath); err != nil {
		t.Fatalf("no binary to test: %v", err)
	}
	reference, candidate, end, err := servers(process.Keelson)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	r := &authRun{t: t, rng: rand.New(rand.NewPCG(seed, 0)), sides: [2]*Side{reference, candidate}, tally: map[string]int{}}
	r.tokens = [2]map[string]string{{}, {}}
	for _, name := range authUsers[:4] {
		r.both("", "Auth/UserAdd", &pb.AuthUserAddRequest{Name: name, Password: name}, &pb.AuthUserAddResponse{})
	}
	r.both("", "Auth/UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}, &pb.AuthUserGrantRoleResponse{})
	for _, role := range authRoles[1:4] {
		r.both("", "Auth/RoleAdd", &pb.AuthRoleAddRequest{Name: role}, &pb.AuthRoleAddResponse{})
	}
	r.both("", "Auth/AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{})
	for i := range *authOps {
		if i%20 == 0 {
			name := authUsers[(i/20)%len(authUsers)]
			password := name
			if r.chance(6) {
				password = "wrong"
			}
			r.login(name, password)
		}
		if i%50 == 0 { // or else it would stay disabled for long
			r.enable()
		}
		method, request, reply := r.op()
		who := r.caller()
		answer := r.both(who, method, request, reply)
		if slices.Contains(authUsers, who) && strings.Contains(answer, "etcdserver: invalid auth token") && r.chance(2) {
			r.login(who, who) // or else most of what some seeds do would be refused for its token
		}
		if strings.Contains(answer, "etcdserver: ") {
			r.tally[answer]++
		} else {
			r.tally["ok"]++
		}
	}
	for outcome, n := range r.tally {
		t.Logf("%5d %s", n, outcome)
	}
	if r.tally["ok"] < *authOps/10 || r.tally[`PermissionDenied "etcdserver: permission denied"`] < *authOps/20 {
		t.Errorf("one-sided: %v", r.tally)
	}
}
