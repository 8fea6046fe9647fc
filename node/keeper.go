package node

import (
	"time"

	"keelson/leader"
)

// Pace of the keeper: every member's clock ticks this often, and a leader proposes at most so many revokes in a tick.
const (
	keeperInterval = 100 * time.Millisecond
	revokesInATick = 2000
)

// keep is the keeper's loop.
func (n *Node) keep() {
	ticker := n.o.Clock.NewTicker(keeperInterval)
	defer ticker.Stop()
	compactor := leader.NewCompactor(n.o.Compactor)
	promotions := promotions{asked: map[uint64]time.Duration{}}
	for {
		select {
		case <-n.leases.changed:
			n.promoteLeases()
		case <-ticker.C():
			n.expireLeases()
			n.expireTree()
			n.compactBySchedule(compactor)
			promotions.tick(n)
			n.checkIntegrity()
		case <-n.integrity.wake:
			n.checkIntegrity()
		case <-n.stopped.Done():
			return
		}
	}
}

// promoteLeases starts the clock of leases once everything of earlier terms is applied.
func (n *Node) promoteLeases() {
	for n.stopped.Err() == nil {
		n.leases.mu.Lock()
		term, leading := n.leases.term, n.leases.leading
		n.leases.mu.Unlock()
		if !leading {
			return
		}
		err := n.readIndex(n.stopped)
		if err == nil {
			if err := n.leases.promote(term, n.o.Machine, n.o.Clock.Monotonic); err != nil {
				n.fail(err)
			}
			return
		}
		if !n.wait(n.o.Heartbeat / 10) {
			return
		}
	}
}

func (n *Node) expireLeases() {
	now := n.o.Clock.Monotonic()
	n.leases.mu.Lock()
	if n.leases.lessor.Stalled(now) {
		n.leases.mu.Unlock()
		if n.confirmLease(n.stopped) != nil {
			return
		}
		n.leases.mu.Lock()
	}
	n.leases.lessor.Tick(now)
	revokes := n.leases.lessor.Expired(now, revokesInATick)
	checkpoint := n.leases.lessor.Checkpoint(now)
	n.leases.mu.Unlock()
	for _, r := range revokes {
		if n.propose(r) != nil {
			return // offered again later
		}
	}
	if len(revokes) > 0 && n.o.Observe.Expired != nil {
		n.o.Observe.Expired(len(revokes))
	}
	if checkpoint != nil {
		n.propose(checkpoint) // if it is refused the TTLs count in full, as without checkpoints
	}
}

func (n *Node) expireTree() {
	if !n.Status().Leading {
		return
	}
	op, err := leader.TreeExpiry(n.o.Machine, n.o.Clock.Now().UnixNano())
	if err != nil {
		n.fail(err)
		return
	}
	if op != nil {
		n.propose(op) // offered again if it is lost
	}
}

func (n *Node) compactBySchedule(c *leader.Compactor) {
	c.Compacted(n.o.Machine.Compacted())
	if op := c.Tick(n.o.Clock.Monotonic(), n.o.Machine.Revision(), n.Status().Leading); op != nil {
		if n.o.Observe.Compacting != nil {
			n.o.Observe.Compacting(op.Revision)
		}
		n.propose(op) // offered again if it is lost
	}
}
