package node

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/command"
	"keelson/replica"
)

// mover makes the step move: it tells the replica what has come in and hands out what the replica wants. Its fields, and
// the replica, belong to the one whose turn it is.
type mover struct {
	turn    turn
	move    func() // step
	n       *Node
	replica *replica.Replica

	incoming  []replica.Event
	events    []replica.Event // of this step: ticks first
	appending int             // Appends with entries that were handed out and are not done
	leading   bool
	silent    bool // see watchDisk
	backlog   backlog
	pace      *pace

	advance  bool          // the first election is still to be brought forward
	ticks    int           // so far, while that is so
	lastTick time.Duration // monotonic; 0: there was none
}

func newMover(n *Node, r *replica.Replica) *mover {
	m := &mover{n: n, replica: r, advance: n.o.TickAdvance, pace: newPace(n.o.Clock)}
	m.move = m.step
	return m
}

// loop makes the move whenever something has come in, and with every tick.
func (m *mover) loop() {
	n := m.n
	defer n.lonely.Store(0) // whatever the last step thought
	ticker := n.o.Clock.NewTicker(n.o.Heartbeat)
	defer ticker.Stop()
	defer m.pace.timer.Stop()
	for {
		m.turn.take(m.move)
		n.appends.nudge()
		n.applies.nudge()
		select {
		case <-n.events.wake:
		case <-ticker.C():
			m.turn.take(m.tick)
		case <-m.pace.timer.C():
		case <-n.stopped.Done():
			return
		}
	}
}

// help makes the moves that a new request needs, as far as nobody else is at them; where somebody is, that one or the
// move's own goroutine goes on.
func (n *Node) help() {
	if !n.mover.turn.try(n.mover.move) {
		n.events.signal()
		return
	}
	n.applies.nudge()
	n.finish()
}

// begin is help for a goroutine that must not wait: it makes the first move, and has another goroutine make the others if there is
// something for the log. Where no other member has to hear of it, all of a write is the log's time, and a caller with nothing better to do makes
// them itself.
func (n *Node) begin(r Runner) {
	if !n.mover.turn.try(n.mover.move) {
		n.events.signal()
		return
	}
	n.applies.nudge()
	switch {
	case n.appends.len() == 0:
	case n.alone.Load() && n.appender.quick.Load():
		r.Stay(n.proposals.pending(), n.finishAfter)
	default:
		r.Go(n.finish)
	}
}

// finish makes the moves after the first one.
func (n *Node) finish() { n.finishAfter(func() {}) }

// finishAfter is finish; it calls written when what had to be written is.
func (n *Node) finishAfter(written func()) {
	if !n.appender.turn.try(n.appender.move) {
		n.appends.signal()
		return
	}
	written()
	if !n.mover.turn.try(n.mover.move) {
		n.events.signal()
		return
	}
	n.appends.nudge() // the next batch does not wait for the application of this one
	if !n.applier.turn.try(n.applier.move) {
		n.applies.signal()
		return
	}
	if !n.mover.turn.try(n.mover.move) {
		n.events.signal()
		return
	}
	n.appends.nudge()
	n.applies.nudge()
}

// briefBytesMax is how much is brief, of messages, or of entries that are queued.
const briefBytesMax = 16 << 10

// helpBriefly makes the moves that something from another member needs, as far as nobody else is at them and none of them takes
// long: the next message waits meanwhile. What was quick the last time is expected to be so again.
func (n *Node) helpBriefly() {
	if !n.mover.turn.try(n.mover.move) {
		n.events.signal()
		return
	}
	if n.appends.len() > 0 {
		syncs := n.appends.are(synced)
		if syncs && n.proposals.pending() > 0 {
			n.applies.nudge() // somebody waits for it
		}
		if syncs && !n.appender.quick.Load() || !n.appender.turn.try(n.appender.brief) || !n.mover.turn.try(n.mover.move) {
			n.events.nudge()
			n.appends.nudge()
			n.applies.nudge()
			return
		}
	}
	if n.applier.quick.Load() {
		n.applier.turn.try(n.applier.brief)
	}
	n.passOn(true)
	n.appends.nudge()
	n.applies.nudge()
}

// synced reports whether something that is to be written has to wait for the disk.
func synced(effects []replica.Effect) bool { return slices.ContainsFunc(effects, isSynced) }

func isSynced(e replica.Effect) bool {
	a, ok := e.(*replica.Append)
	return !ok || a.Sync
}

// areBriefAppends reports whether what is to be written is so little that only the disk takes its time.
func areBriefAppends(effects []replica.Effect) bool {
	bytes := 0
	for _, e := range effects {
		a, ok := e.(*replica.Append)
		if !ok {
			return false
		}
		if bytes += sizeOf(a.Entries); bytes > briefBytesMax {
			return false
		}
	}
	return true
}

