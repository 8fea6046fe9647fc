package node

import (
	"errors"
	"time"

	"keelson/command"
	"keelson/state/members"
)

// Why a change of the membership is not even proposed.
var (
	// ErrNotEnoughStarted: after the change, members that have never started could leave the others without a quorum.
	ErrNotEnoughStarted = errors.New("not enough started members")
	// ErrUnhealthy: too few voters are connected for the change to be survived.
	ErrUnhealthy = errors.New("unhealthy cluster")
	// ErrLearnerNotReady: the learner to be promoted has not caught up with the leader.
	ErrLearnerNotReady = errors.New("learner is not in sync with the leader")
)

// healthyAfter is how long a connection has to have stood before its member counts as active.
const healthyAfter = 5 * time.Second

// reconfiguration is what the strict checks go by.
type reconfiguration struct {
	set   *members.Set
	local uint64
	// connectedSince tells since when (monotonic) a live connection to a member has stood; ok is false if there is none.
	connectedSince func(id uint64) (since time.Duration, ok bool)
	now            time.Duration // monotonic
}

// check says whether a change of the membership is wise: whether the cluster keeps its quorum if what is added never
// starts, and what is not connected never comes back. A change that the machine will refuse anyhow passes: the machine
// knows the better reason.
//
//	              started members                             active members
//	add voter     > half of the voters and the newcomer,      > half of the voters and the newcomer, who counts as down;
//	              or the lone voter has started               not asked of a lone voter
//	add learner   -                                           as for a voter
//	remove voter  > half of the others                        more than half of the others without one of the active;
//	                                                          not asked if the voter is another and not connected
//	promote       > half of the voters and the learner,       -
//	              who counts as started
//
// Removing a learner and updating addresses is always wise. The rules are those of etcd's strict-reconfig-check; where
// they seem stricter than a quorum needs, clients know them so.
//
// Errors: ErrNotEnoughStarted, ErrUnhealthy.
// Source: etcd v3 API, Cluster, strict reconfiguration check.
func (r reconfiguration) check(op command.Op) error {
	switch o := op.(type) {
	case *command.MemberAdd:
		if o.IsLearner {
			return r.checkActiveForOneMore()
		}
		return r.checkAddVoter()
	case *command.MemberRemove:
		return r.checkRemove(o.ID)
	case *command.MemberPromote:
		return r.checkPromote(o.ID)
	}
	return nil
}

func (r reconfiguration) checkAddVoter() error {
	voters, started := r.count(0)
	lone := voters == 1 && started == 1
	if !lone && started < quorum(voters+1) {
		return ErrNotEnoughStarted
	}
	return r.checkActiveForOneMore()
}

// checkActiveForOneMore checks that the active voters are a quorum even of one voter more.
func (r reconfiguration) checkActiveForOneMore() error {
	voters, _ := r.count(0)
	if voters > 1 && r.active() < quorum(voters+1) {
		return ErrUnhealthy
	}
	return nil
}

func (r reconfiguration) checkRemove(id uint64) error {
	if m, ok := r.set.Get(id); !ok || m.IsLearner {
		return nil
	}
	others, started := r.count(id)
	if started < quorum(others) {
		return ErrNotEnoughStarted
	}
	if _, connected := r.connectedSince(id); id != r.local && !connected {
		return nil // it takes no part in what the others do now
	}
	if r.active()-1 < quorum(others) {
		return ErrUnhealthy
	}
	return nil
}

func (r reconfiguration) checkPromote(id uint64) error {
	if m, ok := r.set.Get(id); !ok || !m.IsLearner {
		return nil
	}
	voters, started := r.count(0)
	if started+1 < quorum(voters+1) {
		return ErrNotEnoughStarted
	}
	return nil
}

// quorum is the least number of n voters that is more than half of them. Of nobody there is none: it is 1.
func quorum(n int) int { return n/2 + 1 }

// count counts the voters, and those of them that have started, leaving out one id.
func (r reconfiguration) count(except uint64) (voters, started int) {
	for _, m := range r.set.List() {
		if m.IsLearner || m.ID == except {
			continue
		}
		voters++
		if m.Name != "" {
			started++
		}
	}
	return voters, started
}

// active counts the voters that have been connected for a while, with this member if it is one.
func (r reconfiguration) active() (n int) {
	for _, m := range r.set.List() {
		if m.IsLearner {
			continue
		}
		since, ok := r.connectedSince(m.ID)
		if m.ID == r.local || ok && r.now-since >= healthyAfter {
			n++
		}
	}
	return n
}
