package sim

import (
	"time"

	"keelson/command"
	"keelson/state"
	"keelson/state/lease"
)

// lifetimes checks that no lease runs out early, and that who keeps one alive is told the truth.
type lifetimes struct {
	w         *world
	deadlines map[int64]time.Duration    // of the leases that there are: none may run out before
	changed   map[int64]uint64           // the entry that granted or revoked a lease last
	expiring  map[command.BatchID]uint64 // batches that end leases whose time is up, and the term of the leader who says so
	promoted  uint64                     // the newest term in which a leader counts time
	// proposedAt is when batches were proposed. What their commands say is what a wall clock showed.
	proposedAt map[command.BatchID]time.Duration
}

func newLifetimes(w *world) *lifetimes {
	return &lifetimes{
		w: w, deadlines: map[int64]time.Duration{}, changed: map[int64]uint64{}, expiring: map[command.BatchID]uint64{},
		proposedAt: map[command.BatchID]time.Duration{},
	}
}

// from is when something ends that takes so long from now on, by the fastest clock there is.
func (l *lifetimes) from(ttl time.Duration) time.Duration {
	return l.w.now + ttl - ttl/1e6*time.Duration(l.w.clockDrift)*11/10
}

// expires notes that the leader of a term is about to propose the end of a lease.
func (l *lifetimes) expires(id command.BatchID, term uint64) { l.expiring[id] = term }

// observe looks at an entry when it is applied for the first time.
func (l *lifetimes) observe(e *state.Entry, results []state.Result) {
	if len(e.Data) == 0 {
		return
	}
	b, err := command.OpenBatch(e.Data)
	if err != nil {
		l.w.violate("entry %d: %v", e.Index, err)
	}
	term, expiry := l.expiring[b.ID]
	for i := range results {
		cmd, _, err := b.Next()
		if err != nil {
			l.w.violate("entry %d: %v", e.Index, err)
		}
		switch o := cmd.Op.(type) {
		case *command.LeaseGrant:
			if results[i].Refusal == nil {
				l.changed[o.ID] = e.Index
				l.deadlines[o.ID] = l.from(time.Duration(o.TTLSeconds) * time.Second)
			}
		case *command.LeaseCheckpoint:
			l.w.reach("a checkpoint of an earlier leader was void", results[i].Refusal != nil)
		case *command.LeaseRevoke:
			if results[i].Refusal != nil {
				_, there := l.deadlines[o.ID]
				l.w.reach("an expiry of an older term was void", o.Term != 0 && o.Term < e.Term)
				l.w.reach("an expiry met a later lease of the same id", there && o.Term >= e.Term)
				continue
			}
			l.w.reach("a lease ran out", expiry)
			if expiry && term < e.Term {
				l.w.violate("entry %d of term %d ends lease %d, for a leader of term %d", e.Index, e.Term, o.ID, term)
			}
			if early := l.deadlines[o.ID] - l.proposedAt[b.ID]; expiry && early > 0 {
				l.w.violate("lease %d runs out %v early", o.ID, early)
			}
			l.changed[o.ID] = e.Index
			delete(l.deadlines, o.ID)
		}
	}
}

// renewed checks and notes that a member has kept a lease alive.
func (l *lifetimes) renewed(m *member, id int64, known uint64, ttl time.Duration) {
	w := l.w
	w.reach("a lease was renewed", true)
	w.reach("a former leader renewed a lease", m.leading < w.newest)
	_, alive := l.deadlines[id]
	if !alive && l.changed[id] <= known && m.leading >= w.newest {
		w.violate("%v renews lease %d, which entry %d has ended, as was known", m, id, l.changed[id])
	}
	if alive && m.machine.Applied().Index >= l.changed[id] {
		l.deadlines[id] = max(l.deadlines[id], l.from(ttl))
	}
}

// notRenewed checks that there is no such lease.
func (l *lifetimes) notRenewed(m *member, id int64, known uint64) {
	if _, alive := l.deadlines[id]; alive && l.changed[id] <= known && m.leading >= l.w.newest {
		l.w.violate("%v knows of no lease %d, which entry %d has granted, as was known", m, id, l.changed[id])
	}
}

// inheritance is when leases may run out at the earliest that a leader has from an earlier one, by its clock.
type inheritance map[command.LeaseRevoke]time.Duration

// inherit is for a new leader. What was left of a lease is left of it now, and an election timeout more: while there was no
// leader, nobody could keep it alive.
func inherit(leases []lease.Lease, now time.Duration) inheritance {
	in := inheritance{}
	for _, l := range leases {
		left := l.TTLSeconds
		if l.RemainingSeconds > 0 {
			left = min(left, l.RemainingSeconds)
		}
		in[command.LeaseRevoke{ID: l.ID, GrantIndex: l.Grant.Index, GrantOrdinal: l.Grant.Ordinal}] =
			now + electionTimeout + time.Duration(left)*time.Second
	}
	return in
}

// checkInherited checks that a leader does not end an earlier one's lease too early.
func (w *world) checkInherited(m *member, r *command.LeaseRevoke, now time.Duration) {
	lease := *r
	lease.Term = 0
	at, ok := m.inherited[lease]
	w.reach("a lease of an earlier leader ran out", ok)
	if now < at {
		w.violate("%v ends lease %d, which an earlier leader had, %v early", m, r.ID, at-now)
	}
}
