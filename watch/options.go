package watch

import (
	"time"

	"keelson/env"
	"keelson/state/mvcc"
)

// Options are the settings of a hub. The zero value of a field stands for its default.
type Options struct {
	// RingBytes bounds the memory of recent events kept for sharing (default 32 MiB). As much again may wait in front
	// of the ring while the dispatching task gets no processor.
	RingBytes int
	// StreamQueueLen bounds the control replies (created, canceled, progress) waiting in one stream (default 128).
	// Create and Cancel wait while it is full; progress responses are dropped.
	StreamQueueLen int
	// ResponseBytes is about how many bytes of events go into one response before another one is begun; a single
	// revision may exceed it (default 512 KiB).
	ResponseBytes int
	// FragmentBytes is the encoded size from which a response is cut if its watcher allows it (default 2 MiB: the
	// default of max-request-bytes plus 512 KiB).
	FragmentBytes int
	// CatchUpReaders bounds the goroutines that read history at a time (default 4).
	CatchUpReaders int
	// CatchUpBytes bounds what all streams that catch up hold together in prepared responses (default 64 MiB). The
	// share of a stream is at least 16 KiB, at most ResponseBytes.
	CatchUpBytes int
	// ProgressInterval is the time between progress notifications of an idle watcher that asked for them (default
	// 10 minutes, at least 100 ms); each period is lengthened by up to a tenth, at random.
	ProgressInterval time.Duration
	// Clock and Chance drive progress notifications (defaults: the system's).
	Clock  env.Clock
	Chance env.Chance
	// Spawn starts the hub's short tasks, each of which ends without waiting for anything but Sender.Send (default:
	// a goroutine each). A simulation can run them in an order of its own. Spawn is called with locks held: it must
	// not run the task before it returns.
	Spawn func(task func())
	// Failed is told once that reading history failed: a failure under the state, which must stop the member. Default:
	// panic.
	Failed func(err error)
}

const (
	progressIntervalMin = 100 * time.Millisecond
	catchUpShareMin     = 16 << 10
	// responseRevisionsMax bounds the distinct revisions in one response.
	responseRevisionsMax = 1000
)

func (o Options) withDefaults() Options {
	positive := func(v *int, fallback int) {
		if *v <= 0 {
			*v = fallback
		}
	}
	positive(&o.RingBytes, 32<<20)
	positive(&o.StreamQueueLen, 128)
	positive(&o.ResponseBytes, 512<<10)
	positive(&o.FragmentBytes, 2<<20)
	positive(&o.CatchUpReaders, 4)
	positive(&o.CatchUpBytes, 64<<20)
	if o.ProgressInterval <= 0 {
		o.ProgressInterval = 10 * time.Minute
	}
	o.ProgressInterval = max(o.ProgressInterval, progressIntervalMin)
	if o.Clock == nil {
		o.Clock = env.SystemClock()
	}
	if o.Chance == nil {
		o.Chance = env.SystemChance()
	}
	if o.Failed == nil {
		o.Failed = func(err error) { panic(err) }
	}
	return o
}

// History is what the hub asks of the store: the newest published state, and the events that led there.
type History interface {
	// Revision is the newest published revision. It never goes back.
	Revision() mvcc.Revision
	// Compacted is the compaction floor, -1 before the first compaction.
	Compacted() mvcc.Revision
	// Changes calls f with the events of lower <= key < upper (upper nil: no bound) and from <= revision <= to, in order
	// of (revision, sub), and returns the revision to go on from: to+1 when done, less when it stopped at the end of a
	// revision after about maxBytes. The event is only valid during f; an error of f ends the call and is returned.
	//
	// Errors: mvcc.ErrCompacted if from is below the compaction floor.
	Changes(from, to mvcc.Revision, lower, upper []byte, maxBytes int, f func(*mvcc.Event) error) (next mvcc.Revision, err error)
}
