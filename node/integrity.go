package node

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keelson/leader"
	"keelson/replica"
	"keelson/state"
	"keelson/state/alarm"
)

// integrity keeps the comparison of state hashes behind a lock: the applier tells it what has come out of the log, the
// keeper proposes what it says.
type integrity struct {
	wake    chan struct{} // capacity 1: there is something to look at
	since   uint64        // where the log ended when this run began
	old     atomic.Bool   // alarms have come out of the log from before this run
	changed atomic.Uint64 // newest index at which something other than comparisons may have been applied
	corrupt atomic.Bool   // see Node.Corrupt

	mu   sync.Mutex
	core *leader.Integrity

	// The keeper's own.
	inherited bool          // this run has begun with a CORRUPT alarm for this member, and it still stands
	told      bool          // about this member's own corruption
	handOver  time.Duration // monotonic: not to be tried before
}

// newIntegrity makes the integrity of a member whose log ends at since.
func newIntegrity(o *Options, since uint64) *integrity {
	g := &integrity{since: since, wake: make(chan struct{}, 1), core: leader.NewIntegrity(o.MemberID, since, o.Integrity)}
	g.changed.Store(o.Machine.Applied().Index)
	return g
}

// applied tells of a run of entries that ends at an index. It does not wait.
func (g *integrity) applied(out *state.Outcome, last uint64) {
	if out.Counts.Commands > len(out.Checks) {
		g.changed.Store(last)
	}
	if len(out.Checks) > 0 {
		g.mu.Lock()
		g.core.Observe(out.Checks, last)
		g.mu.Unlock()
	}
	if out.Alarms && last-uint64(out.Counts.Entries) < g.since {
		g.old.Store(true)
	}
	if len(out.Checks) > 0 || out.Alarms {
		g.signal()
	}
}

// installed tells that this member was given another state.
func (g *integrity) installed(index uint64) {
	g.mu.Lock()
	g.core.Installed(index)
	g.mu.Unlock()
	g.changed.Store(index)
	g.signal()
}

func (g *integrity) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Corrupt reports whether this member's state is known to differ from that of the others: a quorum has stated another hash
// than this member, now or before it was started again with the CORRUPT alarm for it still standing. What it would answer
// may be wrong. An alarm alone, which anybody may raise, does not say so.
func (n *Node) Corrupt() bool { return n.integrity.corrupt.Load() }

// checkIntegrity tells the time, proposes what there is to be said, and reports what was found. It is for the keeper, and
// for Start.
func (n *Node) checkIntegrity() {
	g := n.integrity
	now := n.o.Clock.Monotonic()
	g.mu.Lock()
	// Within the lock, so that the state is never older than what is known to have been installed.
	standing := n.standing()
	ops, verdicts := g.core.Tick(now, standing)
	corruption, found := g.core.Corrupt()
	g.mu.Unlock()

	alarmed := slices.Contains(standing.Alarmed, n.o.MemberID)
	g.inherited = (g.inherited || g.old.Swap(false)) && alarmed
	g.corrupt.Store(found || g.inherited)
	for _, op := range ops {
		_ = n.propose(op) // if it is refused it counts as lost
	}
	if found && !g.told && n.o.Observe.Corrupt != nil {
		n.o.Observe.Corrupt(corruption)
	}
	g.told = found
	if n.o.Observe.Disputed != nil {
		for _, v := range verdicts {
			n.o.Observe.Disputed(v)
		}
	}
	if alarmed {
		n.leadNoMore(now)
	}
}

// standing is where this member stands.
func (n *Node) standing() leader.Standing {
	var s leader.Standing
	if at := n.Status(); at.Leading && n.o.Machine.Applied().Term == at.Term {
		s.Term = at.Term
	}
	s.Changed = n.integrity.changed.Load()
	s.Index, s.Hash = n.o.Machine.StateHash()
	view := n.ReadLocal()
	defer view.Close()
	s.Voters, s.Learners = view.Members().Voters(), view.Members().Learners()
	for _, a := range view.Alarms().List(alarm.Corrupt) {
		s.Alarmed = append(s.Alarmed, a.Member)
	}
	return s
}

// leadNoMore gives leadership away, if this member has it and somebody else can take it: what only a leader does, it would
// do by a wrong state.
func (n *Node) leadNoMore(now time.Duration) {
	if !n.Status().Leading || now < n.integrity.handOver {
		return
	}
	n.integrity.handOver = now + n.o.Election
	if to := n.successor(); to != 0 {
		n.tell(replica.TransferLeader{To: to})
	}
}
