package replica

import (
	"fmt"
	"runtime"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"keelson/internal/fault"
)

// Replica is the event machine. See the package comment.
type Replica struct {
	o  Options
	rn *raft.RawNode

	status Status
	// leadFrom is the index of the first entry of the term this member leads in. Once that is committed, everything
	// committed earlier is known to be. 0: it does not lead.
	leadFrom uint64

	reads   reads
	outbox  outbox
	chains  chains
	appends appends
	applies applies
	changes changes

	effects []Effect // of this Step; reused
}

// New makes the replica of a member from what its disk holds. The first Step hands out the effects of starting; a member
// that is the only voter campaigns at once.
//
// Errors: log, hard state and applied index do not fit together; the log can't be read.
func New(o Options) (_ *Replica, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			panic(r)
		case error: // a failure to read the log, of which raft gives no notice otherwise
			err = r
		default:
			panic(r)
		}
	}()
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := newStorage(o)
	if err != nil {
		return nil, err
	}
	rn, err := raft.NewRawNode(o.raft(s))
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	last, _ := o.Log.LastIndex()
	changes, err := newChanges(o.Log, s.hard.GetCommit(), last, o.Told)
	if err != nil {
		return nil, err
	}
	r := &Replica{
		o:  o,
		rn: rn,
		status: Status{
			ID:        o.ID,
			Term:      s.hard.GetTerm(),
			Vote:      s.hard.GetVote(),
			Committed: s.hard.GetCommit(),
			Applied:   o.Applied,
			LastIndex: last,
		},
		reads:   reads{origin: o.Origin},
		outbox:  outbox{origin: o.Origin},
		applies: applies{conf: o.ConfState},
		changes: changes,
	}
	r.configure(o.ConfState)
	r.campaignIfLone()
	return r, nil
}

// Step takes events, in order, and returns what is to be done. It may be called without events. The slice is valid
// until the next Step; what it points to is for keeps.
//
// Step panics if an effect is reported done out of order, if the log can't be read, and if raft finds its own
// invariants broken: the member must stop.
func (r *Replica) Step(events ...Event) []Effect {
	clear(r.effects)
	r.effects = r.effects[:0]
	for _, ev := range events {
		r.handle(ev)
	}
	r.collect()
	if r.pump() {
		r.collect()
	}
	if r.part() {
		r.collect()
	}
	if r.advanceReads() {
		r.collect()
	}
	r.status.Pending = r.outbox.live
	if r.status.Transfer != raft.None { // raft gives up on its own
		r.status.Transfer = r.rn.BasicStatus().LeadTransferee
	}
	return r.effects
}

// Status tells where the replica stands after the last Step. It is cheap.
func (r *Replica) Status() Status { return r.status }

// Progress calls yield for each member of the configuration, in order of ids, with what the leader knows about it. It
// does nothing on a follower.
func (r *Replica) Progress(yield func(Progress)) {
	if r.status.Role != raft.StateLeader {
		return
	}
	r.rn.WithProgress(func(id uint64, t raft.ProgressType, p tracker.Progress) {
		yield(Progress{
			ID:       id,
			Match:    p.Match,
			Learner:  t == raft.ProgressTypeLearner,
			Active:   p.RecentActive,
			Snapshot: p.State == tracker.StateSnapshot,
		})
	})
}

func (r *Replica) handle(ev Event) {
	switch ev := ev.(type) {
	case Tick:
		r.rn.Tick()
		r.reads.sinceTicks++
		r.outbox.sinceTicks++
		r.outbox.retry = true
	case Message:
		r.receive(ev.Message)
	case Propose:
		r.outbox.add(&proposal{id: ev.ID, entry: &raftpb.Entry{Data: ev.Data}})
	case ProposeConfChange:
		r.outbox.add(&proposal{id: ev.ID, entry: confChangeEntry(ev.Change), change: true})
	case Forget:
		r.outbox.forget(ev.ID)
	case ReadIndex:
		r.reads.want(ev.Ticket)
	case AppendDone:
		r.appendDone(ev.Append)
	case InstallDone:
		r.installDone(ev.Install)
	case ApplyDone:
		r.applyDone(ev)
	case Campaign:
		r.must(r.rn.Campaign())
	case TransferLeader:
		r.rn.TransferLeader(ev.To)
		r.status.Transfer = ev.To
	case Unreachable:
		r.rn.ReportUnreachable(ev.ID)
		if ev.ID == r.status.Leader { // what it was asked or told may be lost
			r.reads.sinceTicks, r.outbox.sinceTicks = r.o.ReadRetryTicks, r.o.ReadRetryTicks
		}
	case SnapshotSent:
		s := raft.SnapshotFinish
		if ev.Failed {
			s = raft.SnapshotFailure
		}
		r.rn.ReportSnapshot(ev.ID, s)
	default:
		panic(fmt.Sprintf("replica: event %T", ev))
	}
}

