package node

import (
	"testing"
	"time"
)

func TestSweepPause(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name         string
		o            SweepOptions
		took         time.Duration
		busy, behind bool
		want         time.Duration
	}{
		{"nothing to speak of", SweepOptions{}, 0, true, false, 10 * ms},
		{"no writes", SweepOptions{}, 30 * ms, false, false, 10 * ms},
		{"writes", SweepOptions{}, 2 * ms, true, false, 38 * ms},
		{"writes on a slow machine", SweepOptions{}, 30 * ms, true, false, 570 * ms},
		{"disk that stands still", SweepOptions{}, time.Minute, true, false, time.Second},
		{"the next compaction waits", SweepOptions{}, 30 * ms, true, true, 10 * ms},
		{"as the operator says", SweepOptions{Pause: 3 * ms}, 30 * ms, true, false, 3 * ms},
		{"as the operator says, behind", SweepOptions{Pause: time.Second}, 30 * ms, true, true, time.Second},
	} {
		if got := c.o.pause(c.took, c.busy, c.behind); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
