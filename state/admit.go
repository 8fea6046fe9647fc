package state

import (
	"keelson/command"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/storage"
)

// admit holds the checks that come before any op, in the order in which they win. It returns a refusal or nil, or a failure
// of r.
func admit(alarms *alarm.Set, users *auth.Set, r storage.Reader, c *command.Command) error {
	if alarms.Corrupt() && changesData(c.Op) {
		return ErrCorrupt
	}
	if alarms.NoSpace() && takesSpace(c.Op) {
		return ErrNoSpace
	}
	if !users.Enabled() { // as in most clusters: without the cost of what follows
		return nil
	}
	return users.Admit(c, leasedKeys{r})
}

// leasedKeys tells package auth which keys hang on leases.
type leasedKeys struct{ r storage.Reader }

// KeyFrom implements auth.Leases.
func (l leasedKeys) KeyFrom(id int64, from []byte) ([]byte, bool, error) {
	return lease.KeyFrom(l.r, id, from)
}

// AllKeys implements auth.Leases.
func (l leasedKeys) AllKeys(yield func(key []byte) bool) error { return lease.AllKeys(l.r, yield) }

// changesData reports whether op is of a kind that a CORRUPT alarm forbids.
func changesData(op command.Op) bool {
	switch op.(type) {
	case *command.Put, *command.DeleteRange, *command.Txn, *command.Compact, *command.LeaseGrant, *command.LeaseRevoke,
		*command.TreePut, *command.TreeDelete, *command.TreeExpire,
		*command.TreeUser, *command.TreeRole, *command.TreeAccess:
		return true
	}
	return false
}

// takesSpace reports whether op is of a kind that a NOSPACE alarm forbids.
func takesSpace(op command.Op) bool {
	switch o := op.(type) {
	case *command.Put, *command.LeaseGrant, *command.TreePut:
		return true
	case *command.Txn:
		return o.HasPut()
	}
	return false
}