func (r *Replica) emit(e Effect) { r.effects = append(r.effects, e) }

func (r *Replica) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("replica: raft refused a message of its own: %v", err))
	}
}

// receive takes a message from another member. What raft refuses (a response from a stranger, a proposal it can't take)
// is lost, as if the network had lost it.
func (r *Replica) receive(m *raftpb.Message) {
	if from := m.GetFrom(); m.GetTo() != r.o.ID || from == 0 || from == r.o.ID || raft.IsLocalMsgTarget(from) {
		return
	}
	switch m.GetType() {
	case raftpb.MsgProp:
		r.receiveProposal(m)
		return
	case raftpb.MsgReadIndex:
		// Raft postpones this until the leader has committed in its term, but not if the leader is the only voter
		// and the question comes from a learner. The learner will ask again.
		r.collect()
		if r.status.Lone && r.status.Role == raft.StateLeader && !r.committedInTerm() {
			return
		}
	case raftpb.MsgTransferLeader:
		r.status.Transfer = m.GetFrom()
	case raftpb.MsgHeartbeat:
		r.checkHeartbeat(m)
	}
	r.changes.hears(m)
	_ = r.rn.Step(m)
}

// checkHeartbeat panics with a *RolledBackError, instead of letting raft panic, if the leader of this term or a later one
// counts with entries that this member is said to have acknowledged and does not have: a leader never tells a member of a
// commit beyond what that one has acknowledged, and what is acknowledged is in the log, what is committed not replaced.
func (r *Replica) checkHeartbeat(m *raftpb.Message) {
	last, err := r.o.Log.LastIndex()
	if err == nil && m.GetTerm() >= r.status.Term && m.GetCommit() > last {
		panic(&RolledBackError{Member: r.o.ID, Leader: m.GetFrom(), Acknowledged: m.GetCommit(), Last: last})
	}
}

func (r *Replica) whyDropped() error {
	s := r.rn.BasicStatus()
	switch {
	case s.LeadTransferee != raft.None:
		return ErrTransferring
	case r.applies.removed(r.o.ID):
		return ErrRemoved
	}
	return ErrBusy
}

// collect hands out what raft has ready. Raft hands out all it has at once: nothing is ready again before it is told
// something.
func (r *Replica) collect() {
	if r.rn.HasReady() {
		rd := r.rn.Ready()
		r.observe(&rd)
		if !raft.IsEmptySnap(rd.Snapshot) {
			r.changes.at = nil // with the log
		}
		r.changes.appended(rd.Entries)
		send, appendMsg, applyMsg := split(rd.Messages)
		held := r.send(send)
		if appendMsg != nil || len(held) > 0 || r.changes.isDue(r.status.Committed) {
			r.queueAppend(&rd, appendMsg, held)
		}
		if applyMsg != nil {
			r.queueApply(applyMsg)
		}
		for _, s := range rd.ReadStates {
			fault.Sometimes("an answer to a read came too late", !r.reads.matches(s.RequestCtx))
			if r.reads.matches(s.RequestCtx) {
				r.emit(&ReadReady{Through: r.reads.end(), Index: s.Index})
			}
		}
	}
	r.handOutAppends()
	r.handOutApplies()
}

