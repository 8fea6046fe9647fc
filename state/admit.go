package state

import "keelson/command"

// admit holds the checks that come before any op, in the order in which they win. It returns a refusal or nil.
func (r *run) admit(op command.Op) error {
	if r.alarms.Set().Corrupt() && changesData(op) {
		return ErrCorrupt
	}
	if r.alarms.Set().NoSpace() && takesSpace(op) {
		return ErrNoSpace
	}
	return nil
}

// changesData reports whether op is of a kind that a CORRUPT alarm forbids.
func changesData(op command.Op) bool {
	switch op.(type) {
	case *command.Put, *command.DeleteRange, *command.Txn, *command.Compact, *command.LeaseGrant, *command.LeaseRevoke,
		*command.TreePut, *command.TreeDelete, *command.TreeExpire:
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
