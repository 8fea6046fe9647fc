package server

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/command"
	"keelson/env"
)

// Without a quota there is no size at which the store must stop growing. What it must not do is to fill the disk, because
// then nothing goes on at all: neither log nor deletion. So a part of the disk is kept free.
const (
	// reserveFraction of the disk is kept free, within the bounds below.
	reserveFraction = 20
	reserveMin      = 64 << 20
	reserveMax      = 1 << 30
	// roomInterval is how often a member looks at its disk, and whether its alarm can end.
	roomInterval = time.Second
	// quotaShownMin is what is told as the quota while the store is small: etcd's default, which tools expect.
	quotaShownMin = 2 << 30
)

// room is how much the disk of the data directory still has. It is a v3.Quota for members that were given none.
type room struct {
	usage func() (free, total uint64, err error)
	now   func() time.Duration
	over  func(ctx context.Context) // called before each refusal

	lookAt atomic.Int64 // when to look again, on the clock of now
	free   atomic.Uint64
	total  atomic.Uint64
}

func newRoom(fs env.FS, dir string, now func() time.Duration, over func(context.Context)) *room {
	r := &room{now: now, over: over, usage: func() (free, total uint64, err error) {
		u, err := fs.GetDiskUsage(dir)
		return u.AvailBytes, u.TotalBytes, err
	}}
	r.look()
	return r
}

// look asks the file system. If it does not tell, what was known before stands.
func (r *room) look() {
	if free, total, err := r.usage(); err == nil {
		r.free.Store(free)
		r.total.Store(total)
	}
}

// reserve is how much of the disk is kept free.
func (r *room) reserve() uint64 {
	return min(max(r.total.Load()/reserveFraction, reserveMin), reserveMax)
}

// isLow reports whether the store must not grow. A disk that never told its size is not known to be low.
func (r *room) isLow() bool { return r.total.Load() > 0 && r.free.Load() < r.reserve() }

// isBack reports whether there is so much room that the store may grow again for a while.
func (r *room) isBack() bool { return r.free.Load() >= r.reserve()+r.reserve()/4 }

// Admit implements v3.Quota. What the disk had a moment ago may let a request in, but only a new look refuses one.
func (r *room) Admit(ctx context.Context, costBytes int64) bool {
	due, now := r.lookAt.Load(), int64(r.now())
	if now >= due && r.lookAt.CompareAndSwap(due, now+int64(sizeLookInterval)) {
		r.look()
	}
	if !r.isLow() {
		return true
	}
	if r.look(); !r.isLow() {
		return true
	}
	r.over(ctx)
	return false
}

// Exceeded implements v3.Quota: there is no size that the store must not have.
func (r *room) Exceeded() bool { return false }

// Raise implements v3.Quota.
func (r *room) Raise(ctx context.Context) { r.over(ctx) }

// Ample implements v3.Quota.
func (r *room) Ample() bool { return r.total.Load() == 0 || r.isBack() }

// quotaBytes is the size that the store can grow to, for those who ask for a quota.
func (r *room) quotaBytes(sizeBytes int64) int64 {
	if sizeBytes < quotaShownMin/2 || r.total.Load() == 0 {
		return quotaShownMin
	}
	return max(sizeBytes+int64(r.free.Load())-int64(r.reserve()), sizeBytes, quotaShownMin)
}

// keepRoom looks at the disk once in a while, also on members that no client writes through, raises the alarm when it runs
// low, and ends it when there is room again. It ends with ctx.
func (s *Server) keepRoom(ctx context.Context, r *room, a *spaceAlarm) {
	for {
		timer := s.clock.NewTimer(roomInterval)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return
		}
		r.look()
		switch isRaised := a.isRaised(); {
		case !isRaised && r.isLow():
			a.raise(ctx)
		case isRaised && r.isBack():
			a.clear(ctx)
		}
	}
}

// clear ends this member's alarm.
func (a *spaceAlarm) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.s.config.Member.RequestTimeout())
	defer cancel()
	if _, err := a.s.node.ProposeOwn(ctx, &command.Alarm{Member: a.id(), Type: int32(noSpace)}); err != nil {
		a.s.logger.Warn("failed to end alarm", zap.String("alarm", "NOSPACE"), zap.Error(err))
		return
	}
	a.s.logger.Info("alarm ended: there is room on the disk again", hexID("alarm-member-id", a.id()), zap.String("alarm", "NOSPACE"))
}
