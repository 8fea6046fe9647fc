package state

import (
	"fmt"

	"keelson/command"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

func (r *run) applyLeaseGrant(o *command.LeaseGrant, res *Result) error {
	if o.ID == 0 { // means "no lease" wherever an id stands, and so is always taken
		return ErrLeaseExists
	}
	exists, err := r.leases.Exists(o.ID)
	if err != nil {
		return err
	}
	if exists {
		return ErrLeaseExists
	}
	grant := lease.Grant{Index: r.at.Index, Ordinal: r.ordinal}
	r.leases.Grant(lease.Lease{ID: o.ID, TTLSeconds: o.TTLSeconds, Grant: grant})
	res.Lease, res.TTLSeconds = o.ID, o.TTLSeconds
	r.out.Leases = append(r.out.Leases, LeaseChange{Kind: LeaseGranted, ID: o.ID, TTLSeconds: o.TTLSeconds, Grant: grant})
	r.out.Counts.LeasesGranted++
	return nil
}

// applyLeaseRevoke removes a lease and deletes its keys, in order, in one revision.
func (r *run) applyLeaseRevoke(o *command.LeaseRevoke, res *Result) error {
	if o.Term != 0 && o.Term < r.at.Term {
		return ErrStaleTerm
	}
	there, err := r.isThere(o)
	if err != nil {
		return err
	}
	if !there {
		return ErrLeaseNotFound
	}
	keys, err := r.leases.Keys(o.ID)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := r.deleteLeased(o.ID, key); err != nil {
			return err
		}
	}
	r.leases.Revoke(o.ID)
	res.Lease, res.Deleted = o.ID, int64(len(keys))
	r.out.Leases = append(r.out.Leases, LeaseChange{Kind: LeaseRevoked, ID: o.ID})
	r.out.Counts.LeasesRevoked++
	if o.Term != 0 {
		r.out.Counts.LeasesRevokedByTime++
	}
	return nil
}

// isThere reports whether there is the lease that a revoke is about.
func (r *run) isThere(o *command.LeaseRevoke) (bool, error) {
	if o.GrantIndex == 0 {
		return r.leases.Exists(o.ID)
	}
	l, ok, err := r.leases.Get(o.ID)
	return ok && l.Grant == lease.Grant{Index: o.GrantIndex, Ordinal: o.GrantOrdinal}, err
}

func (r *run) deleteLeased(id lease.ID, key []byte) error {
	var found int64
	n, err := r.kv.DeleteRange(key, nil, false, func(prev *mvcc.KeyValue) { found = prev.Lease })
	if err != nil {
		return err
	}
	if n != 1 || found != id {
		panic(fmt.Sprintf("state: key %q hangs on lease %d, but of %d pairs of that key the lease is %d", key, id, n, found))
	}
	r.leases.Move(key, id, 0)
	return nil
}

// applyLeaseCheckpoint records what remains of leases. Those that are not there, or not as the proposer knew them, are left
// out: the full TTL counts, which is never too short.
func (r *run) applyLeaseCheckpoint(o *command.LeaseCheckpoint) error {
	if o.Term != 0 && o.Term < r.at.Term {
		return ErrStaleTerm
	}
	for i := range o.Leases {
		if err := r.checkpoint(&o.Leases[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) checkpoint(c *command.LeaseRemaining) error {
	l, ok, err := r.leases.Get(c.ID)
	if err != nil || !ok || !isAsKnown(c, &l) {
		return err
	}
	l.RemainingSeconds, l.CheckpointIndex = c.RemainingSeconds, r.at.Index
	r.leases.Checkpoint(l)
	r.out.Leases = append(r.out.Leases, LeaseChange{
		Kind: LeaseCheckpointed, ID: c.ID, RemainingSeconds: c.RemainingSeconds, CheckpointIndex: r.at.Index,
	})
	return nil
}

// isAsKnown reports whether a lease is as the proposer of a checkpoint knew it. If another checkpoint came between, it may
// be one that forgot, and whose lease was renewed on the strength of it.
func isAsKnown(c *command.LeaseRemaining, l *lease.Lease) bool {
	return c.GrantIndex == 0 ||
		l.Grant == lease.Grant{Index: c.GrantIndex, Ordinal: c.GrantOrdinal} && l.CheckpointIndex == c.CheckpointIndex
}
