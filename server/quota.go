package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/api/v3"
	"keelson/command"
	"keelson/config"
	"keelson/state/alarm"
)

// sizeLookInterval is how long a look at the store's size counts: it is far dearer than what is asked of the quota.
const sizeLookInterval = 100 * time.Millisecond

// quota refuses what would grow the store beyond a size, once the alarm is raised that refuses it everywhere.
type quota struct {
	limitBytes int64
	size       func() int64 // of the store, as it is
	now        func() time.Duration
	over       func(ctx context.Context) // called before each refusal

	lookAt atomic.Int64 // when to look at the size again, on the clock of now
	known  atomic.Int64 // the size at the last look
	since  atomic.Int64 // bytes admitted after it
}

// newQuota makes what decides whether there is room: the quota that was asked for by a flag, or else the disk.
func (s *Server) newQuota(l config.Limits) v3.Quota {
	a := &spaceAlarm{s: s}
	s.alarm = a
	s.room = newRoom(s.engine.fs, s.config.Member.DataDir, s.clock.Monotonic, a.raise)
	if !l.QuotaEnforced {
		return s.room
	}
	size := func() int64 { total, _ := s.sizes(); return total }
	q := &quota{limitBytes: l.QuotaBytes, size: size, now: s.clock.Monotonic, over: a.raise}
	q.look()
	return q
}

// Admit implements v3.Quota. What the size was a moment ago may let a request in, but only a new look refuses one.
func (q *quota) Admit(ctx context.Context, costBytes int64) bool {
	q.lookIfDue()
	if q.fits(costBytes) {
		return true
	}
	q.look()
	if q.fits(costBytes) {
		return true
	}
	q.over(ctx)
	return false
}

// Exceeded implements v3.Quota.
func (q *quota) Exceeded() bool {
	if q.known.Load() < q.limitBytes {
		return false
	}
	q.look()
	return q.known.Load() >= q.limitBytes
}

// Raise implements v3.Quota.
func (q *quota) Raise(ctx context.Context) { q.over(ctx) }

func (q *quota) lookIfDue() {
	due, now := q.lookAt.Load(), int64(q.now())
	if now >= due && q.lookAt.CompareAndSwap(due, now+int64(sizeLookInterval)) {
		q.look()
	}
}

func (q *quota) look() {
	q.since.Store(0)
	q.known.Store(q.size())
}

// ampleBytes of a quota that are left are ample.
const ampleBytes = 16 << 20

// Ample implements v3.Quota. The store may have grown by what others have admitted.
func (q *quota) Ample() bool {
	q.lookIfDue()
	return q.known.Load()+q.since.Load()+ampleBytes < q.limitBytes
}

func (q *quota) fits(costBytes int64) bool {
	if q.known.Load()+q.since.Load()+costBytes >= q.limitBytes {
		return false
	}
	q.since.Add(costBytes)
	return true
}

// spaceAlarm raises the alarm of a full store.
type spaceAlarm struct {
	s *Server

	mu      sync.Mutex
	raising chan struct{} // closed when the try under way has ended; nil: none is
}

// raise returns when the alarm is raised, so that whoever is refused finds it in the list. All who are refused meanwhile
// share one try, which ends within the request timeout; each of them waits no longer than until ctx ends.
func (a *spaceAlarm) raise(ctx context.Context) {
	if a.isRaised() {
		return
	}
	a.mu.Lock()
	if a.raising == nil {
		a.raising = make(chan struct{})
		go a.try()
	}
	raising := a.raising
	a.mu.Unlock()
	select {
	case <-raising:
	case <-ctx.Done():
	}
}

func (a *spaceAlarm) id() uint64 { return a.s.engine.dir.Identity.MemberID }

func (a *spaceAlarm) isRaised() bool {
	view := a.s.node.ReadLocal()
	defer view.Close()
	return slices.Contains(view.Alarms().List(noSpace), alarm.Alarm{Member: a.id(), Type: noSpace})
}

// quotaBytes is the size at which the store must stop growing, as clients are told.
func (s *Server) quotaBytes() int64 {
	if l := s.config.Limits; l.QuotaEnforced || l.QuotaBytes < 0 {
		return l.QuotaBytes
	}
	total, _ := s.sizes()
	return s.room.quotaBytes(total)
}

// try puts the alarm into the log and waits until it is applied here.
func (a *spaceAlarm) try() {
	defer func() {
		a.mu.Lock()
		close(a.raising)
		a.raising = nil
		a.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), a.s.config.Member.RequestTimeout())
	defer cancel()
	if _, err := a.s.node.ProposeOwn(ctx, &command.Alarm{Member: a.id(), Type: int32(noSpace), Raise: true}); err != nil {
		a.s.logger.Warn("failed to raise alarm", zap.String("alarm", "NOSPACE"), zap.Error(err))
		return
	}
	a.s.logger.Warn("alarm raised", hexID("alarm-member-id", a.id()), zap.String("alarm", "NOSPACE"),
		zap.Int64("quota-size-bytes", a.s.quotaBytes()))
}
