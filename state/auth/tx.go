package auth

import (
	"slices"

	"keelson/command"
	"keelson/storage"
)

// Tx writes to one batch. It belongs to the goroutine that applies.
type Tx struct {
	b       *storage.Batch
	was     *Set // what Begin was given
	set     *Set
	written []byte        // records written since TakeWritten
	tokens  []TokenChange // since Begin
}

// Begin starts writing to a batch. s is what was published last.
func Begin(b *storage.Batch, s *Set) *Tx { return &Tx{b: b, was: s, set: s} }

// Set is users and roles with the changes so far; each change makes another. It must not be used before the batch is
// committed, and the Tx not after.
func (tx *Tx) Set() *Set { return tx.set }

// Changed reports whether anything was written.
func (tx *Tx) Changed() bool { return tx.set != tx.was }

// Tokens are what has happened to tokens since Begin, in order.
func (tx *Tx) Tokens() []TokenChange { return tx.tokens }

// TakeWritten returns what was written since it was last called, as bytes that are equal exactly for equal changes. They
// are valid until the next change.
func (tx *Tx) TakeWritten() []byte {
	w := tx.written
	tx.written = tx.written[:0]
	return w
}

// Apply carries out one of the ops about users and roles, in the entry at index; known is false for any other op. The error
// is a refusal, and then nothing has changed. Source: v3-api.md of the specification, Auth.
func (tx *Tx) Apply(op command.Op, index uint64) (known bool, err error) {
	switch o := op.(type) {
	case *command.AuthEnable:
		err = tx.enable()
	case *command.AuthDisable:
		tx.disable()
	case *command.UserAdd:
		err = tx.addUser(o)
	case *command.UserDelete:
		err = tx.deleteUser(o.Name)
	case *command.UserChangePassword:
		err = tx.changePassword(o)
	case *command.UserGrantRole:
		err = tx.grantRole(o)
	case *command.UserRevokeRole:
		err = tx.revokeRole(o)
	case *command.RoleAdd:
		err = tx.addRole(o.Name)
	case *command.RoleDelete:
		err = tx.deleteRole(o.Name)
	case *command.RoleGrantPermission:
		err = tx.grantPermission(o)
	case *command.RoleRevokePermission:
		err = tx.revokePermission(o)
	case *command.TokenAssign:
		err = tx.assignToken(o, index)
	default:
		return false, nil
	}
	return true, err
}

// enable does not count as a change: what users may do stays the same.
func (tx *Tx) enable() error {
	if tx.set.enabled {
		return nil
	}
	switch root := tx.set.User(Root); {
	case root == nil:
		return ErrNoRoot
	case !root.has(Root):
		return ErrNoRootRole
	}
	next := tx.set.copy()
	next.enabled = true
	tx.replace(next)
	return nil
}

func (tx *Tx) disable() {
	if !tx.set.enabled {
		return
	}
	next := tx.set.next()
	next.enabled = false
	tx.replace(next)
	tx.tokens = append(tx.tokens, TokenChange{Kind: TokensEnd})
}

func (tx *Tx) addUser(o *command.UserAdd) error {
	if o.Name == "" {
		return ErrUserEmpty
	}
	i, taken := tx.set.findUser(o.Name)
	if taken {
		return ErrUserExists
	}
	u := &User{Name: o.Name, NoPassword: o.NoPassword}
	if !o.NoPassword {
		u.Hash = slices.Clone(o.Hash)
	}
	next := tx.set.next()
	next.users = slices.Insert(slices.Clone(next.users), i, u)
	tx.replace(next)
	tx.storeUser(u)
	return nil
}

func (tx *Tx) deleteUser(name string) error {
	if tx.set.enabled && name == Root {
		return ErrInvalidManagement
	}
	i, ok := tx.set.findUser(name)
	if !ok {
		return ErrUserNotFound
	}
	next := tx.set.next()
	next.users = slices.Delete(slices.Clone(next.users), i, i+1)
	tx.replace(next)
	tx.remove(keyUser, name)
	tx.tokens = append(tx.tokens, TokenChange{Kind: TokensOfUserEnd, User: name})
	return nil
}

func (tx *Tx) changePassword(o *command.UserChangePassword) error {
	i, ok := tx.set.findUser(o.Name)
	if !ok {
		return ErrUserNotFound
	}
	u := *tx.set.users[i]
	if !u.NoPassword {
		u.Hash = slices.Clone(o.Hash)
	}
	tx.replaceUser(i, &u)
	tx.tokens = append(tx.tokens, TokenChange{Kind: TokensOfUserEnd, User: o.Name})
	return nil
}

func (tx *Tx) grantRole(o *command.UserGrantRole) error {
	i, ok := tx.set.findUser(o.Name)
	if !ok {
		return ErrUserNotFound
	}
	if o.Role != Root && tx.set.Role(o.Role) == nil {
		return ErrRoleNotFound
	}
	u := *tx.set.users[i]
	at, has := slices.BinarySearch(u.Roles, o.Role)
	if has {
		return nil
	}
	u.Roles = slices.Insert(slices.Clone(u.Roles), at, o.Role)
	tx.replaceUser(i, &u)
	return nil
}

