package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/internal/fault"
)

// changes knows where in the log conf changes stand that this member's disk does not know to be committed.
//
// Commit indexes are not worth a write of their own, but those of conf changes are: a member that was removed goes away as
// soon as it has heard so, and takes its vote with it. Those who remain must know then, also after a crash, that they can do
// without. So a conf change is applied only when the disk knows that it is committed, and before that a leader tells nobody
// that it is: what it sends meanwhile waits for the disk. And a voter does not apply its own removal before another member
// has told it that this is committed. See docs/decisions/removals.md.
type changes struct {
	at      []uint64 // ascending. Invariant: all are above durable
	made    uint64   // the commit index in the newest hard state that was handed out
	durable uint64   // the one on disk. Invariant: durable <= made
	told    uint64   // the highest commit index that another member has spoken of, since the start or by Options.Told
}

// newChanges looks through what was not applied of the log. Up to committed the disk knows that it is committed.
func newChanges(log Log, committed, last, told uint64) (changes, error) {
	c := changes{made: committed, durable: committed, told: told}
	const pageBytes = 1 << 20
	for i := committed + 1; i <= last; {
		page, err := log.Entries(i, last+1, pageBytes)
		if err != nil {
			return c, fmt.Errorf("replica: look for conf changes from %d on: %w", i, err)
		}
		c.appended(page)
		i += uint64(len(page))
	}
	return c, nil
}

// appended takes in entries that follow on the log, or replace its end.
func (c *changes) appended(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	for n := len(c.at); n > 0 && c.at[n-1] >= entries[0].GetIndex(); n-- {
		c.at = c.at[:n-1]
	}
	for _, e := range entries {
		if e.GetType() != raftpb.EntryNormal {
			c.at = append(c.at, e.GetIndex())
		}
	}
}

// isDue reports whether a commit index is worth a write.
func (c *changes) isDue(committed uint64) bool {
	return len(c.at) > 0 && c.at[0] <= committed && c.made < c.at[0]
}

// handedOut notes that a hard state with a commit index was handed out.
func (c *changes) handedOut(committed uint64) { c.made = max(c.made, committed) }

// written notes that a commit index is on disk.
func (c *changes) written(committed uint64) {
	c.durable = max(c.durable, committed)
	for len(c.at) > 0 && c.at[0] <= c.durable {
		c.at = c.at[1:]
	}
}

// tells reports whether a message lets its receiver know what it must not know yet.
func (c *changes) tells(m *raftpb.Message) bool {
	t := m.GetType()
	return len(c.at) > 0 && (t == raftpb.MsgApp || t == raftpb.MsgHeartbeat) && m.GetCommit() >= c.at[0] &&
		!fault.Mutant("tell-of-changes-at-once")
}

// hears takes in what a message says of what its sender knows to be committed.
func (c *changes) hears(m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		c.told = max(c.told, m.GetCommit())
	case raftpb.MsgSnap:
		c.told = max(c.told, m.GetSnapshot().GetMetadata().GetIndex())
	}
}

// partsTooEarly reports whether an Apply takes this member's vote, while it may be the only one who knows that this is
// committed: because it leads, or did so before a crash, and an earlier leader had put the removal into the log. A removal that is known to
// be refused takes nothing.
func (r *Replica) partsTooEarly(a *Apply) bool {
	return !r.status.Lone && !r.status.Learner && r.changes.told < a.last() && !a.refused &&
		r.removesThis(a.Entries[len(a.Entries)-1]) && !fault.Mutant("leader-commits-its-removal")
}

// part has another member lead, as long as this one leads and can't apply its removal for that. It reports whether raft was
// told anything.
func (r *Replica) part() (told bool) {
	q := r.applies.waiting
	if r.status.Role != raft.StateLeader || len(q) == 0 || q[0].change == nil || !r.partsTooEarly(q[0]) ||
		r.rn.BasicStatus().LeadTransferee != raft.None {
		return false
	}
	r.giveAway()
	return true
}
