package state

import (
	"maps"
	"slices"

	"keelson/command"
	"keelson/command/commandtest"
	"keelson/state/auth"
)

// userModel is users and roles as the specification tells it. Whether a range is covered it finds out key by key.
type userModel struct {
	enabled  bool
	revision uint64
	users    map[string]map[string]bool      // roles by user
	roles    map[string]map[permission]int32 // access by permission, by role
}

type permission struct{ key, end string }

func newUserModel() *userModel {
	return &userModel{revision: 1, users: map[string]map[string]bool{}, roles: map[string]map[permission]int32{}}
}

// apply carries out an op about users and roles; known is false for any other.
func (u *userModel) apply(op command.Op) (known bool, err error) {
	before := u.revision
	switch o := op.(type) {
	case *command.AuthEnable:
		switch {
		case u.enabled:
		case u.users["root"] == nil:
			return true, auth.ErrNoRoot
		case !u.users["root"]["root"]:
			return true, auth.ErrNoRootRole
		default:
			u.enabled = true
		}
	case *command.AuthDisable:
		if u.enabled {
			u.enabled = false
			u.revision++
		}
	case *command.UserAdd:
		if o.Name == "" {
			return true, auth.ErrUserEmpty
		}
		if u.users[o.Name] != nil {
			return true, auth.ErrUserExists
		}
		u.users[o.Name] = map[string]bool{}
		u.revision++
	case *command.UserDelete:
		if u.enabled && o.Name == "root" {
			return true, auth.ErrInvalidManagement
		}
		if u.users[o.Name] == nil {
			return true, auth.ErrUserNotFound
		}
		delete(u.users, o.Name)
		u.revision++
	case *command.UserChangePassword:
		if u.users[o.Name] == nil {
			return true, auth.ErrUserNotFound
		}
		u.revision++
	case *command.UserGrantRole:
		switch {
		case u.users[o.Name] == nil:
			return true, auth.ErrUserNotFound
		case o.Role != "root" && u.roles[o.Role] == nil:
			return true, auth.ErrRoleNotFound
		case !u.users[o.Name][o.Role]:
			u.users[o.Name][o.Role] = true
			u.revision++
		}
	case *command.UserRevokeRole:
		switch {
		case u.enabled && o.Name == "root" && o.Role == "root":
			return true, auth.ErrInvalidManagement
		case u.users[o.Name] == nil:
			return true, auth.ErrUserNotFound
		case !u.users[o.Name][o.Role]:
			return true, auth.ErrRoleNotGranted
		}
		delete(u.users[o.Name], o.Role)
		u.revision++
	case *command.RoleAdd:
		if o.Name == "" {
			return true, auth.ErrRoleEmpty
		}
		if u.roles[o.Name] != nil {
			return true, auth.ErrRoleExists
		}
		u.roles[o.Name] = map[permission]int32{}
		u.revision++
	case *command.RoleDelete:
		if u.enabled && o.Name == "root" {
			return true, auth.ErrInvalidManagement
		}
		if u.roles[o.Name] == nil {
			return true, auth.ErrRoleNotFound
		}
		delete(u.roles, o.Name)
		for _, roles := range u.users {
			delete(roles, o.Name)
		}
		u.revision++
	case *command.RoleGrantPermission:
		if len(o.Key) == 0 || len(o.End) > 0 && string(o.End) != "\x00" && string(o.End) <= string(o.Key) {
			return true, auth.ErrInvalidManagement
		}
		if u.roles[o.Role] == nil {
			return true, auth.ErrRoleNotFound
		}
		u.roles[o.Role][permission{string(o.Key), string(o.End)}] = o.Access
		u.revision++
	case *command.RoleRevokePermission:
		if u.roles[o.Role] == nil {
			return true, auth.ErrRoleNotFound
		}
		p := permission{string(o.Key), string(o.End)}
		if _, ok := u.roles[o.Role][p]; !ok {
			return true, auth.ErrPermissionNotGranted
		}
		delete(u.roles[o.Role], p)
		u.revision++
	case *command.TokenAssign:
		if !u.enabled {
			return true, auth.ErrNotEnabled
		}
		if u.users[o.User] == nil {
			return true, auth.ErrUserNotFound
		}
	default:
		return false, nil
	}
	if u.revision > before+1 {
		panic("two revisions at once")
	}
	return true, nil
}

// admit decides about a command; keysOf are the keys of a lease.
func (u *userModel) admit(c *command.Command, keysOf func(int64) []string) error {
	if !u.enabled || c.AuthRevision == 0 {
		return nil
	}
	switch c.Op.(type) {
	case *command.TokenAssign:
		if c.AuthRevision < u.revision {
			return auth.ErrOldRevision
		}
		return nil
	case *command.TreePut, *command.TreeDelete, *command.TreeExpire:
		return nil
	case *command.MemberAdd, *command.MemberRemove, *command.MemberPromote: // out of their place: nobody asks whose they are
		return nil
	case *command.MemberPublish, *command.ClusterVersion, *command.HashCheck, *command.LeaseCheckpoint, *command.Noop:
		return auth.ErrDenied
	}
	roles := u.users[c.User]
	isData := false
	switch c.Op.(type) {
	case *command.Put, *command.DeleteRange, *command.Txn, *command.Range, *command.LeaseRevoke:
		isData = true
	}
	_, isGrant := c.Op.(*command.LeaseGrant)
	switch {
	case c.User == "":
		return auth.ErrUserEmpty
	case isGrant && roles == nil:
		return auth.ErrDenied
	case isGrant:
		return nil
	case !isData && roles == nil:
		return auth.ErrUserNotFound
	case !isData && !roles["root"]:
		return auth.ErrDenied
	case !isData:
		return nil
	case c.AuthRevision < u.revision:
		return auth.ErrOldRevision
	case roles["root"]:
		return nil
	case roles == nil || !u.mayDo(roles, c.Op, keysOf):
		return auth.ErrDenied
	}
	return nil
}

