package v3

import (
	"context"
	"encoding/base64"
	"errors"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/command"
	"keelson/state/auth"
)

// authService is the service Auth. Reading goes by a view that a quorum confirms. Every header has the revision of the pairs,
// which users and roles have no part in.
type authService struct {
	pb.UnimplementedAuthServer
	s *Services
}

// AuthEnable makes everybody say who he is.
func (a *authService) AuthEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	h, err := a.change(ctx, &command.AuthEnable{})
	return &pb.AuthEnableResponse{Header: h}, err
}

// AuthDisable lets everybody do everything.
func (a *authService) AuthDisable(ctx context.Context, _ *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	h, err := a.change(ctx, &command.AuthDisable{})
	return &pb.AuthDisableResponse{Header: h}, err
}

// AuthStatus tells whether one has to say who one is.
func (a *authService) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	users, h, err := a.usersForAnybody(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.AuthStatusResponse{Header: h, Enabled: users.Enabled(), AuthRevision: users.Revision()}, nil
}

// Authenticate gives a token for a name and its password. It does not look at tokens that come with the call: the client may
// be here because its own is no good any more.
func (a *authService) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	password := r.Password
	r.Password = ""
	for {
		users, h, err := a.usersForAnybody(ctx)
		if err != nil {
			return nil, err
		}
		if !users.Enabled() {
			return nil, rpctypes.ErrGRPCAuthNotEnabled
		}
		token, err := a.s.o.Identity.Login(ctx, users, r.Name, password)
		if errors.Is(err, auth.ErrOldRevision) {
			continue // users and roles have changed since the password was compared
		}
		if err != nil {
			return nil, wireError(err)
		}
		return &pb.AuthenticateResponse{Header: h, Token: token}, nil
	}
}

// UserAdd adds a user.
func (a *authService) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	o := &command.UserAdd{Name: r.Name, NoPassword: r.GetOptions().GetNoPassword()}
	password := r.Password
	r.Password = ""
	if !o.NoPassword {
		var err error
		if o.Hash, err = a.s.o.Identity.Hash(ctx, password); err != nil {
			return nil, wireError(err)
		}
	}
	h, err := a.change(ctx, o)
	return &pb.AuthUserAddResponse{Header: h}, err
}

// UserGet tells a user's roles.
func (a *authService) UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	users, h, err := a.users(ctx)
	if err != nil {
		return nil, err
	}
	u := users.User(r.Name)
	if u == nil {
		return nil, rpctypes.ErrGRPCUserNotFound
	}
	return &pb.AuthUserGetResponse{Header: h, Roles: u.Roles}, nil
}

// UserList lists the names of users.
func (a *authService) UserList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	users, h, err := a.users(ctx)
	if err != nil {
		return nil, err
	}
	reply := &pb.AuthUserListResponse{Header: h}
	for _, u := range users.Users() {
		reply.Users = append(reply.Users, u.Name)
	}
	return reply, nil
}

// UserDelete removes a user.
func (a *authService) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	h, err := a.change(ctx, &command.UserDelete{Name: r.Name})
	return &pb.AuthUserDeleteResponse{Header: h}, err
}

// UserChangePassword gives a user another password or, without one, the hash of one.
func (a *authService) UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	o := &command.UserChangePassword{Name: r.Name}
	password := r.Password
	r.Password = ""
	var err error
	if password != "" {
		o.Hash, err = a.s.o.Identity.Hash(ctx, password)
	} else if o.Hash, err = base64.StdEncoding.DecodeString(r.HashedPassword); err != nil {
		return nil, a.notAHash(ctx, r.Name)
	}
	if err != nil {
		return nil, wireError(err)
	}
	h, err := a.change(ctx, o)
	return &pb.AuthUserChangePasswordResponse{Header: h}, err
}

// notAHash is the refusal of a hash that is none, for a user who may not exist.
func (a *authService) notAHash(ctx context.Context, name string) error {
	users, _, err := a.users(ctx)
	switch {
	case err != nil:
		return err
	case users.User(name) == nil:
		return rpctypes.ErrGRPCUserNotFound
	}
	return errNoPassword // etcd's word for it
}

