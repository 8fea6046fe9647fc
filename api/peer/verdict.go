package peer

import (
	"errors"
	"slices"

	"keelson/state/mvcc"
)

// Why a hash that a member gave was not compared.
var errOtherFloor = errors.New("it has another compaction floor")

// Verdict is what comparing the members' hashes has shown.
type Verdict struct {
	// Checked are the members whose hashes were held against each other, this one among them, by id.
	Checked []uint64
	// Unchecked are all others, by id. Nothing is known about them.
	Unchecked []Unchecked
	// Corrupt are the members that differ from what a quorum has, by id. 0 alone: some differ, and no quorum is of one
	// opinion. Empty: those that were checked are equal.
	Corrupt []uint64
}

// Unchecked is a member whose hash could not be compared.
type Unchecked struct {
	Member uint64
	Why    error
}

// horizon is what a member cannot be beyond unless it has something that the cluster never agreed upon.
type horizon struct{ revision, floor mvcc.Revision }

// opinion is what members agree or disagree in.
type opinion struct {
	hash   uint32
	beyond bool // the horizon
}

// judge compares the hashes of all members at one revision. own is that of this member, local.
//
// Whose hash counts is decided by a quorum of all members, the unchecked ones included; this one's counts no more than
// another's. Hashes made under different compaction floors can't be compared, which is no fault: a member may not have
// come to a compaction yet. A member beyond the horizon, on the other hand, has more than there is.
func judge(local uint64, own mvcc.Hash, peers []MemberHash, h horizon) Verdict {
	v := Verdict{Checked: []uint64{local}}
	opinions := map[opinion][]uint64{{hash: own.Hash}: {local}}
	for _, p := range peers {
		o := opinion{p.Hash.Hash, p.Hash.Current > h.revision || p.Hash.Compacted > h.floor}
		why := p.Err
		if why == nil && !o.beyond && p.Hash.Compacted != own.Compacted {
			why = errOtherFloor
		}
		if why != nil {
			v.Unchecked = append(v.Unchecked, Unchecked{p.Member, why})
			continue
		}
		opinions[o] = append(opinions[o], p.Member)
		v.Checked = append(v.Checked, p.Member)
	}
	slices.Sort(v.Checked)
	if len(opinions) > 1 {
		v.Corrupt = outliers(opinions, v.Checked, quorumOf(len(peers)+1))
	}
	return v
}

// outliers are all who are not of the quorum's opinion; 0 if there is no quorum.
func outliers(opinions map[opinion][]uint64, checked []uint64, quorum int) []uint64 {
	for _, agreed := range opinions { // at most one is a quorum's
		if len(agreed) >= quorum {
			return slices.DeleteFunc(slices.Clone(checked), func(id uint64) bool { return slices.Contains(agreed, id) })
		}
	}
	return []uint64{0}
}

func quorumOf(n int) int { return n/2 + 1 }
