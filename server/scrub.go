package server

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"keelson/storage"
)

// The store is read again from end to end, slowly, so that damage is found while other members can make up for it. What the
// log holds the node reads again.
const (
	scrubBytesPerSecond = 4 << 20
	scrubRest           = 10 * time.Minute // before the first round, and between two
)

// scrub reads the store again until ctx ends. Damage ends the member: the store itself tells of it.
func (s *Server) scrub(ctx context.Context) {
	for sleep(ctx, scrubRest) == nil {
		start := time.Now()
		bytes, err := s.engine.machine.Scrub(ctx, scrubPace)
		switch {
		case ctx.Err() != nil, errors.Is(err, storage.ErrDamaged):
			return
		case err != nil:
			s.logger.Warn("failed to read the store again", zap.Error(err))
		default:
			s.logger.Info("read the store again: it is whole", zap.Int64("bytes", bytes), zap.Duration("took", time.Since(start)))
		}
	}
}

// scrubPace waits as long as it may take to read so many bytes.
func scrubPace(ctx context.Context, bytes int) error {
	return sleep(ctx, time.Duration(bytes)*time.Second/scrubBytesPerSecond)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