// UserGrantRole gives a user a role.
func (a *authService) UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	h, err := a.change(ctx, &command.UserGrantRole{Name: r.User, Role: r.Role})
	return &pb.AuthUserGrantRoleResponse{Header: h}, err
}

// UserRevokeRole takes a role from a user.
func (a *authService) UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	h, err := a.change(ctx, &command.UserRevokeRole{Name: r.Name, Role: r.Role})
	return &pb.AuthUserRevokeRoleResponse{Header: h}, err
}

// RoleAdd adds a role.
func (a *authService) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	h, err := a.change(ctx, &command.RoleAdd{Name: r.Name})
	return &pb.AuthRoleAddResponse{Header: h}, err
}

// RoleGet tells a role's permissions. The role root has one for everything, whatever it was granted.
func (a *authService) RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	users, h, err := a.users(ctx)
	if err != nil {
		return nil, err
	}
	role := users.Role(r.Role)
	if role == nil {
		return nil, rpctypes.ErrGRPCRoleNotFound
	}
	reply := &pb.AuthRoleGetResponse{Header: h}
	if r.Role == auth.Root {
		reply.Perm = []*authpb.Permission{{PermType: authpb.Permission_READWRITE, RangeEnd: []byte{0}}}
		return reply, nil
	}
	for _, p := range role.Permissions {
		reply.Perm = append(reply.Perm, &authpb.Permission{PermType: authpb.Permission_Type(p.Access), Key: p.Key, RangeEnd: p.End})
	}
	return reply, nil
}

// RoleList lists the names of roles.
func (a *authService) RoleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	users, h, err := a.users(ctx)
	if err != nil {
		return nil, err
	}
	reply := &pb.AuthRoleListResponse{Header: h}
	for _, r := range users.Roles() {
		reply.Roles = append(reply.Roles, r.Name)
	}
	return reply, nil
}

// RoleDelete removes a role, also from those who have it.
func (a *authService) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	h, err := a.change(ctx, &command.RoleDelete{Name: r.Role})
	return &pb.AuthRoleDeleteResponse{Header: h}, err
}

// RoleGrantPermission gives a role a permission.
func (a *authService) RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	if r.Perm == nil {
		return nil, rpctypes.ErrGRPCPermissionNotGiven
	}
	h, err := a.change(ctx, &command.RoleGrantPermission{
		Role: r.Name, Access: int32(r.Perm.PermType), Key: r.Perm.Key, End: r.Perm.RangeEnd,
	})
	return &pb.AuthRoleGrantPermissionResponse{Header: h}, err
}

// RoleRevokePermission takes a permission from a role.
func (a *authService) RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	h, err := a.change(ctx, &command.RoleRevokePermission{Role: r.Role, Key: r.Key, End: r.RangeEnd})
	return &pb.AuthRoleRevokePermissionResponse{Header: h}, err
}

// change puts an op into the log and returns the reply's header.
func (a *authService) change(ctx context.Context, op command.Op) (*pb.ResponseHeader, error) {
	res, err := a.s.propose(ctx, op)
	if err != nil {
		return nil, err
	}
	return a.s.header(res.Revision).message(), nil
}

// users is users and roles with all that anybody has acknowledged, for a caller who may know of them, and the reply's header.
func (a *authService) users(ctx context.Context) (*auth.Set, *pb.ResponseHeader, error) {
	v, err := a.s.view(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	defer v.Close()
	return v.Users(), a.s.header(v.Revision()).message(), nil
}

// usersForAnybody is users, whoever is asking.
func (a *authService) usersForAnybody(ctx context.Context) (*auth.Set, *pb.ResponseHeader, error) {
	v, err := a.s.o.Member.Read(ctx)
	if err != nil {
		return nil, nil, wireError(err)
	}
	defer v.Close()
	return v.Users(), a.s.header(v.Revision()).message(), nil
}
