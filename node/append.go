package node

import (
	"time"

	"keelson/env"
	"keelson/raftlog"
	"keelson/replica"
)

// append is the appender's loop: everything that queued up while the last sync ran is written under one sync.
func (n *Node) append() {
	var effects []replica.Effect
	var batches []raftlog.Batch
	var done []replica.Event
	grown := 0 // bytes of entries since the tender was told
	idle := newIdleTimer(n.o.Clock)
	defer idle.timer.Stop()
	for {
		effects = n.appends.take(effects)
		if len(effects) == 0 {
			select {
			case <-n.appends.wake:
				continue
			case <-idle.timer.C():
				if !idle.elapsed() {
					continue
				}
				if err := n.o.Log.MarkIdle(); err != nil {
					n.fail(err)
					return
				}
				continue
			case <-n.stopped.Done():
				return
			}
		}
		batches, done = batches[:0], done[:0]
		for _, e := range effects {
			a := e.(*replica.Append)
			batches = append(batches, raftlog.Batch{HardState: a.HardState, Entries: a.Entries})
			done = append(done, replica.AppendDone{Append: a})
			for _, e := range a.Entries {
				grown += len(e.GetData())
			}
		}
		if err := n.o.Log.Append(batches...); err != nil {
			n.fail(err)
			return
		}
		n.events.put(done...)
		idle.worked()
		if grown >= spareLookBytes {
			grown = 0
			n.tellTender()
		}
	}
}

// idleAfter is how long the log is without work, at least, before it is marked as idle. It may take twice as long.
const idleAfter = 50 * time.Millisecond

// idleTimer notices when there has been no work for a while. Work costs it nothing while it runs.
type idleTimer struct {
	timer env.Timer
	runs  bool // the timer does
	work  bool // there was some since it was set
}

func newIdleTimer(c env.Clock) *idleTimer {
	t := &idleTimer{timer: c.NewTimer(idleAfter)}
	t.runs = true
	return t
}

// worked tells of work.
func (t *idleTimer) worked() {
	t.work = true
	if !t.runs {
		t.runs = true
		t.timer.Reset(idleAfter)
	}
}

// elapsed tells, when the timer has fired, whether there was no work meanwhile. If there was, it runs again.
func (t *idleTimer) elapsed() bool {
	if t.runs = t.work; t.runs {
		t.work = false
		t.timer.Reset(idleAfter)
	}
	return !t.runs
}