// split takes raft's messages apart: those for other members, and the two for the local moves.
func split(ms []*raftpb.Message) (send []*raftpb.Message, appendMsg, applyMsg *raftpb.Message) {
	n := len(ms)
	for ; n > 0; n-- {
		switch m := ms[n-1]; m.GetTo() {
		case raft.LocalApplyThread:
			applyMsg = m
			continue
		case raft.LocalAppendThread:
			appendMsg = m
			continue
		}
		break
	}
	return ms[:n:n], appendMsg, applyMsg
}

// observe notes what changed, and drops reads whose leader is gone.
func (r *Replica) observe(rd *raft.Ready) {
	before := r.status
	s := &r.status
	if h := rd.HardState; !raft.IsEmptyHardState(h) {
		s.Term, s.Vote, s.Committed = h.GetTerm(), h.GetVote(), h.GetCommit()
	}
	if rd.SoftState != nil {
		s.Role, s.Leader = rd.SoftState.RaftState, rd.SoftState.Lead
	}
	if n := len(rd.Entries); n > 0 {
		s.LastIndex = rd.Entries[n-1].GetIndex()
	} else if !raft.IsEmptySnap(rd.Snapshot) {
		s.LastIndex = rd.Snapshot.GetMetadata().GetIndex()
	}
	if s.Role != raft.StateLeader {
		r.leadFrom, s.Transfer = 0, 0
	} else if before.Role != raft.StateLeader || before.Term != s.Term {
		r.leadFrom = firstOfTerm(rd.Entries, s.Term)
	}
	if s.Leader == before.Leader && (s.Leader == raft.None || s.Term == before.Term) {
		return
	}
	r.emit(&LeaderChanged{Leader: s.Leader, Term: s.Term, Leading: s.Role == raft.StateLeader})
	if r.reads.underWay {
		r.emit(&ReadsDropped{Through: r.reads.end(), Err: ErrLeaderChanged})
	}
}

// firstOfTerm finds the entry that a new leader begins its term with. Raft hands it out together with the news that this
// member leads.
func firstOfTerm(entries []*raftpb.Entry, term uint64) uint64 {
	for _, e := range entries {
		if e.GetTerm() == term {
			return e.GetIndex()
		}
	}
	panic(fmt.Sprintf("replica: leading term %d without an entry of it", term))
}

// committedInTerm reports whether this member leads and has committed an entry of its term.
func (r *Replica) committedInTerm() bool {
	return r.leadFrom > 0 && r.status.Committed >= r.leadFrom || fault.Mutant("read-before-commit-in-term")
}

// advanceReads answers or asks for reads that wait. It reports whether raft was told anything.
func (r *Replica) advanceReads() bool {
	q := &r.reads
	switch {
	case r.status.Lone && r.committedInTerm() && (q.underWay || q.waiting()):
		// Also of a round that began before the other voters went: nobody is left to answer it.
		r.emit(&ReadReady{Through: q.finish(), Index: r.status.Committed})
		return false
	case q.underWay:
		if r.status.Role == raft.StateLeader || q.sinceTicks < r.o.ReadRetryTicks {
			return false // a leader's heartbeats repeat the question
		}
		r.rn.ReadIndex(q.again())
		return true
	case !q.waiting() || r.status.Leader == raft.None:
		return false
	case r.status.Role != raft.StateLeader:
		r.rn.ReadIndex(q.begin())
		return true
	case !r.committedInTerm():
		fault.Sometimes("a leader's reads wait for its term", true)
		return false
	}
	r.rn.ReadIndex(q.begin())
	return true
}

// configure takes over the configuration that raft works with now.
func (r *Replica) configure(cs *raftpb.ConfState) {
	r.status.Lone = isLone(cs, r.o.ID)
	r.status.Learner = isLearner(cs, r.o.ID)
	r.status.Alone = r.status.Lone && len(cs.GetLearners()) == 0
}

// campaignIfLone makes the only voter lead without waiting for an election timeout: there is nobody to wait for. Raft
// refuses while conf changes wait to be applied, so this is tried again after each Apply.
func (r *Replica) campaignIfLone() {
	if r.status.Lone && r.status.Role == raft.StateFollower && r.status.Leader == raft.None {
		r.must(r.rn.Campaign())
	}
}
