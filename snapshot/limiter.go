package snapshot

import (
	"context"
	"time"

	"keelson/env"
)

// limiter spreads what is sent over time: a bucket of tokens, one for each byte, that holds as many as come in a quarter
// of a second. It may be overdrawn by one piece.
type limiter struct {
	clock env.Clock
	rate  int64         // bytes per second; 0: no limit
	full  time.Duration // when, on the monotonic clock, the bucket will be or was full again
}

const limiterBurst = time.Second / 4

func newLimiter(clock env.Clock, rate int64) *limiter {
	return &limiter{clock: clock, rate: max(rate, 0), full: clock.Monotonic()}
}

// piece is how many bytes are to be sent at once: few enough for the stream to keep moving.
func (l *limiter) piece() int64 {
	if l.rate == 0 {
		return pieceBytesMax
	}
	return min(max(l.rate/4, 1<<10), pieceBytesMax)
}

// take waits until n more bytes may be sent.
func (l *limiter) take(ctx context.Context, n int) error {
	if l.rate == 0 {
		return ctx.Err()
	}
	now := l.clock.Monotonic()
	l.full = max(l.full, now)
	wait := l.full - now - limiterBurst // until the bucket is not overdrawn
	l.full += time.Duration(float64(n) / float64(l.rate) * float64(time.Second))
	if wait <= 0 {
		return ctx.Err()
	}
	timer := l.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
