package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"keelson/command"
	"keelson/state/auth"
)

// users is users and roles as the specification tells it. Whether a range is covered it finds out key by key. It is
// immutable once it stands in a record.
type users struct {
	enabled  bool
	revision uint64
	users    map[string]map[string]bool      // roles by user
	roles    map[string]map[permission]int32 // access by permission, by role
}

type permission struct{ key, end string }

func newUsers() *users {
	return &users{revision: 1, users: map[string]map[string]bool{}, roles: map[string]map[permission]int32{}}
}

func (u *users) clone() *users {
	c := &users{enabled: u.enabled, revision: u.revision, users: maps.Clone(u.users), roles: maps.Clone(u.roles)}
	for name, roles := range c.users {
		c.users[name] = maps.Clone(roles)
	}
	for name, permissions := range c.roles {
		c.roles[name] = maps.Clone(permissions)
	}
	return c
}

// after is users and roles behind an op about them, what it says of tokens, or why it is refused; known is false for any
// other op.
func (u *users) after(op command.Op) (next *users, tokens string, known bool, err error) {
	next = u.clone()
	tokens, known, err = next.apply(op)
	if !known || err != nil {
		return u, "", known, err
	}
	return next, tokens, true, nil
}

func (u *users) apply(op command.Op) (tokens string, known bool, err error) {
	switch o := op.(type) {
	case *command.AuthEnable:
		return "", true, u.enable()
	case *command.AuthDisable:
		if !u.enabled {
			return "", true, nil
		}
		u.enabled = false
		u.revision++
		return "all end;", true, nil
	case *command.TokenAssign:
		switch {
		case !u.enabled:
			return "", true, auth.ErrNotEnabled
		case u.users[o.User] == nil:
			return "", true, auth.ErrUserNotFound
		}
		return fmt.Sprintf("%x is %s;", o.Digest, o.User), true, nil
	case *command.UserAdd, *command.UserDelete, *command.UserChangePassword, *command.UserGrantRole, *command.UserRevokeRole:
		tokens, err = u.applyUser(op)
		return tokens, true, err
	case *command.RoleAdd, *command.RoleDelete, *command.RoleGrantPermission, *command.RoleRevokePermission:
		return "", true, u.applyRole(op)
	}
	return "", false, nil
}

func (u *users) enable() error {
	switch {
	case u.enabled:
	case u.users["root"] == nil:
		return auth.ErrNoRoot
	case !u.users["root"]["root"]:
		return auth.ErrNoRootRole
	}
	u.enabled = true
	return nil
}

func (u *users) applyUser(op command.Op) (tokens string, err error) {
	switch o := op.(type) {
	case *command.UserAdd:
		if o.Name == "" {
			return "", auth.ErrUserEmpty
		}
		if u.users[o.Name] != nil {
			return "", auth.ErrUserExists
		}
		u.users[o.Name] = map[string]bool{}
	case *command.UserDelete:
		if u.enabled && o.Name == "root" {
			return "", auth.ErrInvalidManagement
		}
		if u.users[o.Name] == nil {
			return "", auth.ErrUserNotFound
		}
		delete(u.users, o.Name)
		tokens = "of " + o.Name + " end;"
	case *command.UserChangePassword:
		if u.users[o.Name] == nil {
			return "", auth.ErrUserNotFound
		}
		tokens = "of " + o.Name + " end;"
	case *command.UserGrantRole:
		switch {
		case u.users[o.Name] == nil:
			return "", auth.ErrUserNotFound
		case o.Role != "root" && u.roles[o.Role] == nil:
			return "", auth.ErrRoleNotFound
		case u.users[o.Name][o.Role]:
			return "", nil
		}
		u.users[o.Name][o.Role] = true
	case *command.UserRevokeRole:
		switch {
		case u.enabled && o.Name == "root" && o.Role == "root":
			return "", auth.ErrInvalidManagement
		case u.users[o.Name] == nil:
			return "", auth.ErrUserNotFound
		case !u.users[o.Name][o.Role]:
			return "", auth.ErrRoleNotGranted
		}
		delete(u.users[o.Name], o.Role)
	}
	u.revision++
	return tokens, nil
}

func (u *users) applyRole(op command.Op) error {
	switch o := op.(type) {
	case *command.RoleAdd:
		if o.Name == "" {
			return auth.ErrRoleEmpty
		}
		if u.roles[o.Name] != nil {
			return auth.ErrRoleExists
		}
		u.roles[o.Name] = map[permission]int32{}
	case *command.RoleDelete:
		if u.enabled && o.Name == "root" {
			return auth.ErrInvalidManagement
		}
		if u.roles[o.Name] == nil {
			return auth.ErrRoleNotFound
		}
		delete(u.roles, o.Name)
		for _, roles := range u.users {
			delete(roles, o.Name)
		}
	case *command.RoleGrantPermission:
		if len(o.Key) == 0 || len(o.End) > 0 && string(o.End) != "\x00" && string(o.End) <= string(o.Key) {
			return auth.ErrInvalidManagement
		}
		if u.roles[o.Role] == nil {
			return auth.ErrRoleNotFound
		}
		u.roles[o.Role][permission{string(o.Key), string(o.End)}] = o.Access
	case *command.RoleRevokePermission:
		if u.roles[o.Role] == nil {
			return auth.ErrRoleNotFound
		}
		p := permission{string(o.Key), string(o.End)}
		if _, ok := u.roles[o.Role][p]; !ok {
			return auth.ErrPermissionNotGranted
		}
		delete(u.roles[o.Role], p)
	}
	u.revision++
	return nil
}

// keysOf tells the model which keys hang on a lease.
type keysOf func(id int64) []string

