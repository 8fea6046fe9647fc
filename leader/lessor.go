package leader

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"keelson/command"
	"keelson/state/lease"
)

// LessorOptions are the times a Lessor works with.
type LessorOptions struct {
	// Extension is added to every lease when this member becomes leader: an election timeout, during which nobody could
	// have renewed.
	Extension time.Duration
	// StallMax is how far apart two calls of Tick may be before the Lessor no longer trusts that it still leads. 0: any.
	StallMax time.Duration
	// RetryInterval is after how long a revoke that has not been applied is offered again. 0: 3 s.
	RetryInterval time.Duration
	// RevokesPerSecond is the rate up to which leases may run out at once after a change of leaders; more are spread.
	// 0: 1000.
	RevokesPerSecond int
	// CheckpointInterval is how often the remaining time of leases with a longer TTL is recorded through the log. 0: never.
	CheckpointInterval time.Duration
}

const (
	retryIntervalDefault    = 3 * time.Second
	revokesPerSecondDefault = 1000
	checkpointLeasesMax     = 1000 // in one command

	// never is later than any time.
	never = time.Duration(math.MaxInt64)
)

// Lessor counts the time of leases while this member leads. Promote starts it and Demote ends it; in between it has to be
// told of every lease that is granted or revoked, in order. On a member that does not lead it holds nothing.
type Lessor struct {
	o    LessorOptions
	term uint64 // 0: not leading

	leases map[lease.ID]*running
	queue  queue

	lastTick   time.Duration
	stalled    bool
	doubtUntil time.Duration // see Transferring

	unrecorded []lease.ID // still to be recorded in this pass of checkpoints
	nextPass   time.Duration
}

// running is one lease.
type running struct {
	id       lease.ID
	ttl      int64 // seconds, as granted
	longest  int64 // the most that may be reported as remaining, seconds
	recorded bool  // the state has, or may be about to have, a checkpoint of it
	// checkpoint is the index of the entry that was the last to record or forget what remains; 0: none. A checkpoint
	// that was given out before it changed is void, whenever it arrives: so once the state has forgotten, it stays so
	// until this Lessor gives out another.
	checkpoint uint64
	grant      lease.Grant
	expiry     time.Duration
	revoking   bool          // a revoke was given out
	due        time.Duration // key in the queue. Invariant: due <= expiry unless revoking
	queueIndex int
}

// NewLessor makes a Lessor that does not lead.
func NewLessor(o LessorOptions) *Lessor {
	if o.RetryInterval <= 0 {
		o.RetryInterval = retryIntervalDefault
	}
	if o.RevokesPerSecond <= 0 {
		o.RevokesPerSecond = revokesPerSecondDefault
	}
	return &Lessor{o: o}
}

// Promote starts counting in a new term, with all leases that have been applied. Each gets its full TTL, or what its
// checkpoint says, and the extension on top. If very many would run out together they are spread.
func (l *Lessor) Promote(now time.Duration, term uint64, leases []lease.Lease) {
	if term == 0 {
		panic("leader: promoted in term 0")
	}
	l.Demote()
	l.term = term
	l.lastTick, l.stalled = now, false
	l.nextPass = after(now, l.o.CheckpointInterval)
	l.leases = make(map[lease.ID]*running, len(leases))
	all := make([]*running, 0, len(leases))
	for _, g := range leases {
		r := l.add(g.ID, g.Grant, g.TTLSeconds)
		r.checkpoint = g.CheckpointIndex
		if g.RemainingSeconds > 0 {
			r.longest, r.recorded = min(r.longest, g.RemainingSeconds), true
		}
		r.expiry = after(after(now, l.o.Extension), seconds(r.longest))
		all = append(all, r)
	}
	l.spread(all)
	l.queue.init(all)
}

// spread moves expiries back so that no more leases run out within a second than can be revoked in one.
func (l *Lessor) spread(all []*running) {
	if len(all) <= l.o.RevokesPerSecond {
		return
	}
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b *running) int {
		return cmp.Or(cmp.Compare(a.expiry, b.expiry), a.grant.Compare(b.grant))
	})
	step := time.Second / time.Duration(l.o.RevokesPerSecond)
	var free time.Duration // when the next revoke has room
	for i, r := range sorted {
		if i > 0 && r.expiry < free {
			r.expiry = free
		}
		free = after(r.expiry, step)
	}
}

