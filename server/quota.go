package server

import (
	"context"
	"sync/atomic"

	"go.uber.org/zap"

	"keelson/api/v3"
	"keelson/command"
	"keelson/config"
)

// quota refuses what would grow the store beyond a size, and then raises the alarm that refuses it everywhere.
type quota struct {
	limitBytes int64
	s          *Server
	raising    atomic.Bool
}

// newQuota makes the quota that was asked for by a flag; without one there is none.
func newQuota(l config.Limits, s *Server) v3.Quota {
	if !l.QuotaEnforced {
		return nil
	}
	return &quota{limitBytes: l.QuotaBytes, s: s}
}

// Admit implements v3.Quota.
func (q *quota) Admit(costBytes int64) bool {
	total, _ := q.s.sizes()
	if total+costBytes < q.limitBytes {
		return true
	}
	if q.raising.CompareAndSwap(false, true) {
		go q.raise()
	}
	return false
}

// raise puts the alarm into the log. It ends within the request timeout.
func (q *quota) raise() {
	defer q.raising.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), q.s.config.Member.RequestTimeout())
	defer cancel()
	id := q.s.engine.dir.Identity.MemberID
	if _, err := q.s.node.Propose(ctx, &command.Alarm{Member: id, Type: int32(noSpace), Raise: true}); err != nil {
		q.s.logger.Warn("failed to raise alarm", zap.String("alarm", "NOSPACE"), zap.Error(err))
		return
	}
	q.s.logger.Warn("alarm raised", hexID("alarm-member-id", id), zap.String("alarm", "NOSPACE"),
		zap.Int64("quota-size-bytes", q.limitBytes))
}
