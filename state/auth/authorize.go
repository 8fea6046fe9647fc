package auth

import (
	"keelson/command"
	"keelson/internal/fault"
)

// Authorize decides whether a caller may have what he asks for, and returns nil or a refusal: ErrUserEmpty, ErrUserNotFound,
// ErrDenied or ErrOldRevision. Any other error is a failure of leases.
//
// It is the permission table of the API, and the only one. Whoever is not named in it may not.
func (s *Set) Authorize(who Caller, request Request, leases Leases) error {
	if !s.enabled {
		return nil
	}
	switch o := request.(type) {
	case Public:
		return nil
	case *command.TreePut, *command.TreeDelete, *command.TreeExpire: // the v2 API has users of its own
		return nil
	case *command.TokenAssign: // by the member that has checked the password, on its own account
		return s.fresh(who)
	case AnyUser, *command.LeaseGrant:
		return s.user(who)
	case LeaseLookup:
		if !o.Keys {
			return s.user(who)
		}
		return s.data(who, request, leases)
	case *command.Range, *command.Put, *command.DeleteRange, *command.Txn, *command.LeaseRevoke,
		Watch, Keys, LeaseRenew, LeaseList:
		return s.data(who, request, leases)
	case UserLookup:
		if who.User == "" || who.User != o.Name {
			return s.admin(who)
		}
		return nil // that he is gone he may know
	case RoleLookup:
		if u := s.User(who.User); u == nil || !u.has(o.Name) {
			return s.admin(who)
		}
		return nil
	case Administration, *command.Compact, *command.Alarm, *command.Downgrade,
		*command.MemberAdd, *command.MemberRemove, *command.MemberUpdate, *command.MemberPromote,
		*command.AuthEnable, *command.AuthDisable,
		*command.UserAdd, *command.UserDelete, *command.UserChangePassword, *command.UserGrantRole, *command.UserRevokeRole,
		*command.RoleAdd, *command.RoleDelete, *command.RoleGrantPermission, *command.RoleRevokePermission:
		return s.admin(who)
	}
	return ErrDenied
}

// Admit decides whether a command may be carried out. What a member proposes on its own account may.
func (s *Set) Admit(c *command.Command, leases Leases) error {
	if c.AuthRevision == 0 {
		return nil
	}
	return s.Authorize(Caller{User: c.User, Revision: c.AuthRevision}, c.Op, leases)
}

// user lets users pass.
func (s *Set) user(who Caller) error {
	switch {
	case who.User == "":
		return ErrUserEmpty
	case s.User(who.User) == nil:
		return ErrDenied
	}
	return nil
}

// admin lets users with the role root pass.
func (s *Set) admin(who Caller) error {
	if who.User == "" {
		return ErrUserEmpty
	}
	switch u := s.User(who.User); {
	case u == nil:
		return ErrUserNotFound
	case !u.has(Root):
		return ErrDenied
	}
	return nil
}

// fresh lets pass who was admitted by users and roles as they are.
func (s *Set) fresh(who Caller) error {
	if who.Revision < s.revision && !fault.Mutant("rights-of-before") {
		return ErrOldRevision
	}
	return nil
}

// data lets pass who has all rights to keys that a request takes.
func (s *Set) data(who Caller, request Request, leases Leases) error {
	if who.User == "" && !who.Unnamed {
		return ErrUserEmpty
	}
	if err := s.fresh(who); err != nil {
		return err
	}
	r := s.rightsOf(who.User)
	if r == nil {
		return ErrDenied
	}
	if r.all {
		return nil
	}
	n := need{rights: r, leases: leases}
	if !n.holds(request) && n.err == nil {
		return ErrDenied
	}
	return n.err
}

// need holds a request against rights.
type need struct {
	*rights
	leases Leases
	err    error // what leases have failed with
}

// holds reports whether the rights suffice for a request and all that is nested in it.
func (n *need) holds(request Request) bool {
	switch o := request.(type) {
	case *command.Range:
		return n.read.hasAll(o.Key, o.End)
	case Watch:
		return n.read.hasAll(o.Key, o.End)
	case *command.Put:
		return n.write.hasAll(o.Key, nil) && (!o.PrevKV || n.read.hasAll(o.Key, nil)) &&
			(o.Lease == 0 || n.writesKeysOf(o.Lease))
	case *command.DeleteRange:
		return n.write.hasAll(o.Key, o.End) && (!o.PrevKV || n.read.hasAll(o.Key, o.End))
	case *command.Txn:
		return n.holdsTxn(o)
	case Keys:
		for _, key := range o.Keys {
			if !n.read.hasAll(key, nil) {
				return false
			}
		}
		return true
	case *command.LeaseRevoke:
		return n.writesKeysOf(o.ID)
	case LeaseRenew:
		return n.writesKeysOf(o.ID)
	case LeaseLookup:
		return n.hasKeysOf(o.ID, n.read)
	case LeaseList:
		return n.hasKeysOfAll(n.read)
	}
	return false
}

// holdsTxn looks at both branches, whichever will be taken, and at the compares, whose outcome tells of keys.
func (n *need) holdsTxn(o *command.Txn) bool {
	for i := range o.Compares {
		if !n.read.hasAll(o.Compares[i].Key, o.Compares[i].End) {
			return false
		}
	}
	for _, branch := range [][]command.Op{o.Success, o.Failure} {
		for _, op := range branch {
			if _, nested := op.(*command.Txn); fault.Mutant("nested-txn-unchecked") && nested {
				continue
			}
			if !n.holds(op) {
				return false
			}
		}
	}
	return true
}

// writesKeysOf reports whether one may write all keys that hang on a lease: whoever has a hand on it decides when they go.
func (n *need) writesKeysOf(id int64) bool { return n.hasKeysOf(id, n.write) }

// hasKeysOf reports whether all keys of a lease are in a set. It leaps from span to span: what it costs is bounded by the
// set, however many keys there are.
func (n *need) hasKeysOf(id int64, in spans) bool {
	var from []byte
	for {
		key, ok, err := n.leases.KeyFrom(id, from)
		if err != nil {
			n.err = err
			return false
		}
		if !ok {
			return true
		}
		s, ok := in.at(key)
		if !ok {
			return false
		}
		if s.end == nil {
			return true
		}
		from = s.end
	}
}

// hasKeysOfAll reports whether all keys of all leases are in a set.
func (n *need) hasKeysOfAll(in spans) bool {
	all := true
	err := n.leases.AllKeys(func(key []byte) bool {
		_, all = in.at(key)
		return all
	})
	if err != nil {
		n.err = err
	}
	return all && err == nil
}

// rights are what a user's roles come to. They are immutable.
type rights struct {
	all         bool // he has the role root
	read, write spans
}

// rightsOf works out a user's rights, or remembers them; nil: there is no such user.
func (s *Set) rightsOf(name string) *rights {
	if r, ok := s.rights.Load(name); ok {
		return r.(*rights)
	}
	u := s.User(name)
	if u == nil {
		return nil
	}
	r, _ := s.rights.LoadOrStore(name, s.workOut(u))
	return r.(*rights)
}

func (s *Set) workOut(u *User) *rights {
	if u.has(Root) {
		return &rights{all: true}
	}
	var read, write []span
	for _, name := range u.Roles {
		role := s.Role(name)
		if role == nil {
			continue
		}
		for _, p := range role.Permissions {
			span := spanOf(p.Key, p.End)
			if p.Access == Read || p.Access == ReadWrite {
				read = append(read, span)
			}
			if p.Access == Write || p.Access == ReadWrite {
				write = append(write, span)
			}
		}
	}
	return &rights{read: merge(read), write: merge(write)}
}