// areBriefApplies reports whether the application of what is queued takes no longer than its size says. It takes no longer itself.
func areBriefApplies(queued []*replica.Apply) bool {
	bytes := 0
	for _, a := range queued {
		if bytes += sizeOf(a.Entries); bytes > briefBytesMax || a.ConfState != nil {
			return false
		}
	}
	for _, a := range queued {
		for _, e := range a.Entries {
			if len(e.GetData()) > 0 && !command.IsBrief(e.GetData()) {
				return false
			}
		}
	}
	return true
}

// sizeOf is about what entries take.
func sizeOf(entries []*raftpb.Entry) (bytes int) {
	const each = 32
	for _, e := range entries {
		bytes += each + len(e.GetData())
	}
	return bytes
}

// passOn sees to it that the replica is told of a move that was made: by the goroutine that made it, if it is idle, because
// another one would have to be woken for it.
func (n *Node) passOn(idle bool) {
	switch {
	case n.events.len() == 0:
	case idle:
		n.move()
	default:
		n.events.signal()
	}
}

// tick counts time: raft's, and that of those who wait.
func (m *mover) tick() {
	n := m.n
	m.events = append(m.events, replica.Tick{})
	m.noteLate()
	m.advanceElection()
	now := n.o.Clock.Monotonic()
	before := now - n.o.RequestTimeout
	for _, id := range n.proposals.expire(before, n.timedOut) {
		m.events = append(m.events, replica.Forget{ID: id})
	}
	n.reads.expire(before, ErrTimeout)
	n.reads.noteSlow(now - readsSlow)
	m.watchDisk()
}

// lateHeartbeats is how many heartbeats' time may pass between two ticks of a leader without a word.
const lateHeartbeats = 2

// noteLate reports ticks that come too late: the machine is overloaded, and followers may take the leader for gone.
func (m *mover) noteLate() {
	n := m.n
	now := n.o.Clock.Monotonic()
	late := now - m.lastTick - lateHeartbeats*n.o.Heartbeat
	if m.lastTick != 0 && late > 0 && m.leading && n.o.Network != nil && n.o.Observe.Late != nil {
		n.o.Observe.Late(late)
	}
	m.lastTick = now
}

// advanceElection lets the time until the first election pass at once, but for what chance adds to it, when there is
// somebody to be elected by and nobody leads yet.
func (m *mover) advanceElection() {
	n := m.n
	if !m.advance {
		return
	}
	m.ticks++
	if n.status.Load().Leader != 0 || n.o.Network == nil {
		m.advance = false
		return
	}
	view := n.ReadLocal()
	defer view.Close()
	for _, peer := range view.Members().List() {
		if _, ok := n.connectedSince(peer.ID); !ok || peer.ID == n.o.MemberID {
			continue
		}
		m.advance = false
		for range int(n.o.Election/n.o.Heartbeat) - 1 - m.ticks { // none if that is below 0
			m.events = append(m.events, replica.Tick{})
		}
		return
	}
}

// step gives the replica everything that has come in, and carries out what it wants.
func (m *mover) step() {
	n := m.n
	defer n.diskFailure()
	now := n.o.Clock.Monotonic()
	m.incoming = n.events.take(m.incoming)
	for _, ev := range m.incoming {
		switch ev := ev.(type) {
		case replica.AppendDone:
			if len(ev.Entries) > 0 {
				m.appending--
			}
		case replica.ApplyDone:
			m.backlog.done()
		}
	}
	m.keepPace(now)
	// Without a leader, requests wait for one, within their time.
	led := n.status.Load().Leader != 0
	if led {
		if ticket, ok := n.reads.begin(); ok {
			m.events = append(m.events, replica.ReadIndex{Ticket: ticket})
		}
	}
	took := led && m.free()
	if took {
		m.events = n.proposals.take(m.events, now)
	}
	effects := m.replica.Step(m.events...)
	n.commits.await(m.events, m.replica.Status().LastIndex)
	clear(m.events)
	m.events = m.events[:0]
	status := n.publishStatus(m.replica)
	if alone := status.Alone && m.leading; alone != n.alone.Load() {
		n.alone.Store(alone)
	}
	if !n.alone.Load() {
		n.lonely.Store(0)
	}
	if status.Transfer != 0 { // before anybody is told
		n.leases.transferring(n.o.Clock.Monotonic())
	}
	if status.Parting != 0 && n.o.Observe.Parting != nil && status.Role != raft.StateLeader {
		n.parting.Do(n.o.Observe.Parting)
	}
	if word := m.backlog.word(now, status); word != nil && !m.silent {
		n.send([]*raftpb.Message{word})
	}
	if m.backlog.leader != 0 {
		m.pace.timer.Reset(paceLook)
	}
	dropped := false
	for _, e := range effects {
		m.carryOut(e, status)
		_, d := e.(*replica.ProposalDropped)
		dropped = dropped || d
	}
	n.reads.applied(status.Applied)
	// What this step has ended makes room that it did not see yet, and perhaps nothing else comes.
	if status.Leader != 0 && m.free() && (!took || dropped) && n.proposals.wait() {
		n.events.signal()
	}
}