func (tx *Tx) revokeRole(o *command.UserRevokeRole) error {
	if tx.set.enabled && o.Name == Root && o.Role == Root {
		return ErrInvalidManagement
	}
	i, ok := tx.set.findUser(o.Name)
	if !ok {
		return ErrUserNotFound
	}
	if !tx.set.users[i].has(o.Role) {
		return ErrRoleNotGranted
	}
	tx.replaceUser(i, tx.set.users[i].without(o.Role))
	return nil
}

// without is a copy of the user that does not have a role.
func (u *User) without(role string) *User {
	c := *u
	c.Roles = nil
	for _, name := range u.Roles {
		if name != role {
			c.Roles = append(c.Roles, name)
		}
	}
	return &c
}

func (tx *Tx) addRole(name string) error {
	if name == "" {
		return ErrRoleEmpty
	}
	i, taken := tx.set.findRole(name)
	if taken {
		return ErrRoleExists
	}
	r := &Role{Name: name}
	next := tx.set.next()
	next.roles = slices.Insert(slices.Clone(next.roles), i, r)
	tx.replace(next)
	tx.storeRole(r)
	return nil
}

func (tx *Tx) deleteRole(name string) error {
	if tx.set.enabled && name == Root {
		return ErrInvalidManagement
	}
	i, ok := tx.set.findRole(name)
	if !ok {
		return ErrRoleNotFound
	}
	next := tx.set.next()
	next.roles = slices.Delete(slices.Clone(next.roles), i, i+1)
	next.users = slices.Clone(next.users)
	for i, u := range next.users {
		if u.has(name) {
			next.users[i] = u.without(name)
			tx.storeUser(next.users[i])
		}
	}
	tx.replace(next)
	tx.remove(keyRole, name)
	return nil
}

func (tx *Tx) grantPermission(o *command.RoleGrantPermission) error {
	if len(o.Key) == 0 || isEmpty(o.Key, o.End) {
		return ErrInvalidManagement
	}
	i, ok := tx.set.findRole(o.Role)
	if !ok {
		return ErrRoleNotFound
	}
	r := *tx.set.roles[i]
	p := Permission{Access: Access(o.Access), Key: slices.Clone(o.Key), End: slices.Clone(o.End)}
	at, found := slices.BinarySearchFunc(r.Permissions, p, comparePermissions)
	r.Permissions = slices.Clone(r.Permissions)
	if found {
		r.Permissions[at] = p
	} else {
		r.Permissions = slices.Insert(r.Permissions, at, p)
	}
	tx.replaceRole(i, &r)
	return nil
}

func (tx *Tx) revokePermission(o *command.RoleRevokePermission) error {
	i, ok := tx.set.findRole(o.Role)
	if !ok {
		return ErrRoleNotFound
	}
	r := *tx.set.roles[i]
	at, found := slices.BinarySearchFunc(r.Permissions, Permission{Key: o.Key, End: o.End}, comparePermissions)
	if !found {
		return ErrPermissionNotGranted
	}
	r.Permissions = slices.Delete(slices.Clone(r.Permissions), at, at+1)
	tx.replaceRole(i, &r)
	return nil
}

// assignToken changes nothing but what is known of tokens.
func (tx *Tx) assignToken(o *command.TokenAssign, index uint64) error {
	if !tx.set.enabled {
		return ErrNotEnabled
	}
	if tx.set.User(o.User) == nil {
		return ErrUserNotFound
	}
	tx.tokens = append(tx.tokens, TokenChange{Kind: TokenAssigned, User: o.User, Digest: slices.Clone(o.Digest), Index: index})
	return nil
}

// copy returns a Set that may be changed, but for its elements. It remembers no rights.
func (s *Set) copy() *Set {
	return &Set{enabled: s.enabled, revision: s.revision, users: s.users, roles: s.roles}
}

// next is copy, one revision later.
func (s *Set) next() *Set {
	c := s.copy()
	c.revision++
	return c
}

func (tx *Tx) replace(next *Set) {
	tx.set = next
	tx.store(recordKey(keyStatus, ""), encodeStatus(next.enabled, next.revision))
}

// replaceUser puts another user in the place of the one at i.
func (tx *Tx) replaceUser(i int, u *User) {
	next := tx.set.next()
	next.users = slices.Clone(next.users)
	next.users[i] = u
	tx.replace(next)
	tx.storeUser(u)
}

// replaceRole puts another role in the place of the one at i.
func (tx *Tx) replaceRole(i int, r *Role) {
	next := tx.set.next()
	next.roles = slices.Clone(next.roles)
	next.roles[i] = r
	tx.replace(next)
	tx.storeRole(r)
}

func (tx *Tx) storeUser(u *User) { tx.store(recordKey(keyUser, u.Name), encodeUser(u)) }
func (tx *Tx) storeRole(r *Role) { tx.store(recordKey(keyRole, r.Name), encodeRole(r)) }

func (tx *Tx) store(key, record []byte) {
	tx.b.Set(storage.Auth, key, record)
	tx.written = appendBytes(appendBytes(tx.written, key), record)
}

func (tx *Tx) remove(kind byte, name string) {
	key := recordKey(kind, name)
	tx.b.Delete(storage.Auth, key)
	tx.written = appendBytes(appendBytes(tx.written, key), nil)
}
