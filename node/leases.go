package node

import (
	"context"
	"sync"
	"time"

	"keelson/command"
	"keelson/leader"
	"keelson/state"
	"keelson/state/lease"
)

// leases keeps the leader's clock of leases behind a lock, and lets callers wait for leases that are going away.
type leases struct {
	mu      sync.Mutex
	lessor  *leader.Lessor
	going   map[lease.ID]chan struct{} // closed when the lease is gone
	term    uint64                     // of the leadership that lead told of last
	leading bool
	changed chan struct{} // capacity 1: leading changed
}

func newLeases(o leader.LessorOptions) *leases {
	return &leases{
		lessor:  leader.NewLessor(o),
		going:   make(map[lease.ID]chan struct{}),
		changed: make(chan struct{}, 1),
	}
}

// lead tells whether this member leads. A new leader's clock starts later, by promote; a former one's stops at once.
func (l *leases) lead(term uint64, leading bool) {
	l.mu.Lock()
	l.term, l.leading = term, leading
	l.lessor.Demote()
	for id := range l.going {
		l.gone(id)
	}
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// transferring tells that leadership is being given away.
func (l *leases) transferring(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lessor.Transferring(now)
}

func (l *leases) inDoubt(now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lessor.InDoubt(now)
}

// promote starts the clock of a leader who has applied everything that earlier leaders committed.
func (l *leases) promote(term uint64, m *state.Machine, clock func() time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leading || l.term != term {
		return nil // overtaken
	}
	view := m.View()
	defer view.Close()
	var all []lease.Lease
	if err := view.Leases(func(g lease.Lease) bool { all = append(all, g); return true }); err != nil {
		return err
	}
	l.lessor.Promote(clock(), term, all)
	return nil
}

// observe tells what has been applied.
func (l *leases) observe(changes []state.LeaseChange, now time.Duration) {
	if len(changes) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		switch c.Kind {
		case state.LeaseGranted:
			l.lessor.Granted(c.ID, c.Grant, c.TTLSeconds, now)
		case state.LeaseRevoked:
			l.lessor.Revoked(c.ID)
			l.gone(c.ID)
		case state.LeaseCheckpointed:
			l.lessor.Checkpointed(c.ID, c.RemainingSeconds, c.CheckpointIndex)
		}
	}
}

func (l *leases) gone(id lease.ID) {
	if c, ok := l.going[id]; ok {
		close(c)
		delete(l.going, id)
	}
}

// LeaseTimes is how a lease stands.
type LeaseTimes = leader.Lease

// RenewLease starts a lease's time again and returns its TTL. A lease that is not there, or that is on its way out, gives
// state.ErrLeaseNotFound, the latter once it is gone.
//
// What another member has acknowledged may be committed and not applied here: then the renewal waits for it, so that it
// knows of every grant and every revoke that anybody has heard of. While leadership is being given away, it waits until a
// quorum has confirmed that this member still has it.
func (n *Node) RenewLease(ctx context.Context, id lease.ID) (ttlSeconds int64, err error) {
	s := n.Status()
	if s.Leading && n.lonely.Load() == 0 && (s.Committed > s.Applied || n.leases.inDoubt(n.o.Clock.Monotonic())) {
		ctx, cancel := context.WithTimeoutCause(ctx, n.o.RequestTimeout, ErrTimeout)
		err := n.readIndex(ctx)
		cancel()
		if err != nil {
			return 0, err
		}
	}
	ttl, status, gone := n.leases.renew(id, n.o.Clock.Monotonic())
	if status == leader.Renewed { // as nearly always: without the cost of a timeout
		return ttl, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, n.o.RequestTimeout, ErrTimeout)
	defer cancel()
	for {
		switch status {
		case leader.Renewed:
			return ttl, nil
		case leader.NotFound:
			return 0, state.ErrLeaseNotFound
		case leader.Pending:
			err = n.waitGone(ctx, gone)
		case leader.Recorded:
			err = n.forgetCheckpoint(ctx, id)
		default: // not sure to lead, or not ready yet
			err = n.confirmLease(ctx)
		}
		if err != nil {
			return 0, err
		}
		ttl, status, gone = n.leases.renew(id, n.o.Clock.Monotonic())
	}
}

// waitGone waits until a lease that has run out is revoked, or until this member does not lead any more.
func (n *Node) waitGone(ctx context.Context, gone <-chan struct{}) error {
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.stopped.Done():
		return ErrStopped
	}
}

// forgetCheckpoint has the state forget what is recorded as remaining of a lease, so that it can be renewed.
func (n *Node) forgetCheckpoint(ctx context.Context, id lease.ID) error {
	r, err := n.ProposeOwn(ctx, &command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: id}}})
	if err != nil {
		return err
	}
	return r.Refusal
}

func (l *leases) renew(id lease.ID, now time.Duration) (ttl int64, status leader.RenewStatus, gone <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ttl, status = l.lessor.Renew(id, now)
	if status == leader.Pending {
		c, ok := l.going[id]
		if !ok {
			c = make(chan struct{})
			l.going[id] = c
		}
		gone = c
	}
	return ttl, status, gone
}

// confirmLease makes sure that this member still leads, or waits until it has begun to.
func (n *Node) confirmLease(ctx context.Context) error {
	if s := n.Status(); !s.Leading && s.Leader != 0 {
		return ErrNotLeader
	}
	asOf := n.o.Clock.Monotonic()
	if err := n.readIndex(ctx); err != nil {
		return err
	}
	n.leases.mu.Lock()
	ready := n.leases.lessor.Leading()
	n.leases.lessor.Confirm(ready, asOf)
	n.leases.mu.Unlock()
	if ready != 0 {
		return nil
	}
	t := n.o.Clock.NewTimer(n.o.Heartbeat / 10)
	defer t.Stop()
	select { // the keeper is about to promote
	case <-t.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// LeaseTimes tells how a lease stands; ok is false if there is none.
func (n *Node) LeaseTimes(ctx context.Context, id lease.ID) (t LeaseTimes, ok bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, n.o.RequestTimeout, ErrTimeout)
	defer cancel()
	for {
		if t, ok, sure := n.leases.remaining(id, n.o.Clock.Monotonic()); sure {
			return t, ok, nil
		}
		if err := n.confirmLease(ctx); err != nil {
			return t, false, err
		}
	}
}

// remaining tells how a lease stands; it is not sure of it if this member does not lead, or may not any more.
func (l *leases) remaining(id lease.ID, now time.Duration) (t LeaseTimes, ok, sure bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lessor.Leading() == 0 || l.lessor.Stalled(now) {
		return t, false, false
	}
	t, ok = l.lessor.Remaining(id, now)
	return t, ok, true
}

// Leases tells how all leases stand, the one that runs out first, first. On a member that does not lead it is empty.
func (n *Node) Leases() []LeaseTimes {
	n.leases.mu.Lock()
	defer n.leases.mu.Unlock()
	return n.leases.lessor.All(n.o.Clock.Monotonic())
}
