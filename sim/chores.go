package sim

import (
	"maps"
	"time"

	"keelson/command"
	"keelson/leader"
	"keelson/replica"
	"keelson/state/lease"
)

// tickLater enters the next tick of the member's clock.
func (m *member) tickLater() {
	d := tickInterval - tickInterval/1e6*time.Duration(m.host.drift)
	m.w.after(d*9/10+time.Duration(m.w.rng.Int64N(int64(d/5))), "tick", m, m.tick)
}

// tick lets a tick of raft's time pass, and does what a leader does by the clock.
func (m *member) tick() {
	m.tickLater()
	m.step(replica.Tick{})
	m.giveUp()
	if m.leading != 0 && !m.w.load.quiet && m.w.network.isAlone(m.host) {
		for _, id := range leaseIDs {
			m.renewal(id) // its clients believe in it
		}
	}
	m.expireTree()
	now := m.host.clock()
	switch {
	case m.w.bug("expire-on-follower") && m.leading == 0 && m.leader != 0:
		if term := m.replica.Status().Term; m.lessor.Leading() != term {
			m.promote(term, 0)
		}
	case m.leading != 0 && m.lessor.Leading() != m.leading:
		m.whenSure(m.promote)
		return
	case m.lessor.Leading() == 0:
		return
	case m.lessor.Stalled(now):
		m.w.reach("a leader asks whether it still leads", true)
		m.whenSure(func(uint64, time.Duration) {})
		return
	}
	m.lessor.Tick(now)
	for _, r := range m.lessor.Expired(now, 10) {
		m.replace(r.ID)
		m.w.checkInherited(m, r, now)
		switch {
		case m.w.bug("expiry-names-id-alone"):
			r.GrantIndex, r.GrantOrdinal = 0, 0
		case m.w.bug("former-leader-expires"):
			r.Term = 0
		}
		if m.w.air.splits && m.w.rng.IntN(4) == 0 {
			m.w.network.isolate(m.host) // the next leader must not end the lease in its name
			m.w.after(3*time.Second, "", nil, m.w.network.clear)
		}
		m.w.expires(m.nextBatchID(), m.lessor.Leading())
		m.propose(r)
	}
	if c := m.lessor.Checkpoint(now); c != nil {
		m.propose(c)
	}
}

// expireTree proposes the end of what has run out in the v2 tree, by the leader's wall clock.
func (m *member) expireTree() {
	if m.leading == 0 {
		return
	}
	op, err := leader.TreeExpiry(m.machine, m.host.date())
	if err != nil {
		m.w.violate("deadlines: %v", err)
	}
	if op != nil {
		m.propose(op)
	}
}

// whenSure calls f once a quorum has confirmed that this member leads, with the term and a time at which it still did.
// Everything of earlier terms is applied by then.
func (m *member) whenSure(f func(term uint64, asOf time.Duration)) {
	if m.confirm || m.leading == 0 {
		return
	}
	m.confirm = true
	term, asOf := m.leading, m.host.clock()
	m.read(func() {
		m.confirm = false
		if m.leading == term {
			m.lessor.Confirm(m.lessor.Leading(), asOf)
			f(term, asOf)
		}
	})
}

// promote starts the lessor's clocks.
func (m *member) promote(term uint64, _ time.Duration) {
	var leases []lease.Lease
	view := m.machine.View()
	err := view.Leases(func(l lease.Lease) bool { leases = append(leases, l); return true })
	view.Close()
	if err != nil {
		m.w.violate("leases: %v", err)
	}
	m.w.promoted = max(m.w.promoted, term)
	m.inherited = inherit(leases, m.host.clock())
	m.lessor.Promote(m.host.clock(), term, leases)
}

// renewal is a client that keeps a lease alive through this member, which asks the leader it knows.
func (m *member) renewal(id int64) {
	known := m.w.known
	switch to := m.w.hostOf(m.leader); {
	case to == nil:
	case to == m.host:
		m.renew(id, known)
	default:
		m.w.network.call(m, to, "renewal", func(m *member) { m.renew(id, known) })
	}
}

// renew keeps a lease alive, on the leader. It must know of all that is committed: known is the newest entry that anybody
// had been told of when the client asked.
func (m *member) renew(id int64, known uint64) {
	committed := m.replica.Status().Committed
	if m.machine.Applied().Index < committed && !m.w.bug("renew-before-applied") {
		m.w.after(time.Millisecond, "renewal waits", m, func() { m.renew(id, known) })
		return
	}
	if m.lessor.InDoubt(m.host.clock()) {
		m.w.reach("a renewal waits for a quorum", true)
		m.read(func() { m.renewNow(id, known) })
		return
	}
	m.renewNow(id, known)
}

func (m *member) renewNow(id int64, known uint64) {
	ttl, status := m.lessor.Renew(id, m.host.clock())
	switch status {
	case leader.Renewed: // its time counts from now on
		maps.DeleteFunc(m.inherited, func(r command.LeaseRevoke, _ time.Duration) bool { return r.ID == id })
		m.w.renewed(m, id, known, time.Duration(ttl)*time.Second)
	case leader.NotFound:
		m.w.notRenewed(m, id, known)
	case leader.Recorded:
		m.propose(&command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: id}}})
	case leader.Unconfirmed:
		m.whenSure(func(uint64, time.Duration) {})
	}
}
