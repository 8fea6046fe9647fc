package leader

import (
	"time"

	"keelson/command"
)

// CompactionMode says what history is kept by itself.
type CompactionMode uint8

// The modes of CompactorOptions.
const (
	CompactNever      CompactionMode = iota
	CompactPeriodic                  // keep what was current at some time within Retention
	CompactByRevision                // keep the newest Revisions
)

// CompactorOptions say what history to keep.
type CompactorOptions struct {
	Mode      CompactionMode
	Retention time.Duration // of CompactPeriodic; 0: never compact
	Revisions int64         // of CompactByRevision; 0: never compact
}

const (
	periodicIntervalMax = time.Hour       // between two compactions of CompactPeriodic
	periodicSamples     = 10              // looks at the revision within such an interval
	revisionInterval    = 5 * time.Minute // between two compactions of CompactByRevision
)

// Compactor decides when to compact. Every member keeps one and tells it the time and the revision, so that a new leader
// already knows the history.
//
// Source: etcd v3 API, auto-compaction-mode and auto-compaction-retention.
type Compactor struct {
	o       CompactorOptions
	started bool
	next    time.Duration // when to look next
	samples []sample      // of CompactPeriodic, oldest first; all within Retention but the first
	last    time.Duration // when the last compaction that was done fell due, or the start
	offered int64         // what is due and not done yet; 0: nothing
	due     time.Duration // when that was last offered
	floor   int64         // the compaction floor, as told
}

// sample is what revision was the newest at some time.
type sample struct {
	at       time.Duration
	revision int64
}

// NewCompactor makes a Compactor that knows no history.
func NewCompactor(o CompactorOptions) *Compactor {
	if o.Mode == CompactPeriodic && o.Retention <= 0 || o.Mode == CompactByRevision && o.Revisions <= 0 {
		o.Mode = CompactNever
	}
	return &Compactor{o: o}
}

// interval is the time between two compactions.
func (c *Compactor) interval() time.Duration {
	if c.o.Mode == CompactByRevision {
		return revisionInterval
	}
	return min(c.o.Retention, periodicIntervalMax)
}

// step is the time between two looks.
func (c *Compactor) step() time.Duration {
	if c.o.Mode == CompactByRevision {
		return revisionInterval
	}
	return max(c.interval()/periodicSamples, 1)
}

// Compacted tells the compaction floor, whoever moved it. A compaction that is due is offered at every look until it has
// been told to be done.
func (c *Compactor) Compacted(floor int64) {
	c.floor = max(c.floor, floor)
	if c.offered > 0 && c.floor >= c.offered {
		c.last, c.offered = c.due, 0
	}
}

// Tick tells the time and the newest revision, as often as the caller likes, and whether this member leads. It returns
// what to propose, or nil.
func (c *Compactor) Tick(now time.Duration, revision int64, leading bool) *command.Compact {
	if c.o.Mode == CompactNever {
		return nil
	}
	if !c.started {
		c.started = true
		c.last, c.next = now, after(now, c.step())
		c.sample(now, revision)
		return nil
	}
	if now < c.next {
		return nil
	}
	c.next = after(now, c.step())
	c.sample(now, revision)
	target := c.target(now, revision)
	if target <= c.floor {
		return nil
	}
	c.offered, c.due = target, now
	if !leading {
		return nil
	}
	return &command.Compact{Revision: target}
}

// target is the revision to compact to now; 0: none.
func (c *Compactor) target(now time.Duration, revision int64) int64 {
	if c.o.Mode == CompactByRevision {
		return max(revision-c.o.Revisions, 0)
	}
	oldest := c.samples[0]
	if now-c.last < c.interval() || now-oldest.at < c.o.Retention {
		return 0
	}
	return oldest.revision
}

// sample remembers the revision, and forgets samples that a newer one makes useless: only the newest of those older than
// the retention counts.
func (c *Compactor) sample(now time.Duration, revision int64) {
	if c.o.Mode != CompactPeriodic {
		return
	}
	c.samples = append(c.samples, sample{now, revision})
	for len(c.samples) > 1 && now-c.samples[1].at >= c.o.Retention {
		c.samples = c.samples[1:]
	}
}