// keepPace decides whether what is proposed waits, and makes events of what has come in and does not.
func (m *mover) keepPace(now time.Duration) {
	n := m.n
	status := m.replica.Status()
	for _, ev := range m.incoming {
		if msg, ok := ev.(replica.Message); ok && isBehindMessage(msg.Message) {
			m.pace.hear(msg.Message, status.Term, now)
			n.received.bytes.Add(-messageBytes(msg.Message))
		}
	}
	if m.leading && !status.Lone {
		applied := uint64(0)
		if m.backlog.isBehind(now) {
			applied = status.Applied
		}
		m.pace.note(status.ID, applied, now)
		m.pace.look(now, status.Committed)
	} else {
		m.pace.rest()
	}
	m.events = m.pace.admit(m.events, m.incoming)
	for _, ev := range m.events {
		if msg, ok := ev.(replica.Message); ok {
			n.received.bytes.Add(-messageBytes(msg.Message))
		}
	}
}

// forwardsMax is how many batches a member that does not lead has under way.
const forwardsMax = 3

// free reports whether a batch may close. Until then commands go on joining it: on the leader until the log is free to
// take it, elsewhere until the leader has answered to some of what it was sent.
func (m *mover) free() bool {
	if m.leading {
		return m.appending == 0 && !m.pace.waits
	}
	return m.replica.Status().Pending < forwardsMax
}

func (m *mover) carryOut(e replica.Effect, status replica.Status) {
	n := m.n
	switch e := e.(type) {
	case *replica.Append:
		if len(e.Entries) > 0 {
			m.appending++
		}
		n.appends.put(e)
	case *replica.Install:
		n.appends.put(e)
	case *replica.Apply:
		if e.ConfState != nil {
			n.commits.flush() // a member that it removes should hear of it
		}
		m.backlog.begun(n.o.Clock.Monotonic())
		n.applies.put(e)
	case *replica.ReadReady:
		n.reads.ready(e.Through, e.Index, status.Applied)
		if status.Alone && m.leading && status.Applied >= e.Index {
			n.lonely.Store(status.Term)
		}
	case *replica.ReadsDropped:
		n.reads.drop(e.Through, readError(e.Err))
	case *replica.ProposalDropped:
		n.proposals.fail(command.BatchID{Origin: n.proposals.origin, Sequence: e.ID}, proposalError(e.Err))
	case *replica.LeaderChanged:
		m.leading = e.Leading
		n.lonely.Store(0)
		n.commits.reset()
		n.leases.lead(e.Term, e.Leading)
		n.leader.set(e.Leader, n.o.Clock.Monotonic())
		n.events.signal() // for those who waited for a leader
		if n.o.Observe.Leader != nil {
			n.o.Observe.Leader(e.Leader, e.Term, e.Leading)
		}
	case *replica.Send:
		if !m.silent {
			n.send(e.Messages)
		}
	default:
		n.fail(fmt.Errorf("node: no way to carry out %T", e))
	}
}

// diskFailure makes an ordinary failure of what replica panics with when it can't read the log. Anything else is a broken
// invariant, and ends the process.
func (n *Node) diskFailure() {
	switch r := recover().(type) {
	case nil:
	case runtime.Error:
		panic(r)
	case error:
		n.fail(r)
	default:
		panic(r)
	}
}

func readError(err error) error {
	if err == replica.ErrLeaderChanged {
		return ErrLeaderChanged
	}
	return ErrNoLeader
}

func proposalError(err error) error {
	switch err {
	case replica.ErrBusy:
		return ErrTooManyRequests
	case replica.ErrSkipped:
		return ErrTimeoutConnectionLost
	case replica.ErrRemoved:
		return ErrRemoved
	}
	return fmt.Errorf("%w: %w", ErrDropped, err)
}

// publishStatus shows the replica's status to everybody.
func (n *Node) publishStatus(r *replica.Replica) replica.Status {
	s := r.Status()
	shown := Status{
		ClusterID: n.o.ClusterID, MemberID: n.o.MemberID,
		Leader: s.Leader, Term: s.Term, Committed: s.Committed, Applied: s.Applied,
		Learner: s.Learner, Leading: s.Role == raft.StateLeader,
	}
	if old := n.status.Load(); old == nil || *old != shown {
		n.status.Store(&shown)
	}
	return s
}
