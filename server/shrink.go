package server

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// shrinkBytesMax is the largest store that is rewritten when somebody asks for a defragmentation and there is no quota. A
// larger one is left to the compactions of its tables, which go on all the time: to rewrite it would cost much and give back
// little.
const shrinkBytesMax = 1 << 30

// shrink gives back disk space. Reads and writes go on meanwhile.
func (s *Server) shrink(ctx context.Context) error {
	before, _ := s.sizes()
	if before > shrinkBytesMax && !s.config.Limits.QuotaEnforced {
		return s.engine.machine.Flush()
	}
	start := time.Now()
	s.logger.Info("starting defragment")
	s.metrics.Defragmenting.Inc()
	defer s.metrics.Defragmenting.Dec()
	if err := s.engine.machine.Shrink(ctx); err != nil {
		s.logger.Error("failed to defragment", zap.Error(err))
		return err
	}
	took := time.Since(start)
	s.metrics.Defragment.Observe(took.Seconds())
	after, inUse := s.sizes()
	s.logger.Info("finished defragmenting directory", zap.String("path", s.engine.dir.State()),
		zap.Int64("current-db-size-bytes-diff", after-before), zap.Int64("current-db-size-bytes", after),
		zap.Int64("current-db-size-in-use-bytes", inUse), zap.Duration("took", took))
	return nil
}
