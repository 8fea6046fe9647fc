package replica

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// A link that nobody waits for any more stays in the chain until one behind it is settled: proposals that were lost with an
// earlier leader stand in the chain behind newer ones. Without it the leader would wait for that link for ever.
func TestForgottenLinkStaysUntilOneBehindItIsSettled(t *testing.T) {
	e := &raftpb.Entry{}
	q := outbox{term: 9, last: 3, live: 2, proposals: []*proposal{
		{id: 10, entry: e, term: 9, link: 2}, // lost once, so behind a newer one
		{id: 20, entry: e, term: 9, link: 1},
		{id: 30, entry: e, term: 9, link: 3},
	}}
	ids := func() (list []uint64) {
		for _, p := range q.proposals {
			list = append(list, p.id)
		}
		return list
	}
	q.forget(10)
	for _, step := range []struct {
		settled uint64
		left    []uint64
	}{
		{20, []uint64{10, 30}},
		{30, nil},
	} {
		q.settle([]uint64{step.settled})
		if got := ids(); !slices.Equal(got, step.left) {
			t.Errorf("after %d was settled %v are left, want %v", step.settled, got, step.left)
		}
	}
}
