package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/replica"
	"keelson/state"
)

// ChangeMembers carries out a MemberAdd, MemberRemove, MemberUpdate or MemberPromote, if the strict checks allow, and
// returns when it is applied here. Refusals of the machine stand in the result.
//
// It is done on behalf of the caller in ctx, as Propose is. Permission is checked before anything else, and again when the
// change is applied.
//
// Errors: ErrNotEnoughStarted, ErrUnhealthy; of a promotion ErrNotLeader and ErrLearnerNotReady; those of Propose.
func (n *Node) ChangeMembers(ctx context.Context, op command.Op) (state.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, n.o.RequestTimeout, ErrTimeout)
	defer cancel()
	if refusal, err := n.denied(ctx, op); refusal != nil || err != nil {
		return state.Result{Refusal: refusal}, err
	}
	if n.o.StrictReconfiguration {
		if err := n.checkReconfiguration(ctx, op); err != nil {
			return state.Result{}, err
		}
	}
	switch o := op.(type) {
	case *command.MemberAdd:
		typ := raftpb.ConfChangeAddNode
		if o.IsLearner {
			typ = raftpb.ConfChangeAddLearnerNode
		}
		return n.changeConfiguration(ctx, op, typ, o.ID)
	case *command.MemberRemove:
		return n.changeConfiguration(ctx, op, raftpb.ConfChangeRemoveNode, o.ID)
	case *command.MemberPromote:
		return n.promote(ctx, o)
	case *command.MemberUpdate:
		return n.Propose(ctx, op)
	}
	panic(fmt.Sprintf("node: %T is no change of the membership", op))
}

// promote carries out a promotion, and tells the observer how it ended if it was this member's to decide.
func (n *Node) promote(ctx context.Context, op *command.MemberPromote) (result state.Result, err error) {
	if err = n.mayPromote(ctx, op.ID); err == nil {
		result, err = n.changeConfiguration(ctx, op, raftpb.ConfChangeAddNode, op.ID)
	}
	if n.o.Observe.Promoted != nil && err != ErrNotLeader {
		n.o.Observe.Promoted(cmp.Or(err, result.Refusal))
	}
	return result, err
}

// denied is what users and roles speak against an op, so that nobody learns more by a refusal than he may know.
func (n *Node) denied(ctx context.Context, op command.Op) (refusal, err error) {
	who := n.caller(ctx)
	view := n.ReadLocal()
	defer view.Close()
	err = view.Authorize(who, op)
	if state.IsRefusal(err) {
		return err, nil
	}
	return nil, err
}

// changeConfiguration proposes a command together with the change of raft's configuration that it stands for.
func (n *Node) changeConfiguration(ctx context.Context, op command.Op, typ raftpb.ConfChangeType, id uint64) (state.Result, error) {
	who := n.caller(ctx)
	c := command.Command{Time: n.o.Clock.Now().UnixNano(), User: who.User, AuthRevision: who.Revision, Op: op}
	change := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: typ.Enum(), NodeId: proto.Uint64(id)}}}
	w, first, err := n.proposals.joinChange(c.Append(nil), change, n.o.Clock.Monotonic())
	if err != nil {
		return state.Result{}, err
	}
	if first {
		n.help()
	}
	return n.await(ctx, w)
}

// checkReconfiguration makes the strict checks against what this member knows, so that they are refused at once, and those that
// pass once more against what a quorum knows: another member may just have made a change that is not applied here yet.
func (n *Node) checkReconfiguration(ctx context.Context, op command.Op) error {
	if err := n.wise(n.ReadLocal(), op); err != nil {
		return err
	}
	view, err := n.Read(ctx)
	if err != nil {
		return err
	}
	return n.wise(view, op)
}

// wise makes the strict checks against a view, which it closes.
func (n *Node) wise(view *state.View, op command.Op) error {
	defer view.Close()
	r := reconfiguration{set: view.Members(), local: n.o.MemberID, connectedSince: n.connectedSince, now: n.o.Clock.Monotonic()}
	return r.check(op)
}

func (n *Node) connectedSince(id uint64) (time.Duration, bool) {
	if n.o.Network == nil {
		return 0, false
	}
	return n.o.Network.ConnectedSince(id)
}

// promotionPercent of the leader's log have to be on a learner before it may vote.
const promotionPercent = 90

// mayPromote is checkPromotion for those who may have heard of the learner before this member has: the member that added it
// had its acknowledgement as soon as it had applied the addition itself.
func (n *Node) mayPromote(ctx context.Context, id uint64) error {
	if !n.Status().Leading {
		return ErrNotLeader
	}
	view := n.ReadLocal()
	_, known := view.Members().Get(id)
	view.Close()
	if !known {
		if err := n.readIndex(ctx); err != nil {
			return err
		}
	}
	return n.checkPromotion(id)
}

