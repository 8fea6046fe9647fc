package leader

import (
	"slices"
	"time"

	"keelson/command"
	"keelson/state/lease"
)

// Checkpoint returns the next remainders to record through the log, or nil: every CheckpointInterval, in commands of
// bounded size, what is left of the leases whose TTL is longer than that. Call it until it returns nil.
//
// Each names the term, the grant and the checkpoint before it, and is void if any of them is not what the entry finds: a
// renewal that was promised on the strength of a forgotten checkpoint is not undone by one that was still under way.
//
// A checkpoint that gets lost makes a lease live longer after the next change of leaders, never shorter.
func (l *Lessor) Checkpoint(now time.Duration) *command.LeaseCheckpoint {
	if l.term == 0 || l.o.CheckpointInterval <= 0 || l.Stalled(now) {
		return nil
	}
	if now >= l.nextPass {
		l.beginPass()
		l.nextPass = after(now, l.o.CheckpointInterval)
	}
	return l.record(now)
}

// beginPass lists the leases to record, in the order of their ids.
func (l *Lessor) beginPass() {
	l.unrecorded = nil
	for id, r := range l.leases {
		if seconds(r.ttl) > l.o.CheckpointInterval {
			l.unrecorded = append(l.unrecorded, id)
		}
	}
	slices.Sort(l.unrecorded)
}

func (l *Lessor) record(now time.Duration) *command.LeaseCheckpoint {
	c := &command.LeaseCheckpoint{Term: l.term}
	for len(l.unrecorded) > 0 && len(c.Leases) < checkpointLeasesMax {
		var id lease.ID
		id, l.unrecorded = l.unrecorded[0], l.unrecorded[1:]
		r, ok := l.leases[id]
		if !ok || r.revoking {
			continue
		}
		left := r.at(now).RemainingSeconds
		if left <= 0 || left >= r.ttl {
			continue
		}
		c.Leases = append(c.Leases, command.LeaseRemaining{
			ID: id, RemainingSeconds: left,
			GrantIndex: r.grant.Index, GrantOrdinal: r.grant.Ordinal, CheckpointIndex: r.checkpoint,
		})
		r.recorded = true // from now on: a renewal must not overtake it
	}
	if len(c.Leases) == 0 {
		return nil
	}
	return c
}
