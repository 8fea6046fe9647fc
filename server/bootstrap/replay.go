package bootstrap

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/replica"
	"keelson/state"
)

// replay applies a log to a machine without a running member. A replica says what is to be applied and which
// configurations it leads to, so that this comes out as it does in a running one; whatever else it wants is left undone.
type replay struct {
	machine *state.Machine
	log     replica.Log
	self    uint64
	// hard says what is taken for committed: up to there the log is applied.
	hard *raftpb.HardState
	// untouchable is the last entry that must be applied. From the first change behind it on that would remove this
	// member, nothing is.
	untouchable uint64
}

func (r replay) run() error {
	conf, err := r.configuration()
	if err != nil {
		return err
	}
	rep, err := replica.New(replica.Options{
		ID: r.self, Log: r.log, HardState: r.hard, ConfState: conf, Applied: r.machine.Applied().Index,
		Told: r.hard.GetCommit(),
	})
	if err != nil {
		return err
	}
	var done []replica.Event
	for r.machine.Applied().Index < r.hard.GetCommit() {
		effects := rep.Step(done...)
		done = nil
		for _, e := range effects {
			a, ok := e.(*replica.Apply)
			if !ok {
				continue
			}
			if r.endsBefore(a) {
				if rest := a.Entries[:len(a.Entries)-1]; len(rest) > 0 {
					_, err = r.machine.Apply(state.AppendEntries(nil, rest, nil))
				}
				return err
			}
			out, err := r.machine.Apply(state.AppendEntries(nil, a.Entries, a.ConfState))
			if err != nil {
				return err
			}
			done = append(done, replica.ApplyDone{Apply: a, Refused: out.ConfRefused})
		}
		if len(done) == 0 {
			panic(fmt.Sprintf("bootstrap: nothing to apply behind entry %d, but %d is committed",
				r.machine.Applied().Index, r.hard.GetCommit()))
		}
	}
	return nil
}

// configuration is raft's, as of what the machine has applied.
func (r replay) configuration() (*raftpb.ConfState, error) {
	view := r.machine.View()
	defer view.Close()
	conf := &raftpb.ConfState{}
	if err := proto.Unmarshal(view.Members().ConfState(), conf); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return conf, nil
}

// endsBefore reports whether the last entry, a change that may be given up, would remove this member.
func (r replay) endsBefore(a *replica.Apply) bool {
	last := a.Entries[len(a.Entries)-1].GetIndex()
	return last > r.untouchable && a.ConfState != nil &&
		!slices.Contains(a.ConfState.GetVoters(), r.self) && !slices.Contains(a.ConfState.GetLearners(), r.self)
}