// Demote forgets everything: another member leads, or none.
func (l *Lessor) Demote() {
	*l = Lessor{o: l.o}
}

// Leading returns the term this Lessor counts in; 0: it does not lead.
func (l *Lessor) Leading() (term uint64) { return l.term }

// Len is the number of leases.
func (l *Lessor) Len() int { return len(l.leases) }

// add makes a lease that is not queued yet. What was known of the id before is forgotten.
func (l *Lessor) add(id lease.ID, grant lease.Grant, ttlSeconds int64) *running {
	if old, ok := l.leases[id]; ok && old.queueIndex >= 0 {
		l.queue.remove(old)
	}
	ttl := max(ttlSeconds, 0)
	r := &running{id: id, ttl: ttl, longest: ttl, grant: grant, queueIndex: -1}
	l.leases[id] = r
	return r
}

// Granted tells of a lease that was granted, and by which grant. Telling twice is telling the later time.
func (l *Lessor) Granted(id lease.ID, grant lease.Grant, ttlSeconds int64, now time.Duration) {
	if l.term == 0 {
		return
	}
	r := l.add(id, grant, ttlSeconds)
	r.expiry = after(now, seconds(r.ttl))
	l.queue.push(r, r.expiry)
}

// Revoked tells that there is no such lease any more: it was revoked, or a revoke was
// refused because there is none.
func (l *Lessor) Revoked(id lease.ID) {
	r, ok := l.leases[id]
	if !ok {
		return
	}
	if r.queueIndex >= 0 {
		l.queue.remove(r)
	}
	delete(l.leases, id)
}

// Checkpointed tells what the state has recorded as remaining (0: nothing any more), and the index of the entry that did it.
// Telling again of an entry that Promote knew of changes nothing.
func (l *Lessor) Checkpointed(id lease.ID, remainingSeconds int64, index uint64) {
	if r, ok := l.leases[id]; ok && index > r.checkpoint {
		r.recorded, r.checkpoint = remainingSeconds != 0, index
	}
}

// Tick tells the time as often as the member's clock ticks. A pause longer than StallMax means that others may have
// elected another leader meanwhile: until Confirm, nothing expires and nothing is renewed.
func (l *Lessor) Tick(now time.Duration) {
	if l.term != 0 && l.o.StallMax > 0 && now-l.lastTick > l.o.StallMax {
		l.stalled = true
	}
	l.lastTick = max(l.lastTick, now)
}

// Stalled reports whether Confirm is wanted: it was too long since the last Tick. The caller makes a round of
// read-index, begun after now, and calls Confirm.
func (l *Lessor) Stalled(now time.Duration) bool {
	if l.term != 0 && l.o.StallMax > 0 && now-l.lastTick > l.o.StallMax {
		l.stalled = true
	}
	return l.stalled
}

// Confirm tells that this member was still the leader of term at the time asOf.
func (l *Lessor) Confirm(term uint64, asOf time.Duration) {
	if term == l.term && asOf >= l.lastTick-l.o.StallMax {
		l.stalled = false
		l.lastTick = max(l.lastTick, asOf)
	}
}

// Transferring tells, again and again as long as it is so, that leadership is being given away. Whoever it is offered to may
// lead from one moment to the next: not, as otherwise, only after an election timeout without a word from this leader.
func (l *Lessor) Transferring(now time.Duration) {
	l.doubtUntil = max(l.doubtUntil, after(now, 2*l.o.StallMax))
}

// InDoubt reports whether a member that still takes itself for the leader may have been one no more for longer than the next
// one extends all leases by. Each renewal then needs a round of read-index of its own, begun after it was asked for: what is
// promised without one could be broken by the next leader, who does not know of it. After a transfer that is so until this
// member would have noticed that it has no quorum any more.
func (l *Lessor) InDoubt(now time.Duration) bool { return l.term != 0 && now < l.doubtUntil }

// RenewStatus is what became of a renewal.
type RenewStatus uint8

// What can become of a renewal.
const (
	Renewed     RenewStatus = iota + 1
	NotFound                // there is no such lease
	Pending                 // it has run out; wait until it is revoked, then there is none
	Recorded                // propose a LeaseCheckpoint of 0 for it, and renew it again when that is applied
	Unconfirmed             // confirm first that this member still leads; see Stalled
	NotLeading              // ask the leader
)

