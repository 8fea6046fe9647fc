package replica

import (
	"errors"
	"fmt"
)

// Why a proposal or a read went nowhere. The caller may try again.
var (
	// ErrLeaderChanged: the leader asked to confirm a read is no longer the leader, or not known to be.
	ErrLeaderChanged = errors.New("leader changed")
	// ErrTransferring: this leader is handing over and takes no proposals meanwhile.
	ErrTransferring = errors.New("leadership transfer in progress")
	// ErrBusy: too many bytes are proposed and not yet applied.
	ErrBusy = errors.New("too many uncommitted proposals")
	// ErrRemoved: this member is not part of the configuration it leads.
	ErrRemoved = errors.New("not in the configuration")
	// ErrSkipped: a snapshot came in place of entries among which the proposal may have been: its outcome is unknown.
	ErrSkipped = errors.New("skipped by a snapshot")
	// ErrConfChangePending: an earlier change of the configuration has not been applied yet, or the cluster is in the
	// middle of a joint change.
	ErrConfChangePending = errors.New("configuration change pending")
)

// RolledBackError says that this member has acknowledged entries that it does not have: its log was lost, or an old copy of
// it put back. It may have voted for somebody, and forgotten it too, so it must not take part any more.
type RolledBackError struct {
	Member, Leader     uint64
	Acknowledged, Last uint64 // indexes
}

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("replica: member %x has acknowledged entries up to %d, as leader %x knows, but its log ends with %d: "+
		"the log was lost, or an old copy of it put back", e.Member, e.Acknowledged, e.Leader, e.Last)
}
