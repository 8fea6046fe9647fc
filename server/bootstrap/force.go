package bootstrap

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/env"
	"keelson/raftlog"
	"keelson/state"
	"keelson/state/members"
	"keelson/storage"
)

// ForceOptions are what Force works on.
type ForceOptions struct {
	FS env.FS
	// Scratch names a directory beside the store, for a copy of it. What a crash has left of one is removed.
	Scratch  string
	MemberID uint64
	Machine  *state.Machine
	Log      *raftlog.Log
	Clock    env.Clock // of the time that commands carry
	Logger   *zap.Logger
	// Fatal is told that the copy can't go on, as storage.Options.Fatal is. Nil: panic.
	Fatal func(reason string)
}

var (
	errForceEmpty   = errors.New("--force-new-cluster: this member has joined a cluster and not been given its state yet; force a member that has data")
	errForceRemoved = errors.New("--force-new-cluster: this member was removed from the cluster, and removed ids never come back; " +
		"force another member, or restore a snapshot")
)

// Force makes the member the only one of its cluster: cluster id, member id and data stay, all other members go. It is for
// those who have lost the others for good, and does nothing where there are no others.
//
// The changes are entries of the log like any others, one for each member that goes, after one that makes this member a
// voter if it is a learner. They stand in a term of their own, which this member has voted for itself in, behind everything
// that the log holds, and are committed together with it in one append: before, the log says nothing of this, and
// afterwards every start leads to a cluster of one. Entries that nobody had heard to be committed stay: the lost members may
// have acknowledged them. Only from an uncommitted removal of this very member on they are given up.
//
// What the entries at the end of the log lead to is found out on a copy of the store, since an entry that is not committed
// must not reach the store itself. At the end, the store holds the whole log, durably.
//
// Errors: that there is nothing to force from; failures of the disk.
func Force(o ForceOptions) error {
	was := o.Log.HardState()
	end, left, err := o.rehearse(was)
	if err != nil {
		return fmt.Errorf("rehearse the log on a copy of the store: %w", err)
	}
	self, ok := left.Get(o.MemberID)
	switch {
	case len(left.List()) == 0:
		return errForceEmpty
	case !ok:
		return errForceRemoved
	case len(left.List()) == 1 && !self.IsLearner:
		o.Logger.Info("forcing a new cluster: there are no other members")
		return nil
	}
	if err := o.append(was, end, left); err != nil {
		return err
	}
	return o.settle()
}

// rehearse applies the whole log to a copy of the store. It returns the last entry to keep, and the membership it leads to.
func (o ForceOptions) rehearse(was *raftpb.HardState) (end raftlog.Position, left *members.Set, err error) {
	if err := o.FS.RemoveAll(o.Scratch); err != nil {
		return end, nil, err
	}
	copied, err := o.rehearsal(was)
	if err != nil {
		return end, nil, errors.Join(err, o.FS.RemoveAll(o.Scratch))
	}
	view := copied.View()
	left = view.Members()
	view.Close()
	return raftlog.Position(copied.Applied()), left, errors.Join(copied.Close(), o.FS.RemoveAll(o.Scratch))
}

// Rehearsal makes a copy of the store in Scratch, which must not exist, and applies everything to it that the log holds, as
// Force does before it decides: what was acknowledged is there, and what may have been. The store and the log stay as they are.
// The caller closes the machine, and removes Scratch also after an error.
func Rehearsal(o ForceOptions) (*state.Machine, error) { return o.rehearsal(o.Log.HardState()) }

func (o ForceOptions) rehearsal(was *raftpb.HardState) (*state.Machine, error) {
	if _, _, err := o.Machine.Checkpoint(o.Scratch); err != nil {
		return nil, err
	}
	db, err := storage.Open(storage.Options{FS: o.FS, Dir: o.Scratch, Fatal: o.Fatal})
	if err != nil {
		return nil, err
	}
	copied, err := state.Open(db, state.Options{})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := o.rehearseOn(copied, was); err != nil {
		return nil, errors.Join(err, copied.Close())
	}
	return copied, nil
}

