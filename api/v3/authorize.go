package v3

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"keelson/api/v3electionpb"
	"keelson/api/v3lockpb"
	"keelson/command"
	"keelson/command/wire"
	"keelson/state"
	"keelson/state/auth"
)

// rule says what a method asks for, for package auth to decide. A method without a rule is refused where users have to say
// who they are.
type rule struct {
	// request is what a message asks for. It is called with messages that have passed before.
	request func(message any) auth.Request
	// before, if set, is what is wrong with a message whoever has sent it, and wins over what is wrong with the sender.
	before func(ctx context.Context, s *Services, message any) error
	// anonymous: nobody looks at who is asking, not even whether a token is good.
	anonymous bool
}

// rules has a row for every method of every service.
var rules = map[string]rule{
	pb.KV_Range_FullMethodName:       of(func(r *pb.RangeRequest) auth.Request { return wire.Range(r) }).after(first(checkRange)),
	pb.KV_RangeStream_FullMethodName: of(func(r *pb.RangeRequest) auth.Request { return wire.Range(r) }).after(first(checkRange)),
	pb.KV_Put_FullMethodName:         of(func(r *pb.PutRequest) auth.Request { return wire.Put(r) }).after(beforePut),
	pb.KV_DeleteRange_FullMethodName: of(func(r *pb.DeleteRangeRequest) auth.Request { return wire.DeleteRange(r) }).after(first(checkDeleteRange)),
	pb.KV_Txn_FullMethodName:         of(func(r *pb.TxnRequest) auth.Request { return wire.Txn(r) }).after(beforeTxn),
	pb.KV_Compact_FullMethodName:     administration,

	// A watch is decided upon when its range is known: see watchService.
	pb.Watch_Watch_FullMethodName: everybody,

	pb.Lease_LeaseGrant_FullMethodName:     anyUser.after(beforeGrant),
	pb.Lease_LeaseRevoke_FullMethodName:    of(func(r *pb.LeaseRevokeRequest) auth.Request { return &command.LeaseRevoke{ID: r.ID} }),
	pb.Lease_LeaseKeepAlive_FullMethodName: of(func(r *pb.LeaseKeepAliveRequest) auth.Request { return auth.LeaseRenew{ID: r.ID} }),
	pb.Lease_LeaseTimeToLive_FullMethodName: of(func(r *pb.LeaseTimeToLiveRequest) auth.Request {
		return auth.LeaseLookup{ID: r.ID, Keys: r.Keys}
	}),
	pb.Lease_LeaseLeases_FullMethodName: always(auth.LeaseList{}),

	pb.Cluster_MemberAdd_FullMethodName:     administration.after(beforeMemberAdd),
	pb.Cluster_MemberRemove_FullMethodName:  administration,
	pb.Cluster_MemberUpdate_FullMethodName:  administration,
	pb.Cluster_MemberPromote_FullMethodName: administration,
	pb.Cluster_MemberList_FullMethodName:    anyUser,

	pb.Maintenance_Alarm_FullMethodName:      of(alarmRequest),
	pb.Maintenance_Status_FullMethodName:     anyUser,
	pb.Maintenance_Defragment_FullMethodName: administration,
	pb.Maintenance_Hash_FullMethodName:       administration,
	pb.Maintenance_HashKV_FullMethodName:     administration,
	pb.Maintenance_Snapshot_FullMethodName:   administration,
	pb.Maintenance_MoveLeader_FullMethodName: administration,
	pb.Maintenance_Downgrade_FullMethodName:  administration,

	pb.Auth_AuthEnable_FullMethodName:           administration,
	pb.Auth_AuthDisable_FullMethodName:          administration,
	pb.Auth_AuthStatus_FullMethodName:           always(auth.Public{}),
	pb.Auth_Authenticate_FullMethodName:         everybody,
	pb.Auth_UserAdd_FullMethodName:              administration,
	pb.Auth_UserGet_FullMethodName:              of(func(r *pb.AuthUserGetRequest) auth.Request { return auth.UserLookup{Name: r.Name} }),
	pb.Auth_UserList_FullMethodName:             administration,
	pb.Auth_UserDelete_FullMethodName:           administration,
	pb.Auth_UserChangePassword_FullMethodName:   administration,
	pb.Auth_UserGrantRole_FullMethodName:        administration,
	pb.Auth_UserRevokeRole_FullMethodName:       administration,
	pb.Auth_RoleAdd_FullMethodName:              administration,
	pb.Auth_RoleGet_FullMethodName:              of(func(r *pb.AuthRoleGetRequest) auth.Request { return auth.RoleLookup{Name: r.Role} }),
	pb.Auth_RoleList_FullMethodName:             administration,
	pb.Auth_RoleDelete_FullMethodName:           administration,
	pb.Auth_RoleGrantPermission_FullMethodName:  administration,
	pb.Auth_RoleRevokePermission_FullMethodName: administration,

	// Locks and elections are made of other calls, which are decided upon one by one: see inner.
	v3lockpb.Lock_Lock_FullMethodName:             everybody,
	v3lockpb.Lock_Unlock_FullMethodName:           everybody,
	v3electionpb.Election_Campaign_FullMethodName: everybody,
	v3electionpb.Election_Proclaim_FullMethodName: everybody,
	v3electionpb.Election_Leader_FullMethodName:   everybody,
	v3electionpb.Election_Observe_FullMethodName:  everybody,
	v3electionpb.Election_Resign_FullMethodName:   everybody,

	healthpb.Health_Check_FullMethodName: everybody,
	healthpb.Health_Watch_FullMethodName: everybody,
	healthpb.Health_List_FullMethodName:  everybody,
}

