package node

import (
	"sync/atomic"
	"time"

	"keelson/env"
	"keelson/raftlog"
	"keelson/replica"
)

// appender makes the append move: everything that queued up while the last sync ran is written under one sync. Its fields
// belong to the one whose turn it is.
type appender struct {
	turn  turn
	move  func() // round
	brief func() // briefRound
	n     *Node

	effects []replica.Effect
	batches []raftlog.Batch
	done    []replica.Event
	busy    busy
	quick   atomic.Bool // the last round that waited for the disk was: see quickMove
	grown   int         // bytes of entries since the tender was told
	idle    *idleTimer
}

func newAppender(n *Node) *appender {
	a := &appender{n: n, idle: newIdleTimer(n.o.Clock)}
	a.move, a.brief = a.round, a.briefRound
	return a
}

// loop makes the move whenever there is something to append, and marks the log when there has been nothing for a while.
func (a *appender) loop() {
	defer a.idle.timer.Stop()
	for {
		a.turn.take(a.move)
		a.n.passOn(a.n.appends.len() == 0)
		select {
		case <-a.n.appends.wake:
		case <-a.idle.timer.C():
			a.turn.take(a.markIdle)
		case <-a.n.stopped.Done():
			return
		}
	}
}

// quickMove is how long a move may have taken if a goroutine from which others expect more is to make the next one: where it takes longer,
// to wake another goroutine costs next to nothing in comparison.
const quickMove = 2 * time.Millisecond

// round makes one move. Who is to be told of it is the caller's business.
func (a *appender) round() {
	a.effects = a.n.appends.take(a.effects)
	a.carryOut()
}

// briefRound makes a move that takes no longer than the disk, or none.
func (a *appender) briefRound() {
	a.effects = a.n.appends.takeIf(areBriefAppends, a.effects)
	a.carryOut()
}

func (a *appender) carryOut() {
	n := a.n
	if len(a.effects) == 0 {
		return
	}
	begun := n.o.Clock.Monotonic()
	a.busy.begin(begun)
	for rest := a.effects; len(rest) > 0; {
		var err error
		if rest, err = a.write(rest); err != nil {
			n.fail(err)
			return
		}
	}
	a.busy.end()
	if synced(a.effects) {
		a.quick.Store(n.o.Clock.Monotonic()-begun < quickMove)
	}
	a.idle.worked()
	if a.grown >= spareLookBytes {
		a.grown = 0
		n.tellTender()
	}
}

// write carries out the Appends up to the next Install under one sync, or an Install, and returns what is left.
func (a *appender) write(effects []replica.Effect) (rest []replica.Effect, err error) {
	n := a.n
	if in, ok := effects[0].(*replica.Install); ok {
		if err := a.install(in); err != nil {
			return nil, err
		}
		if len(in.Entries) > 0 { // behind the snapshot; the log has the hard state already
			if err := n.o.Log.Append(raftlog.Batch{Entries: in.Entries}); err != nil {
				return nil, err
			}
		}
		n.events.put(replica.InstallDone{Install: in})
		return effects[1:], nil
	}
	a.batches, a.done = a.batches[:0], a.done[:0]
	for len(effects) > 0 {
		e, ok := effects[0].(*replica.Append)
		if !ok {
			break
		}
		effects = effects[1:]
		a.batches = append(a.batches, raftlog.Batch{HardState: e.HardState, Entries: e.Entries, MustSync: e.Sync})
		a.done = append(a.done, replica.AppendDone{Append: e})
		for _, entry := range e.Entries {
			a.grown += len(entry.GetData())
		}
	}
	if err := n.o.Log.Append(a.batches...); err != nil {
		return nil, err
	}
	n.events.put(a.done...)
	return effects, nil
}

func (a *appender) markIdle() {
	if !a.idle.elapsed() {
		return
	}
	a.busy.begin(a.n.o.Clock.Monotonic())
	if err := a.n.o.Log.MarkIdle(); err != nil {
		a.n.fail(err)
		return
	}
	a.busy.end()
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
