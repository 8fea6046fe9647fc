package server

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"
)

// shrinkBytesMax is the largest store that is rewritten when somebody asks for a defragmentation and there is no quota. A
// larger one is left to the compactions of its tables, which go on all the time: to rewrite it would cost much and give back
// little.
const shrinkBytesMax = 1 << 30

// shrinkMarginBytes is what must be left of the disk for others when the store is there twice.
const shrinkMarginBytes = 16 << 20

// roomToShrink refuses to rewrite a store that the disk can't hold twice: a store that finds the disk full ends the member.
func (s *Server) roomToShrink() error {
	disk, err := s.engine.fs.GetDiskUsage(s.engine.dir.State())
	if err != nil {
		return nil // nobody knows
	}
	if _, inUse := s.sizes(); uint64(inUse)+shrinkMarginBytes > disk.AvailBytes {
		return fmt.Errorf("defragment: the disk has %d bytes left, and the %d bytes in use are rewritten before the old ones are given back: "+
			"make room first; nothing was changed", disk.AvailBytes, inUse)
	}
	return nil
}

// shrink gives back disk space. Reads and writes go on meanwhile.
func (s *Server) shrink(ctx context.Context) error {
	before, _ := s.sizes()
	if before > shrinkBytesMax && !s.config.Limits.QuotaEnforced {
		return s.engine.machine.Flush()
	}
	if err := s.roomToShrink(); err != nil {
		return err
	}
	start := time.Now()
	s.logger.Info("starting defragment")
	_, inUseBefore := s.sizes()
	s.logger.Info("defragmenting", zap.String("path", s.engine.dir.State()),
		zap.Int64("current-db-size-bytes", before), zap.String("current-db-size", humanize.Bytes(uint64(before))),
		zap.Int64("current-db-size-in-use-bytes", inUseBefore), zap.String("current-db-size-in-use", humanize.Bytes(uint64(inUseBefore))))
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
		zap.String("current-db-size", humanize.Bytes(uint64(after))),
		zap.Int64("current-db-size-in-use-bytes", inUse), zap.String("current-db-size-in-use", humanize.Bytes(uint64(inUse))),
		zap.Duration("took", took))
	return nil
}