// String returns the status as a word.
func (s RenewStatus) String() string {
	switch s {
	case Renewed:
		return "renewed"
	case NotFound:
		return "not found"
	case Pending:
		return "pending"
	case Recorded:
		return "recorded"
	case Unconfirmed:
		return "unconfirmed"
	case NotLeading:
		return "not leading"
	}
	return fmt.Sprintf("RenewStatus(%d)", uint8(s))
}

// Renew starts a lease's time again. If Renewed, ttl is what was granted, in seconds; otherwise 0.
//
// A lease with a checkpoint is not renewed before the state has forgotten it: the next leader would go by it, and end the
// lease earlier than this answer promised.
func (l *Lessor) Renew(id lease.ID, now time.Duration) (ttl int64, status RenewStatus) {
	if l.term == 0 {
		return 0, NotLeading
	}
	if l.Stalled(now) {
		return 0, Unconfirmed
	}
	r, ok := l.leases[id]
	if !ok {
		return 0, NotFound
	}
	if r.revoking || r.expiry <= now {
		return 0, Pending
	}
	if r.recorded {
		return 0, Recorded
	}
	r.expiry = after(now, seconds(r.ttl))
	r.longest = r.ttl
	if r.expiry < r.due { // it had been extended
		l.queue.move(r, r.expiry)
	}
	return r.ttl, Renewed
}

// Expired returns revokes for leases whose time is up, the longest overdue first, at most limit. They carry the
// term, and the grant that has run out: an id may have another lease by the time they are applied. A lease that is not told to be Revoked is returned again after RetryInterval.
func (l *Lessor) Expired(now time.Duration, limit int) []*command.LeaseRevoke {
	if l.term == 0 || l.Stalled(now) {
		return nil
	}
	var due []*command.LeaseRevoke
	for len(due) < limit {
		r := l.queue.first()
		if r == nil || r.due > now {
			break
		}
		if !r.revoking && r.expiry > r.due { // renewed since it was queued
			l.queue.move(r, r.expiry)
			continue
		}
		r.revoking = true
		l.queue.move(r, after(now, l.o.RetryInterval))
		due = append(due, &command.LeaseRevoke{
			ID: r.id, Term: l.term, GrantIndex: r.grant.Index, GrantOrdinal: r.grant.Ordinal,
		})
	}
	return due
}

// NextExpiry is the earliest time at which Expired may have something to return. It may be too early, never too late.
func (l *Lessor) NextExpiry() (at time.Duration, ok bool) {
	r := l.queue.first()
	if r == nil {
		return 0, false
	}
	return r.due, true
}

// Lease is how a lease stands.
type Lease struct {
	ID         lease.ID
	TTLSeconds int64 // as granted
	// RemainingSeconds is whole seconds, rounded down; 0 or less: the lease has run out and is about to be revoked.
	RemainingSeconds int64
}

// Remaining tells how a lease stands; ok is false if there is none, or this member does not lead.
func (l *Lessor) Remaining(id lease.ID, now time.Duration) (Lease, bool) {
	r, ok := l.leases[id]
	if !ok {
		return Lease{}, false
	}
	return r.at(now), true
}

// All tells how all leases stand, the one that runs out first, first; of those that run out together, the one granted
// first.
func (l *Lessor) All(now time.Duration) []Lease {
	all := make([]*running, 0, len(l.leases))
	for _, r := range l.leases {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *running) int {
		return cmp.Or(cmp.Compare(a.expiry, b.expiry), a.grant.Compare(b.grant))
	})
	list := make([]Lease, len(all))
	for i, r := range all {
		list[i] = r.at(now)
	}
	return list
}

func (r *running) at(now time.Duration) Lease {
	left := int64((r.expiry - now) / time.Second)
	return Lease{ID: r.id, TTLSeconds: r.ttl, RemainingSeconds: min(left, r.longest)}
}

// seconds is n seconds, or never.
func seconds(n int64) time.Duration {
	if n > int64(never/time.Second) {
		return never
	}
	return time.Duration(n) * time.Second
}

// after is t + d (d >= 0), or never.
func after(t, d time.Duration) time.Duration {
	if t > never-d {
		return never
	}
	return t + d
}
