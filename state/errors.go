package state

import (
	"errors"
	"fmt"

	"keelson/state/auth"
	"keelson/state/members"
	"keelson/state/mvcc"
)

// Refusals: a command that meets one of these, or one of those of the packages below (see refusals), changes nothing.
var (
	// ErrEmptyKey refuses an operation without a key.
	ErrEmptyKey = errors.New("key is not provided")
	// ErrNoSpace refuses what would store more while a NOSPACE alarm is raised.
	ErrNoSpace = errors.New("database space exceeded")
	// ErrCorrupt refuses every change of pairs and leases while a CORRUPT alarm is raised.
	ErrCorrupt = errors.New("corrupt cluster")
	// ErrLeaseNotFound refuses to attach to, or to revoke, a lease that there is not, or not any more: an expiry names the
	// grant it is about, and a later lease of the same id is another.
	ErrLeaseNotFound = errors.New("requested lease not found")
	// ErrLeaseExists refuses to grant a lease under an id that is taken.
	ErrLeaseExists = errors.New("lease already exists")
	// ErrStaleTerm voids what a leader of an earlier term says about leases: that one has expired, how long some have left.
	ErrStaleTerm = errors.New("leases as a former leader counted them")
	// ErrMisplaced refuses to add, remove or promote a member in an entry that is no change of raft's configuration, and
	// everything else in one that is.
	ErrMisplaced = errors.New("membership change and configuration change do not come together")
)

// refusals numbers all refusals for the state hash. The numbers are part of what members compare: append only.
var refusals = []error{
	1:  ErrEmptyKey,
	2:  ErrNoSpace,
	3:  ErrCorrupt,
	4:  ErrLeaseNotFound,
	5:  ErrLeaseExists,
	6:  ErrStaleTerm,
	7:  mvcc.ErrCompacted,
	8:  mvcc.ErrFuture,
	9:  mvcc.ErrKeyNotFound,
	10: members.ErrNotFound,
	11: members.ErrExists,
	12: members.ErrPeerURLExists,
	13: members.ErrTooManyLearners,
	14: members.ErrNotLearner,
	15: members.ErrLastVoter,
	16: members.ErrConfiguration,
	17: ErrMisplaced,
	18: members.ErrDowngrading,
	19: members.ErrNotDowngrading,
	// 20 to 31 are not about users.
	32: auth.ErrNoRoot,
	33: auth.ErrNoRootRole,
	34: auth.ErrUserExists,
	35: auth.ErrUserEmpty,
	36: auth.ErrUserNotFound,
	37: auth.ErrRoleExists,
	38: auth.ErrRoleEmpty,
	39: auth.ErrRoleNotFound,
	40: auth.ErrRoleNotGranted,
	41: auth.ErrPermissionNotGranted,
	42: auth.ErrInvalidManagement,
	43: auth.ErrNotEnabled,
	44: auth.ErrDenied,
	45: auth.ErrOldRevision,
}

// Refusals lists every refusal that a Result can carry.
func Refusals() []error {
	var list []error
	for _, r := range refusals {
		if r != nil {
			list = append(list, r)
		}
	}
	return list
}

// IsRefusal tells refusals from failures. Nil is neither.
func IsRefusal(err error) bool { return isRefusal(err) }

func isRefusal(err error) bool {
	for _, r := range refusals {
		if r != nil && err == r {
			return true
		}
	}
	return false
}

// refusalNumber is 0 for nil.
func refusalNumber(err error) byte {
	if err == nil {
		return 0
	}
	for i, r := range refusals {
		if err == r {
			return byte(i)
		}
	}
	panic(fmt.Sprintf("state: %v is no refusal", err))
}

// ErrNotBootstrapped is in the error of Open when the database holds no state yet.
var ErrNotBootstrapped = errors.New("no state to open")