// admit decides about a request in somebody's name: what a client may, by the table of the API.
func (u *users) admit(name string, revision uint64, request auth.Request, keys keysOf) error {
	if !u.enabled || revision == 0 {
		return nil
	}
	roles := u.users[name]
	switch request.(type) {
	case *command.TokenAssign:
		if revision < u.revision {
			return auth.ErrOldRevision
		}
		return nil
	case *command.TreePut, *command.TreeDelete, *command.TreeExpire, auth.Public: // the v2 API has users of its own
		return nil
	case *command.TreeUser, *command.TreeRole, *command.TreeAccess, *command.LeaseCheckpoint, *command.Noop:
		return auth.ErrDenied
	case *command.LeaseGrant, auth.AnyUser:
		switch {
		case name == "":
			return auth.ErrUserEmpty
		case roles == nil:
			return auth.ErrDenied
		}
		return nil
	case *command.Put, *command.DeleteRange, *command.Txn, *command.Range, *command.LeaseRevoke,
		auth.Watch, auth.LeaseRenew:
		switch {
		case name == "":
			return auth.ErrUserEmpty
		case revision < u.revision:
			return auth.ErrOldRevision
		case roles["root"]:
			return nil
		case roles == nil || !u.mayDo(roles, request, keys):
			return auth.ErrDenied
		}
		return nil
	}
	switch {
	case name == "":
		return auth.ErrUserEmpty
	case roles == nil:
		return auth.ErrUserNotFound
	case !roles["root"]:
		return auth.ErrDenied
	}
	return nil
}

func (u *users) mayDo(roles map[string]bool, request auth.Request, keys keysOf) bool {
	may := func(key, end []byte, access int32) bool {
		return !slices.ContainsFunc(keysIn(key, end), func(k string) bool { return !u.covers(roles, k, access) })
	}
	mayLease := func(id int64) bool {
		return !slices.ContainsFunc(keys(id), func(k string) bool { return !u.covers(roles, k, 1) })
	}
	switch o := request.(type) {
	case *command.Range:
		return may(o.Key, o.End, 0)
	case auth.Watch:
		return may(o.Key, o.End, 0)
	case *command.Put:
		return may(o.Key, nil, 1) && (!o.PrevKV || may(o.Key, nil, 0)) && (o.Lease == 0 || mayLease(o.Lease))
	case *command.DeleteRange:
		return may(o.Key, o.End, 1) && (!o.PrevKV || may(o.Key, o.End, 0))
	case *command.LeaseRevoke:
		return mayLease(o.ID)
	case auth.LeaseRenew:
		return mayLease(o.ID)
	case *command.Txn:
		for _, c := range o.Compares {
			if !may(c.Key, c.End, 0) {
				return false
			}
		}
		for _, op := range slices.Concat(o.Success, o.Failure) {
			if !u.mayDo(roles, op, keys) {
				return false
			}
		}
		return true
	}
	return false
}

// covers reports whether some permission covers one key.
func (u *users) covers(roles map[string]bool, key string, access int32) bool {
	for name := range roles {
		for p, a := range u.roles[name] {
			if (a == access || a == 2) && p.holds(key) {
				return true
			}
		}
	}
	return false
}

func (p permission) holds(key string) bool {
	switch p.end {
	case "":
		return key == p.key
	case "\x00":
		return key >= p.key
	}
	return key >= p.key && key < p.end
}

// allKeys are keys of which two that are not told apart by any selector here lie between any two neighbours.
var allKeys = func() []string {
	all := []string{"\x00", "j", "k"}
	for i := range 40 {
		k := fmt.Sprintf("k%02d", i)
		all = append(all, k, k+"\x00")
	}
	return append(all, "last", "m", "\xff")
}()

// keysIn are the keys of a selector, of all that requests here can tell apart; of a selector of none, its first key.
func keysIn(key, end []byte) (keys []string) {
	if len(end) == 0 {
		return []string{string(key)}
	}
	p := permission{string(key), string(end)}
	for _, k := range allKeys {
		if p.holds(k) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return []string{string(key)}
	}
	return keys
}

// differs says how a member's users and roles differ; empty: they do not.
func (u *users) differs(s *auth.Set) string {
	if s.Enabled() != u.enabled || s.Revision() != u.revision {
		return fmt.Sprintf("enabled %t, revision %d, want %t, %d", s.Enabled(), s.Revision(), u.enabled, u.revision)
	}
	got := newUsers()
	for _, user := range s.Users() {
		got.users[user.Name] = map[string]bool{}
		for _, role := range user.Roles {
			got.users[user.Name][role] = true
		}
	}
	for _, role := range s.Roles() {
		got.roles[role.Name] = map[permission]int32{}
		for _, p := range role.Permissions {
			got.roles[role.Name][permission{string(p.Key), string(p.End)}] = int32(p.Access)
		}
	}
	if !maps.EqualFunc(got.users, u.users, maps.Equal) || !maps.EqualFunc(got.roles, u.roles, maps.Equal) {
		return fmt.Sprintf("users %v, roles %v, want %v, %v", got.users, got.roles, u.users, u.roles)
	}
	return ""
}

// renderTokens is what a run of entries says of tokens.
func renderTokens(changes []auth.TokenChange) string {
	var s strings.Builder
	for _, c := range changes {
		switch c.Kind {
		case auth.TokenAssigned:
			fmt.Fprintf(&s, "%x is %s;", c.Digest, c.User)
		case auth.TokensOfUserEnd:
			s.WriteString("of " + c.User + " end;")
		case auth.TokensEnd:
			s.WriteString("all end;")
		}
	}
	return s.String()
}