func (o ForceOptions) rehearseOn(copied *state.Machine, was *raftpb.HardState) error {
	last, err := o.lastPosition()
	if err != nil {
		return err
	}
	r := replay{machine: copied, log: o.Log, self: o.MemberID, untouchable: was.GetCommit(), hard: &raftpb.HardState{
		Term: new(max(was.GetTerm(), last.Term)), Vote: new(was.GetVote()), Commit: new(last.Index),
	}}
	return r.run()
}

func (o ForceOptions) lastPosition() (raftlog.Position, error) {
	index, err := o.Log.LastIndex()
	if err != nil {
		return raftlog.Position{}, err
	}
	term, err := o.Log.Term(index)
	return raftlog.Position{Index: index, Term: term}, err
}

// append writes the entries behind end that leave this member alone, everything committed.
func (o ForceOptions) append(was *raftpb.HardState, end raftlog.Position, left *members.Set) error {
	last, err := o.lastPosition()
	if err != nil {
		return err
	}
	term := max(was.GetTerm(), last.Term) + 1
	var entries []*raftpb.Entry
	for _, c := range aloneChanges(left, o.MemberID) {
		data, err := c.encode(uint64(len(entries)), o.Clock.Now().UnixNano())
		if err != nil {
			return err
		}
		index := end.Index + 1 + uint64(len(entries))
		entries = append(entries, &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Index: &index, Term: &term, Data: data})
	}
	commit := entries[len(entries)-1].GetIndex()
	o.Logger.Warn("forcing restart member", zap.String("local-member-id", fmt.Sprintf("%x", o.MemberID)),
		zap.String("cluster-id", fmt.Sprintf("%x", left.ClusterID())), zap.Uint64("commit-index", was.GetCommit()),
		zap.Uint64("kept-index", end.Index), zap.Uint64("given-up-entries", last.Index-end.Index), zap.Uint64("term", term),
		zap.Int("removed-members", len(left.List())-1))
	return o.Log.Append(raftlog.Batch{
		HardState: &raftpb.HardState{Term: &term, Vote: &o.MemberID, Commit: &commit}, Entries: entries, MustSync: true,
	})
}

// settle brings the store to the end of the log, so that the old members are nowhere in sight when the member starts.
func (o ForceOptions) settle() error {
	r := replay{machine: o.Machine, log: o.Log, self: o.MemberID, hard: o.Log.HardState()}
	r.untouchable = r.hard.GetCommit()
	if err := r.run(); err != nil {
		return err
	}
	view := o.Machine.View()
	defer view.Close()
	if list := view.Members().List(); len(list) != 1 || list[0].ID != o.MemberID || list[0].IsLearner {
		panic(fmt.Sprintf("bootstrap: forced member %x, and the members are %+v", o.MemberID, list))
	}
	return o.Machine.Flush()
}

// change is one change of the membership, for raft and for the state.
type change struct {
	kind raftpb.ConfChangeType
	id   uint64
	op   command.Op
}

// aloneChanges are the changes, one at a time, after which self is the only member.
func aloneChanges(left *members.Set, self uint64) []change {
	var changes []change
	if slices.Contains(left.Learners(), self) {
		changes = append(changes, change{raftpb.ConfChangeAddNode, self, &command.MemberPromote{ID: self}})
	}
	for _, m := range left.List() {
		if m.ID != self {
			changes = append(changes, change{raftpb.ConfChangeRemoveNode, m.ID, &command.MemberRemove{ID: m.ID}})
		}
	}
	return changes
}

// encode makes the data of an entry. Nobody waits for its batch, whose origin is no member's.
func (c change) encode(sequence uint64, now int64) ([]byte, error) {
	one := command.Command{Time: now, Op: c.op}
	batch := command.AppendTo(command.BeginBatch(nil, command.BatchID{Sequence: sequence}), one.Append(nil))
	return proto.Marshal(&raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{{Type: c.kind.Enum(), NodeId: &c.id}},
		Context: batch,
	})
}
