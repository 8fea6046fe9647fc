package leader

import "keelson/command"

// Deadlines is what TreeExpiry asks of the state.
type Deadlines interface {
	// TreeDue reports whether any deadline of the v2 tree is not later than now, in nanoseconds since 1970.
	TreeDue(now int64) (bool, error)
}

// treeExpiriesMax is how many nodes of the v2 tree run out with one command.
const treeExpiriesMax = 1000

// TreeExpiry returns the command that removes what has run out in the v2 tree at now, by the leader's wall clock in
// nanoseconds since 1970; nil if nothing has. It may be proposed again before it is applied, and by a leader of before:
// what has run out has done so whoever says it, and a node that was given a later deadline meanwhile stays.
func TreeExpiry(d Deadlines, now int64) (*command.TreeExpire, error) {
	due, err := d.TreeDue(now)
	if err != nil || !due {
		return nil, err
	}
	return &command.TreeExpire{Stamp: now, Limit: treeExpiriesMax}, nil
}
