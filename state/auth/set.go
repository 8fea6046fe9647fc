package auth

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"keelson/storage"
)

// Root is the name of the user who must exist, and of the role that may do everything.
const Root = "root"

// firstRevision is where the revision starts.
const firstRevision = 1

// User is one user. What it holds must not be changed.
type User struct {
	Name string
	// Hash is bcrypt's of the password; empty if NoPassword.
	Hash []byte
	// NoPassword: the user can't log in with a password, whatever is set.
	NoPassword bool
	// Roles are the names of roles, in order. Only Root need not be a role that there is.
	Roles []string
}

func (u *User) has(role string) bool {
	_, ok := slices.BinarySearch(u.Roles, role)
	return ok
}

// Role is one role. What it holds must not be changed.
type Role struct {
	Name string
	// Permissions are in order of key and end; no two are for the same keys.
	Permissions []Permission
}

// Access says what a permission lets one do. The numbers are those of the v3 API's Permission.Type.
type Access int32

// The kinds of access. Others can be granted, and let one do nothing.
const (
	Read      Access = 0
	Write     Access = 1
	ReadWrite Access = 2
)

// Permission is the right to some keys: Key alone, or Key <= key < End; an End of one zero byte is behind all keys.
type Permission struct {
	Access   Access
	Key, End []byte
}

func comparePermissions(a, b Permission) int {
	return cmp.Or(slices.Compare(a.Key, b.Key), slices.Compare(a.End, b.End))
}

// Set is users and roles at one moment. It is immutable; what it returns must not be changed. Any goroutine may use it.
type Set struct {
	enabled  bool
	revision uint64
	users    []*User // by name
	roles    []*Role // by name

	// rights remembers, by user, what users and roles come to: they are worked out when they are first needed, and can't
	// outlive what they follow from.
	rights sync.Map // string -> *rights
}

// Enabled reports whether one has to say who one is.
func (s *Set) Enabled() bool { return s.enabled }

// Revision counts the changes. It is never 0.
func (s *Set) Revision() uint64 { return s.revision }

// Users are all users, by name.
func (s *Set) Users() []*User { return s.users }

// Roles are all roles, by name.
func (s *Set) Roles() []*Role { return s.roles }

// User is the user of a name; nil: there is none.
func (s *Set) User(name string) *User {
	if i, ok := s.findUser(name); ok {
		return s.users[i]
	}
	return nil
}

// Role is the role of a name; nil: there is none.
func (s *Set) Role(name string) *Role {
	if i, ok := s.findRole(name); ok {
		return s.roles[i]
	}
	return nil
}

func (s *Set) findUser(name string) (int, bool) {
	return slices.BinarySearchFunc(s.users, name, func(u *User, name string) int { return strings.Compare(u.Name, name) })
}

func (s *Set) findRole(name string) (int, bool) {
	return slices.BinarySearchFunc(s.roles, name, func(r *Role, name string) int { return strings.Compare(r.Name, name) })
}

// Load reads users and roles.
func Load(r storage.Reader) (*Set, error) {
	s := &Set{revision: firstRevision}
	it, err := r.Iter(storage.Auth, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("auth: load: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := s.load(it); err != nil {
			it.Close()
			return nil, fmt.Errorf("auth: load: %w", err)
		}
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("auth: load: %w", err)
	}
	return s, nil
}

// load reads the record that it stands on. Records come in the order of names.
func (s *Set) load(it *storage.Iter) error {
	key := it.Key()
	v, err := it.Value()
	if err != nil {
		return err
	}
	if len(key) == 0 {
		return fmt.Errorf("record without a name: %x", v)
	}
	switch name := string(key[1:]); key[0] {
	case keyStatus:
		s.enabled, s.revision, err = decodeStatus(v)
	case keyRole:
		var role *Role
		role, err = decodeRole(name, v)
		s.roles = append(s.roles, role)
	case keyUser:
		var user *User
		user, err = decodeUser(name, v)
		s.users = append(s.users, user)
	default:
		err = fmt.Errorf("record of an unknown kind: %x", key)
	}
	return err
}
