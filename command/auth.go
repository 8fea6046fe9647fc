package command

// The ops about users and roles. Who may propose them is decided by package state/auth, as for every other op.

// AuthEnable demands from everybody, from then on, to say who they are.
type AuthEnable struct{}

// AuthDisable lets everybody do everything again. All tokens end.
type AuthDisable struct{}

// UserAdd makes a user. The proposer has hashed the password: what a password was is never in the log.
type UserAdd struct {
	Name       string
	Hash       []byte // bcrypt's; empty with NoPassword
	NoPassword bool   // the user can't log in with a password
}

// UserDelete removes a user.
type UserDelete struct{ Name string }

// UserChangePassword replaces a user's password, hashed by the proposer.
type UserChangePassword struct {
	Name string
	Hash []byte
}

// UserGrantRole gives a user a role.
type UserGrantRole struct{ Name, Role string }

// UserRevokeRole takes a role from a user.
type UserRevokeRole struct{ Name, Role string }

// RoleAdd makes a role without permissions.
type RoleAdd struct{ Name string }

// RoleDelete removes a role, also from the users who have it.
type RoleDelete struct{ Name string }

// RoleGrantPermission adds a permission to a role, or replaces the one for the same keys.
type RoleGrantPermission struct {
	Role     string
	Access   int32  // number of the v3 API's Permission.Type
	Key, End []byte // a range selector
}

// RoleRevokePermission takes a permission from a role.
type RoleRevokePermission struct {
	Role     string
	Key, End []byte
}

// TokenAssign makes a token known to all members, after the proposer has checked the user's password as of the command's
// AuthRevision. The log holds a digest: who reads it can't use the token.
type TokenAssign struct {
	User   string
	Digest []byte
}

const (
	kindAuthEnable           kind = 32
	kindAuthDisable          kind = 33
	kindUserAdd              kind = 34
	kindUserDelete           kind = 35
	kindUserChangePassword   kind = 36
	kindUserGrantRole        kind = 37
	kindUserRevokeRole       kind = 38
	kindRoleAdd              kind = 39
	kindRoleDelete           kind = 40
	kindRoleGrantPermission  kind = 41
	kindRoleRevokePermission kind = 42
	kindTokenAssign          kind = 43
)

func (*AuthEnable) kind() kind           { return kindAuthEnable }
func (*AuthDisable) kind() kind          { return kindAuthDisable }
func (*UserAdd) kind() kind              { return kindUserAdd }
func (*UserDelete) kind() kind           { return kindUserDelete }
func (*UserChangePassword) kind() kind   { return kindUserChangePassword }
func (*UserGrantRole) kind() kind        { return kindUserGrantRole }
func (*UserRevokeRole) kind() kind       { return kindUserRevokeRole }
func (*RoleAdd) kind() kind              { return kindRoleAdd }
func (*RoleDelete) kind() kind           { return kindRoleDelete }
func (*RoleGrantPermission) kind() kind  { return kindRoleGrantPermission }
func (*RoleRevokePermission) kind() kind { return kindRoleRevokePermission }
func (*TokenAssign) kind() kind          { return kindTokenAssign }

// appendAuth appends the fields of an op of this file; ok is false for any other.
func appendAuth(dst []byte, op Op) (b []byte, ok bool) {
	switch o := op.(type) {
	case *AuthEnable, *AuthDisable:
	case *UserAdd:
		dst = appendString(dst, 1, o.Name)
		dst = appendBytes(dst, 2, o.Hash)
		dst = appendBool(dst, 3, o.NoPassword)
	case *UserDelete:
		dst = appendString(dst, 1, o.Name)
	case *UserChangePassword:
		dst = appendString(dst, 1, o.Name)
		dst = appendBytes(dst, 2, o.Hash)
	case *UserGrantRole:
		dst = appendString(dst, 1, o.Name)
		dst = appendString(dst, 2, o.Role)
	case *UserRevokeRole:
		dst = appendString(dst, 1, o.Name)
		dst = appendString(dst, 2, o.Role)
	case *RoleAdd:
		dst = appendString(dst, 1, o.Name)
	case *RoleDelete:
		dst = appendString(dst, 1, o.Name)
	case *RoleGrantPermission:
		dst = appendString(dst, 1, o.Role)
		dst = appendInt(dst, 2, int64(o.Access))
		dst = appendBytes(dst, 3, o.Key)
		dst = appendBytes(dst, 4, o.End)
	case *RoleRevokePermission:
		dst = appendString(dst, 1, o.Role)
		dst = appendBytes(dst, 2, o.Key)
		dst = appendBytes(dst, 3, o.End)
	case *TokenAssign:
		dst = appendString(dst, 1, o.User)
		dst = appendBytes(dst, 2, o.Digest)
	default:
		return dst, false
	}
	return dst, true
}

// decodeAuth reads an op of this file; known is false if k is of none.
func decodeAuth(k kind, b []byte) (op Op, known bool, err error) {
	f := fields{rest: b, what: "op about users"}
	switch k {
	case kindAuthEnable:
		op = &AuthEnable{}
		f.read(nil)
	case kindAuthDisable:
		op = &AuthDisable{}
		f.read(nil)
	case kindUserAdd:
		o := &UserAdd{}
		op = o
		f.read([]func(){
			1: func() { o.Name = f.asString() }, 2: func() { o.Hash = f.asBytes() }, 3: func() { o.NoPassword = f.asBool() },
		})
	case kindUserDelete:
		o := &UserDelete{}
		op = o
		f.read([]func(){1: func() { o.Name = f.asString() }})
	case kindUserChangePassword:
		o := &UserChangePassword{}
		op = o
		f.read([]func(){1: func() { o.Name = f.asString() }, 2: func() { o.Hash = f.asBytes() }})
	case kindUserGrantRole:
		o := &UserGrantRole{}
		op = o
		f.read([]func(){1: func() { o.Name = f.asString() }, 2: func() { o.Role = f.asString() }})
	case kindUserRevokeRole:
		o := &UserRevokeRole{}
		op = o
		f.read([]func(){1: func() { o.Name = f.asString() }, 2: func() { o.Role = f.asString() }})
	case kindRoleAdd:
		o := &RoleAdd{}
		op = o
		f.read([]func(){1: func() { o.Name = f.asString() }})
	case kindRoleDelete:
		o := &RoleDelete{}
		op = o
		f.read([]func(){1: func() { o.Name = f.asString() }})
	case kindRoleGrantPermission:
		o := &RoleGrantPermission{}
		op = o
		f.read([]func(){
			1: func() { o.Role = f.asString() }, 2: func() { o.Access = f.asInt32() },
			3: func() { o.Key = f.asBytes() }, 4: func() { o.End = f.asBytes() },
		})
	case kindRoleRevokePermission:
		o := &RoleRevokePermission{}
		op = o
		f.read([]func(){
			1: func() { o.Role = f.asString() }, 2: func() { o.Key = f.asBytes() }, 3: func() { o.End = f.asBytes() },
		})
	case kindTokenAssign:
		o := &TokenAssign{}
		op = o
		f.read([]func(){1: func() { o.User = f.asString() }, 2: func() { o.Digest = f.asBytes() }})
	default:
		return nil, false, nil
	}
	return op, true, f.err
}

// read reads all fields, each by the function at its number.
func (f *fields) read(by []func()) {
	for f.next() {
		if int(f.n) < len(by) && by[f.n] != nil {
			by[f.n]()
		} else {
			f.unknown()
		}
	}
}
