package node

import (
	"sync"
	"sync/atomic"
	"time"

	"keelson/replica"
)

// leadership lets callers wait for a change of leaders, and remembers when there was one.
type leadership struct {
	mu      sync.Mutex
	leader  uint64
	elected time.Duration // monotonic: when the present leader was first heard of
	lost    bool          // there was another one before
	changed chan struct{} // closed with the next change
}

func newLeadership() *leadership { return &leadership{changed: make(chan struct{})} }

func (l *leadership) set(leader uint64, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if leader != 0 {
		l.lost = l.lost || l.elected != 0
		l.elected = now
	}
	l.leader = leader
	close(l.changed)
	l.changed = make(chan struct{})
}

// now is who leads, and a channel that is closed when that changes.
func (l *leadership) now() (leader uint64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader, l.changed
}

// failedDuring reports whether what began at a moment may have been lost with the leader before the present one.
func (l *leadership) failedDuring(began, election time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost && began > l.elected-2*election && began < l.elected
}

// timedOut is the error of a request that began at a moment (monotonic) and has had no outcome in time.
//
// Source: etcd v3 API, leader presence and cancellation.
func (n *Node) timedOut(began time.Duration) error {
	if n.leader.failedDuring(began, n.o.Election) {
		return ErrTimeoutLeaderFail
	}
	leader, _ := n.leader.now()
	switch {
	case n.o.Network == nil || leader == 0:
		return ErrTimeout
	case leader == n.o.MemberID:
		if !n.quorumSince(began) {
			return ErrTimeoutConnectionLost
		}
	default:
		if since, ok := n.connectedSince(leader); !ok || since > began {
			return ErrTimeoutConnectionLost
		}
	}
	return ErrTimeout
}

// quorumSince reports whether this member has been connected to a quorum of voters since a moment.
func (n *Node) quorumSince(moment time.Duration) bool {
	view := n.ReadLocal()
	defer view.Close()
	voters, connected := 0, 0
	for _, m := range view.Members().List() {
		if m.IsLearner {
			continue
		}
		voters++
		if since, ok := n.connectedSince(m.ID); m.ID == n.o.MemberID || ok && since <= moment {
			connected++
		}
	}
	return connected > voters/2
}

// busy tells how long something has been under way. Safe for concurrent use.
type busy struct{ since atomic.Int64 } // monotonic, and 1 more; 0: nothing is

func (b *busy) begin(now time.Duration) { b.since.Store(int64(now) + 1) }
func (b *busy) end()                    { b.since.Store(0) }

// lasts is how long it has lasted at a moment; 0: nothing is under way.
func (b *busy) lasts(now time.Duration) time.Duration {
	since := b.since.Load()
	if since == 0 {
		return 0
	}
	return now - time.Duration(since-1)
}

// The patience with the leader's disk: after so many tenths of an election timeout in one append it gives leadership away,
// and if that has not helped, it falls silent so that the others elect somebody without its help.
const (
	stallTenths   = 7
	silenceTenths = 9
)

// watchDisk sees to it that a member whose disk has stalled does not go on leading. Raft itself does not notice: the
// others' acknowledgements are a quorum without it, while nothing that they acknowledge is applied here.
func (m *mover) watchDisk() {
	n := m.n
	m.silent = false
	stalled := n.appender.busy.lasts(n.o.Clock.Monotonic())
	if !m.leading || stalled < n.o.Election*stallTenths/10 {
		return
	}
	var all []replica.Progress
	m.replica.Progress(func(p replica.Progress) { all = append(all, p) })
	to := replica.Successor(all, n.o.MemberID)
	if to == 0 {
		return // nobody could take over
	}
	if m.replica.Status().Transfer == 0 {
		m.events = append(m.events, replica.TransferLeader{To: to})
		if n.o.Observe.Stalled != nil {
			n.o.Observe.Stalled(stalled, to)
		}
	}
	m.silent = stalled >= n.o.Election*silenceTenths/10
}