var (
	everybody      = rule{request: func(any) auth.Request { return auth.Public{} }, anonymous: true}
	anyUser        = always(auth.AnyUser{})
	administration = always(auth.Administration{})
)

func always(r auth.Request) rule { return rule{request: func(any) auth.Request { return r }} }

func of[M any](request func(M) auth.Request) rule {
	return rule{request: func(message any) auth.Request { return request(message.(M)) }}
}

func (r rule) after(before func(context.Context, *Services, any) error) rule {
	r.before = before
	return r
}

func first[M any](check func(M) error) func(context.Context, *Services, any) error {
	return func(_ context.Context, _ *Services, message any) error { return check(message.(M)) }
}

func beforePut(ctx context.Context, s *Services, message any) error {
	r := message.(*pb.PutRequest)
	if !s.admitCost(ctx, putCost(r)) {
		return rpctypes.ErrGRPCNoSpace
	}
	return checkPut(r)
}

func beforeTxn(ctx context.Context, s *Services, message any) error {
	r := message.(*pb.TxnRequest)
	if !s.admitCost(ctx, txnCost(r)) {
		return rpctypes.ErrGRPCNoSpace
	}
	return checkTxn(r, s.o.MaxTxnOps)
}

func beforeGrant(ctx context.Context, s *Services, _ any) error {
	if !s.admitCost(ctx, leaseCostBytes) {
		return rpctypes.ErrGRPCNoSpace
	}
	return nil
}

func beforeMemberAdd(_ context.Context, _ *Services, message any) error {
	if _, err := parsePeerURLs(message.(*pb.MemberAddRequest).PeerURLs); err != nil {
		return rpctypes.ErrGRPCMemberBadURLs
	}
	return nil
}

func alarmRequest(r *pb.AlarmRequest) auth.Request {
	if r.Action == pb.AlarmRequest_GET {
		return auth.AnyUser{}
	}
	return auth.Administration{}
}

// admission is what a call was let in by.
type admission struct {
	who     auth.Caller
	users   *auth.Set // as they were then
	request auth.Request
}

type admissionKey struct{}

// authorize decides whether a call may have what a message of it asks for, and returns the context for what is done about
// it. The error has its status.
func (s *Services) authorize(ctx context.Context, method string, message any) (context.Context, error) {
	if !s.o.Member.Users().Enabled() {
		return ctx, nil
	}
	r, ok := rules[method]
	if !ok {
		return nil, rpctypes.ErrGRPCPermissionDenied
	}
	if r.before != nil {
		if err := r.before(ctx, s, message); err != nil {
			return nil, err
		}
	}
	request := r.request(message)
	if r.anonymous {
		return context.WithValue(ctx, admissionKey{}, &admission{users: s.o.Member.Users(), request: request}), nil
	}
	ctx, err := s.admitCaller(ctx, request)
	return ctx, wireError(err)
}

// authorizeAtOnce is authorize for a goroutine that must not wait. ok is false if it would have to, or would refuse.
func (s *Services) authorizeAtOnce(ctx context.Context, method string, message any) (_ context.Context, ok bool) {
	if !s.o.Member.Users().Enabled() {
		return ctx, true
	}
	r, ok := rules[method]
	if !ok || r.anonymous || r.before != nil && r.before(ctx, s, message) != nil {
		return nil, false
	}
	who, ok := s.o.Identity.CallerAtOnce(ctx)
	if !ok {
		return nil, false
	}
	users, request := s.o.Member.Users(), r.request(message) // these after who: he is held against what is no older
	if users.Authorize(who, request, storedLeases{}) != nil {
		return nil, false
	}
	return admittedBy(ctx, who, users, request), true
}

