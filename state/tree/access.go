package tree

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"keelson/command"
	"keelson/storage"
)

// Names with a meaning. The root role is not stored: it may do everything. The guest role is that of requests that do not
// say who makes them.
const (
	RootUser  = "root"
	RootRole  = "root"
	GuestRole = "guest"
)

// Codes of what is refused about users and roles. The cause is the whole text.
const (
	CodeAccessInvalid Code = iota + 1
	CodeAccessForbidden
	CodeAccessMissing
	CodeAccessConflict
)

// User is a user of the v2 API. Roles are sorted and not nil, once they have been changed. The root user has the root role,
// whatever is stored.
type User struct {
	Name  string
	Hash  []byte // of the password, by bcrypt
	Roles []string
}

// Role is a role of the v2 API: patterns of paths that may be read and written, sorted and not nil once they have been changed. A pattern that ends in an asterisk stands
// for everything that begins with what is before it.
type Role struct {
	Name        string
	Read, Write []string
}

// rootRole is the role that everybody knows.
func rootRole() Role { return Role{Name: RootRole, Read: []string{"/*"}, Write: []string{"/*"}} }

// Access is whether users and roles count, and a number that grows whenever anything about them changes.
type Access struct {
	Enabled  bool
	Revision uint64
}

// The first byte of the keys of users and roles, and the whole key of Access.
const (
	keyUser   = 'u' // name -> user
	keyRole   = 'r' // name -> role
	keyAccess = 'a' // -> whether they count
)

func nameKey(kind byte, name string) []byte { return append([]byte{kind}, name...) }

// The records of users, roles and Access:
//
//	user:   version(1) | hash | roles                      each text: length(uvarint) | bytes
//	role:   version(1) | read patterns | write patterns    each list: count(uvarint) | texts
//	access: version(1) = 1 | enabled(1) | revision(8, little endian)
//
// In version 1, which is written unless some list is empty, a list with a count of 0 is nil. In version 2 a nil list is 0, and
// every other one has its count and one more.
const (
	accessVersion      = 1
	accessVersionEmpty = 2
)