// checkPromotion finds out whether a learner has caught up. A member that is none is for the machine to refuse, but as in
// etcd a voter that is far behind is told first that it is.
func (n *Node) checkPromotion(id uint64) error {
	if !n.Status().Leading {
		return ErrNotLeader
	}
	view := n.ReadLocal()
	_, ok := view.Members().Get(id)
	view.Close()
	if !ok {
		return nil
	}
	var own, match uint64
	for _, p := range n.Progress() {
		if p.ID == n.o.MemberID {
			own = p.Match
		}
		if p.ID == id { // perhaps this member itself
			match = p.Match
		}
	}
	if match == 0 || match*100 < own*promotionPercent {
		return ErrLearnerNotReady
	}
	return nil
}

// Progress is what this leader knows about the members, by id; nil on a member that does not lead.
func (n *Node) Progress() (list []replica.Progress) {
	n.mover.turn.take(func() {
		n.mover.replica.Progress(func(p replica.Progress) { list = append(list, p) })
	})
	return list
}

// MoveLeader hands leadership to another voter, and returns when this member has seen it lead.
//
// Errors: ErrNotLeader, ErrBadTransferee, ErrTransferTimeout when ctx ends.
func (n *Node) MoveLeader(ctx context.Context, to uint64) error {
	if !n.Status().Leading {
		return ErrNotLeader
	}
	view := n.ReadLocal()
	m, ok := view.Members().Get(to)
	view.Close()
	if !ok || m.IsLearner {
		return ErrBadTransferee
	}
	target := func() uint64 { return to }
	if n.transfer(ctx, target, n.o.Election, func(leader uint64) bool { return leader == to }) != nil {
		return ErrTransferTimeout
	}
	return nil
}

// handOverTries is how many successors are tried within an election timeout.
const handOverTries = 4

// HandOver gives leadership to another voter, if this member leads and there is one, and returns when another leads or ctx
// ends. It is for a member that is about to stop. The voter that is the most up to date is tried first; one that does not
// take over soon, because it is slow or has just died, is followed by the next one.
func (n *Node) HandOver(ctx context.Context) error {
	if !n.Status().Leading || n.successor() == 0 {
		return nil
	}
	tried := make(map[uint64]bool)
	next := func() uint64 {
		all := slices.DeleteFunc(n.Progress(), func(p replica.Progress) bool { return tried[p.ID] })
		to := replica.Successor(all, n.o.MemberID)
		if to == 0 { // all were: from the beginning
			clear(tried)
			to = n.successor()
		}
		tried[to] = true
		return to
	}
	return n.transfer(ctx, next, n.o.Election/handOverTries, func(leader uint64) bool {
		return leader != 0 && leader != n.o.MemberID
	})
}

// successor is the voter that could lead best in this member's place; 0: none.
func (n *Node) successor() (id uint64) { return replica.Successor(n.Progress(), n.o.MemberID) }

// transfer asks raft to hand leadership over until a leader is seen that will do. What has not come about within some time
// is asked for again, with what is the target then; 0: nobody is now.
func (n *Node) transfer(ctx context.Context, target func() uint64, patience time.Duration, done func(leader uint64) bool) error {
	for {
		leader, changed := n.leader.now()
		if done(leader) {
			return nil
		}
		if leader == n.o.MemberID {
			if to := target(); to != 0 {
				n.tell(replica.TransferLeader{To: to})
			}
		}
		again := n.o.Clock.NewTimer(patience)
		select {
		case <-changed:
		case <-again.C():
		case <-ctx.Done():
			again.Stop()
			return context.Cause(ctx)
		case <-n.stopped.Done():
			again.Stop()
			return ErrStopped
		}
		again.Stop()
	}
}

// membersChanged tells who belongs now, and whether this member was removed.
func (n *Node) membersChanged() {
	view := n.ReadLocal()
	set := view.Members()
	view.Close()
	if n.o.Observe.Members != nil {
		n.o.Observe.Members(set)
	}
	if set.Removed(n.o.MemberID) && n.o.Observe.Removed != nil {
		n.removed.Do(n.o.Observe.Removed)
	}
}

// IsRemoved reports whether an id once was a member's and is for ever gone.
func (n *Node) IsRemoved(id uint64) bool {
	view := n.ReadLocal()
	defer view.Close()
	return view.Members().Removed(id)
}