// storedLeases are those that only the store knows, for whose disk one may have to wait.
type storedLeases struct{}

var errStored = errors.New("v3: the store has to be looked into")

// KeyFrom implements auth.Leases.
func (storedLeases) KeyFrom(int64, []byte) ([]byte, bool, error) { return nil, false, errStored }

// AllKeys implements auth.Leases.
func (storedLeases) AllKeys(func([]byte) bool) error { return errStored }

// admittedBy is the context for what is done about a request that was let in.
func admittedBy(ctx context.Context, who auth.Caller, users *auth.Set, request auth.Request) context.Context {
	ctx = context.WithValue(ctx, admissionKey{}, &admission{who: who, users: users, request: request})
	return auth.WithCaller(ctx, who)
}

// admitCaller finds out who is asking, and whether he may have what he asks for. Nobody is refused for want of news: a right
// that another member has acknowledged may not have come here yet.
func (s *Services) admitCaller(ctx context.Context, request auth.Request) (context.Context, error) {
	v := s.o.Member.ReadLocal()
	admitted, refusal := s.admitBy(ctx, v, request)
	v.Close()
	if refusal == nil {
		return admitted, nil
	}
	v, err := s.o.Member.Read(ctx)
	if err != nil {
		return nil, refusal // as far as it is known
	}
	defer v.Close()
	return s.admitBy(ctx, v, request)
}

// admitBy is admitCaller by what a view shows.
func (s *Services) admitBy(ctx context.Context, v *state.View, request auth.Request) (context.Context, error) {
	if !v.Users().Enabled() {
		return ctx, nil
	}
	who, err := s.o.Identity.Caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.Authorize(who, request); err != nil {
		return nil, err
	}
	return admittedBy(ctx, who, v.Users(), request), nil
}

// confirm decides once more, if users and roles are others by now than the ones that a call was let in by: the view that it
// is answered from may be the first to show that a right was taken away.
func (s *Services) confirm(ctx context.Context, v *state.View) error {
	if isConfirmed(ctx, v) {
		return nil
	}
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok { // let in while nobody had to say who he is
		return auth.ErrUserEmpty
	}
	_, err := s.admitCaller(ctx, a.request)
	return err
}

// isConfirmed reports whether confirm has nothing to decide.
func isConfirmed(ctx context.Context, v *state.View) bool {
	users := v.Users()
	if !users.Enabled() {
		return true
	}
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok {
		return false
	}
	_, public := a.request.(auth.Public)
	return public || a.users == users
}

// readmit lets a call in anew whose command came too late for the users and roles it was let in by, if it can be.
func (s *Services) readmit(ctx context.Context) (context.Context, bool) {
	a, ok := ctx.Value(admissionKey{}).(*admission)
	if !ok {
		return nil, false
	}
	again, err := s.admitCaller(ctx, a.request)
	if err != nil {
		return nil, false
	}
	who, _ := auth.CallerOf(again)
	return again, who.Revision > a.who.Revision
}

// mayRead decides whether the caller of a call may read keys.
func (s *Services) mayRead(ctx context.Context, v *state.View, keys [][]byte) error {
	if !v.Users().Enabled() {
		return nil
	}
	who, err := s.o.Identity.Caller(ctx)
	if err == nil {
		err = v.Authorize(who, auth.Keys{Keys: keys})
	}
	return err
}

// authorizedStream decides about each message that it receives.
type authorizedStream struct {
	grpc.ServerStream
	s      *Services
	method string
	ctx    context.Context // for what is done about the message received last
}

func (s *Services) authorizedStream(stream grpc.ServerStream, method string) grpc.ServerStream {
	return &authorizedStream{ServerStream: stream, s: s, method: method, ctx: stream.Context()}
}

// Context implements grpc.ServerStream.
func (a *authorizedStream) Context() context.Context { return a.ctx }

// RecvMsg implements grpc.ServerStream.
func (a *authorizedStream) RecvMsg(message any) error {
	if err := a.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	ctx, err := a.s.authorize(a.ServerStream.Context(), a.method, message)
	if err != nil {
		return err
	}
	a.ctx = ctx
	return nil
}