// versionOf is the version of a record with these lists.
func versionOf(lists ...[]string) byte {
	for _, l := range lists {
		if l != nil && len(l) == 0 {
			return accessVersionEmpty
		}
	}
	return accessVersion
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTexts(dst []byte, version byte, list []string) []byte {
	count := uint64(len(list))
	if version == accessVersionEmpty && list != nil {
		count++
	}
	dst = binary.AppendUvarint(dst, count)
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

func (d *decoder) text() string { return string(d.take(d.uvarint())) }

func (d *decoder) texts(version byte) (list []string) {
	n := d.uvarint()
	if version == accessVersionEmpty && n > 0 {
		n--
		list = []string{}
	}
	for ; n > 0 && !d.bad; n-- {
		list = append(list, d.text())
	}
	return list
}

func appendUser(dst []byte, u *User) []byte {
	version := versionOf(u.Roles)
	return appendTexts(appendText(append(dst, version), string(u.Hash)), version, u.Roles)
}

func decodeUser(name string, b []byte) (*User, error) {
	d := decoder{rest: b}
	version := d.byte()
	u := &User{Name: name, Hash: []byte(d.text()), Roles: d.texts(version)}
	if d.bad || version != accessVersion && version != accessVersionEmpty || len(d.rest) > 0 {
		return nil, fmt.Errorf("tree: record of user %q is not one of versions %d and %d, or damaged: %x", name, accessVersion, accessVersionEmpty, b)
	}
	u.Roles = withRoot(name, u.Roles)
	return u, nil
}

func appendRole(dst []byte, r *Role) []byte {
	version := versionOf(r.Read, r.Write)
	return appendTexts(appendTexts(append(dst, version), version, r.Read), version, r.Write)
}

func decodeRole(name string, b []byte) (*Role, error) {
	d := decoder{rest: b}
	version := d.byte()
	r := &Role{Name: name, Read: d.texts(version), Write: d.texts(version)}
	if d.bad || version != accessVersion && version != accessVersionEmpty || len(d.rest) > 0 {
		return nil, fmt.Errorf("tree: record of role %q is not one of versions %d and %d, or damaged: %x", name, accessVersion, accessVersionEmpty, b)
	}
	return r, nil
}

func appendAccess(dst []byte, a Access) []byte {
	enabled := byte(0)
	if a.Enabled {
		enabled = 1
	}
	return binary.LittleEndian.AppendUint64(append(dst, accessVersion, enabled), a.Revision)
}

func decodeAccess(b []byte) (Access, error) {
	d := decoder{rest: b}
	version, enabled, revision := d.byte(), d.byte(), d.uint64()
	if d.bad || version != accessVersion || enabled > 1 || len(d.rest) > 0 {
		return Access{}, fmt.Errorf("tree: access is not one of version %d: %x", accessVersion, b)
	}
	return Access{Enabled: enabled == 1, Revision: revision}, nil
}

// Access is whether users and roles count, with the changes so far.
func (tx *Tx) Access() Access { return tx.access }

// accessSetup is how many indexes etcd uses up, before the first change of users and roles, for the directories it keeps
// them in. There are none here, but numbers that clients see stay comparable.
const accessSetup = 4

// noteAccess counts a change of users and roles, which moves the index and makes no event.
func (tx *Tx) noteAccess() {
	if tx.access.Revision == 0 {
		for range accessSetup {
			tx.advance()
		}
	}
	tx.advance()
	tx.access.Revision++
}

func (tx *Tx) user(name string) (*User, error) {
	v, ok, err := tx.b.Get(storage.Tree, nameKey(keyUser, name))
	if err != nil || !ok {
		return nil, err
	}
	return decodeUser(name, v)
}

func (tx *Tx) setUser(u *User) {
	tx.b.Set(storage.Tree, nameKey(keyUser, u.Name), appendUser(nil, u))
	tx.noteAccess()
}

func (tx *Tx) role(name string) (*Role, error) {
	v, ok, err := tx.b.Get(storage.Tree, nameKey(keyRole, name))
	if err != nil || !ok {
		return nil, err
	}
	return decodeRole(name, v)
}

func (tx *Tx) setRole(r *Role) {
	tx.b.Set(storage.Tree, nameKey(keyRole, r.Name), appendRole(nil, r))
	tx.noteAccess()
}

// User carries out a TreeUser. It returns the user as it is then, and whether it was made; or a refusal.
//
// Source: v2 API specification, 12.4.
func (tx *Tx) User(o *command.TreeUser) (u *User, made bool, refusal *Error, err error) {
	old, err := tx.user(o.Name)
	if err != nil {
		return nil, false, nil, fmt.Errorf("tree: %w", err)
	}
	mode := o.Mode
	if mode == command.TreeAccessPut {
		mode = command.TreeAccessUpdate
		if old == nil {
			mode = command.TreeAccessCreate
		}
	}
	switch mode {
	case command.TreeAccessDelete:
		refusal = tx.deleteUser(old, o.Name)
	case command.TreeAccessCreate:
		u, refusal = tx.createUser(old, o)
	default:
		u, refusal = tx.updateUser(old, o)
	}
	if refusal != nil {
		refusal.Index = tx.p.Index
	}
	return u, mode == command.TreeAccessCreate, refusal, nil
}

func (tx *Tx) deleteUser(old *User, name string) *Error {
	switch {
	case tx.access.Enabled && name == RootUser:
		return refuse(CodeAccessForbidden, "auth: Cannot delete root user while auth is enabled.")
	case old == nil:
		return refuse(CodeAccessMissing, "auth: User "+name+" does not exist")
	}
	tx.b.Delete(storage.Tree, nameKey(keyUser, name))
	tx.noteAccess()
	return nil
}

func (tx *Tx) createUser(old *User, o *command.TreeUser) (*User, *Error) {
	switch {
	case old != nil:
		return nil, refuse(CodeAccessConflict, "auth: User "+o.Name+" already exists.")
	case len(o.Hash) == 0:
		return nil, refuse(CodeAccessInvalid, "auth: Cannot create user "+o.Name+" with an empty password")
	}
	u := &User{Name: o.Name, Hash: o.Hash, Roles: withRoot(o.Name, o.Roles)}
	tx.setUser(u)
	return u, nil
}

// withRoot adds to the roles of the root user the one that it always has.
func withRoot(user string, roles []string) []string {
	if user != RootUser || slices.Contains(roles, RootRole) {
		return roles
	}
	return append(slices.Clip(roles), RootRole)
}

func (tx *Tx) updateUser(old *User, o *command.TreeUser) (*User, *Error) {
	if old == nil {
		return nil, refuse(CodeAccessMissing, "auth: User "+o.Name+" does not exist.")
	}
	u := &User{Name: o.Name, Hash: old.Hash, Roles: slices.Clone(old.Roles)}
	if len(o.Hash) > 0 {
		u.Hash = o.Hash
	}
	for _, role := range o.Grant {
		if slices.Contains(u.Roles, role) {
			return nil, refuse(CodeAccessConflict, "auth: Granting duplicate role "+role+" for user "+o.Name)
		}
		u.Roles = append(u.Roles, role)
	}
	for _, role := range o.Revoke {
		if !slices.Contains(u.Roles, role) {
			return nil, refuse(CodeAccessConflict, "auth: Revoking ungranted role "+role+" for user "+o.Name)
		}
		u.Roles = slices.DeleteFunc(u.Roles, func(r string) bool { return r == role })
	}
	u.Roles = sortedSet(u.Roles)
	if string(u.Hash) == string(old.Hash) && isSame(u.Roles, old.Roles) {
		return nil, refuse(CodeAccessInvalid, "auth: User not updated. Use grant/revoke/password to update the user.")
	}
	tx.setUser(u)
	return u, nil
}

// Role carries out a TreeRole. It returns the role as it is then, or a refusal.
//
// Source: v2 API specification, 12.5.
func (tx *Tx) Role(o *command.TreeRole) (r *Role, refusal *Error, err error) {
	old, err := tx.role(o.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("tree: %w", err)
	}
	switch {
	case o.Name == RootRole:
		refusal = refuse(CodeAccessForbidden, "auth: Cannot modify role root: is root role.")
	case o.Mode == command.TreeAccessDelete && old == nil:
		refusal = refuse(CodeAccessMissing, "auth: Role "+o.Name+" doesn't exist.")
	case o.Mode == command.TreeAccessDelete:
		tx.b.Delete(storage.Tree, nameKey(keyRole, o.Name))
		tx.noteAccess()
	case o.Mode == command.TreeAccessUpdate && old == nil:
		refusal = refuse(CodeAccessMissing, "auth: Role "+o.Name+" does not exist.")
	case o.Mode == command.TreeAccessUpdate:
		r, refusal = tx.updateRole(old, o)
	case old != nil:
		refusal = refuse(CodeAccessConflict, "auth: Role "+o.Name+" already exists.")
	default:
		r = &Role{Name: o.Name, Read: o.Read, Write: o.Write}
		tx.setRole(r)
	}
	if refusal != nil {
		refusal.Index = tx.p.Index
	}
	return r, refusal, nil
}

func (tx *Tx) updateRole(old *Role, o *command.TreeRole) (*Role, *Error) {
	r := &Role{Name: o.Name}
	var refusal *Error
	if r.Read, refusal = changePatterns(old.Read, o.GrantRead, o.RevokeRead, "read"); refusal != nil {
		return nil, refusal
	}
	if r.Write, refusal = changePatterns(old.Write, o.GrantWrite, o.RevokeWrite, "write"); refusal != nil {
		return nil, refusal
	}
	if isSame(r.Read, old.Read) && isSame(r.Write, old.Write) {
		return nil, refuse(CodeAccessInvalid, "auth: Role not updated. Use grant/revoke to update the role.")
	}
	tx.setRole(r)
	return r, nil
}

// sortedSet is a list that is sorted, has nothing twice and is not nil.
func sortedSet(list []string) []string {
	set := append([]string{}, list...)
	slices.Sort(set)
	return slices.Compact(set)
}

// isSame reports whether a change has changed nothing, as etcd sees it: a list that was given in another order, or not at all,
// is another one than the sorted set that a change makes of it.
func isSame(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

func changePatterns(old, grant, revoke []string, kind string) ([]string, *Error) {
	list := slices.Clone(old)
	for _, p := range grant {
		if slices.Contains(list, p) {
			return nil, refuse(CodeAccessConflict, "auth: Granting duplicate "+kind+" permission "+p)
		}
		list = append(list, p)
	}
	list = slices.DeleteFunc(list, func(p string) bool { return slices.Contains(revoke, p) })
	return sortedSet(list), nil
}

// SetAccess carries out a TreeAccess. The first time, the guest role is made: it may do everything, until somebody says
// otherwise.
//
// Source: v2 API specification, 12.1 and 12.3.
func (tx *Tx) SetAccess(o *command.TreeAccess) (*Error, error) {
	refusal, err := tx.setAccess(o.Enabled)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	if refusal != nil {
		refusal.Index = tx.p.Index
		return refusal, nil
	}
	tx.access.Enabled = o.Enabled
	tx.noteAccess()
	return nil, nil
}

func (tx *Tx) setAccess(enabled bool) (*Error, error) {
	if !enabled {
		if !tx.access.Enabled {
			return refuse(CodeAccessConflict, "auth: already disabled"), nil
		}
		return nil, nil
	}
	if tx.access.Enabled {
		return refuse(CodeAccessConflict, "auth: already enabled"), nil
	}
	root, err := tx.user(RootUser)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return refuse(CodeAccessConflict, "auth: No root user available, please create one"), nil
	}
	guest, err := tx.role(GuestRole)
	if err != nil {
		return nil, err
	}
	if guest == nil {
		tx.setRole(&Role{Name: GuestRole, Read: []string{"/*"}, Write: []string{"/*"}})
	}
	return nil, nil
}

// User returns a user; nil: there is none.
func (v *View) User(name string) (*User, error) {
	value, ok, err := v.seek(nameKey(keyUser, name))
	if err != nil || !ok {
		return nil, err
	}
	return decodeUser(name, value)
}

// Role returns a role; nil: there is none.
func (v *View) Role(name string) (*Role, error) {
	if name == RootRole {
		r := rootRole()
		return &r, nil
	}
	value, ok, err := v.seek(nameKey(keyRole, name))
	if err != nil || !ok {
		return nil, err
	}
	return decodeRole(name, value)
}

// Users returns all users, by name.
func (v *View) Users() (list []User, err error) {
	err = v.named(keyUser, func(name string, value []byte) error {
		u, err := decodeUser(name, value)
		if err == nil {
			list = append(list, *u)
		}
		return err
	})
	return list, err
}

// Roles returns all roles, the root role too, by name.
func (v *View) Roles() (list []Role, err error) {
	err = v.named(keyRole, func(name string, value []byte) error {
		r, err := decodeRole(name, value)
		if err == nil {
			list = append(list, *r)
		}
		return err
	})
	list = append(list, rootRole())
	slices.SortFunc(list, func(a, b Role) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

func (v *View) named(kind byte, f func(name string, value []byte) error) error {
	for ok := v.it.SeekGE([]byte{kind}); ok && v.it.Key()[0] == kind; ok = v.it.Next() {
		value, err := v.it.Value()
		if err != nil {
			return err
		}
		if err := f(string(v.it.Key()[1:]), value); err != nil {
			return err
		}
	}
	return v.it.Error()
}