func (u *userModel) mayDo(roles map[string]bool, op command.Op, keysOf func(int64) []string) bool {
	may := func(key, end []byte, access int32) bool {
		return !slices.ContainsFunc(modelKeys(key, end), func(k string) bool { return !u.covers(roles, k, access) })
	}
	mayLease := func(id int64) bool {
		return !slices.ContainsFunc(keysOf(id), func(k string) bool { return !u.covers(roles, k, 1) })
	}
	switch o := op.(type) {
	case *command.Range:
		return may(o.Key, o.End, 0)
	case *command.Put:
		return may(o.Key, nil, 1) && (!o.PrevKV || may(o.Key, nil, 0)) && (o.Lease == 0 || mayLease(o.Lease))
	case *command.DeleteRange:
		return may(o.Key, o.End, 1) && (!o.PrevKV || may(o.Key, o.End, 0))
	case *command.LeaseRevoke:
		return mayLease(o.ID)
	case *command.Txn:
		for _, c := range o.Compares {
			if !may(c.Key, c.End, 0) {
				return false
			}
		}
		for _, op := range slices.Concat(o.Success, o.Failure) {
			if !u.mayDo(roles, op, keysOf) {
				return false
			}
		}
		return true
	}
	return false
}

// covers reports whether some permission covers one key.
func (u *userModel) covers(roles map[string]bool, key string, access int32) bool {
	for name := range roles {
		for p, a := range u.roles[name] {
			if (a == access || a == 2) && slices.Contains(modelKeys([]byte(p.key), []byte(p.end)), key) {
				return true
			}
		}
	}
	return false
}

// modelKeys are the keys of a selector, of all that commands here can tell apart; of a selector of none, its first key.
func modelKeys(key, end []byte) (keys []string) {
	if len(end) == 0 {
		return []string{string(key)}
	}
	all := []string{"\x00", "j", "k", "\xff"}
	for c := 'a'; c <= 'z'; c++ {
		all = append(all, "k"+string(c), "k"+string(c)+"\x00")
	}
	for _, k := range all {
		if k >= string(key) && (string(end) == "\x00" || k < string(end)) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return []string{string(key)}
	}
	return keys
}

// keysOf are the keys that hang on a lease.
func (m *model) keysOf(id int64) (keys []string) {
	for key, kv := range m.history[m.revision] {
		if kv.Lease == id {
			keys = append(keys, key)
		}
	}
	return keys
}

// commandFor makes a command of an op, in somebody's name if the generator has users. What the tests themselves follow up
// is the member's own.
func commandFor(g *commandtest.Generator, op command.Op) command.Command {
	c := command.Command{Op: op}
	switch op.(type) {
	case *command.MemberUpdate, *command.MemberPublish:
		return c
	}
	if g.Users {
		c.User, c.AuthRevision = g.Caller()
	}
	return c
}

// everybodyNamed begins a history in which users have to say who they are, and some may do something.
var everybodyNamed = []command.Op{
	&command.UserAdd{Name: "root"}, &command.UserGrantRole{Name: "root", Role: "root"},
	&command.UserAdd{Name: "ann"}, &command.UserAdd{Name: "ben"}, &command.RoleAdd{Name: "reader"}, &command.RoleAdd{Name: "writer"},
	&command.RoleGrantPermission{Role: "reader", Access: 0, Key: []byte{0}, End: []byte{0}},
	&command.RoleGrantPermission{Role: "writer", Access: 1, Key: []byte("ka"), End: []byte("kf")},
	&command.RoleGrantPermission{Role: "writer", Access: 2, Key: []byte("kc"), End: []byte{0}},
	&command.UserGrantRole{Name: "ann", Role: "reader"}, &command.UserGrantRole{Name: "ann", Role: "writer"},
	&command.UserGrantRole{Name: "ben", Role: "writer"},
	&command.AuthEnable{},
}

// compare compares users and roles with a member's.
func (u *userModel) compare(x *member) {
	x.t.Helper()
	s := x.m.Users()
	if s.Enabled() != u.enabled || s.Revision() != u.revision {
		x.t.Fatalf("enabled %v, revision %d; want %v, %d", s.Enabled(), s.Revision(), u.enabled, u.revision)
	}
	users, roles := map[string]map[string]bool{}, map[string]map[permission]int32{}
	for _, user := range s.Users() {
		users[user.Name] = map[string]bool{}
		for _, role := range user.Roles {
			users[user.Name][role] = true
		}
	}
	for _, role := range s.Roles() {
		roles[role.Name] = map[permission]int32{}
		for _, p := range role.Permissions {
			roles[role.Name][permission{string(p.Key), string(p.End)}] = int32(p.Access)
		}
	}
	if !maps.EqualFunc(users, u.users, maps.Equal) || !maps.EqualFunc(roles, u.roles, maps.Equal) {
		x.t.Fatalf("users %v, roles %v; want %v, %v", users, roles, u.users, u.roles)
	}
}
