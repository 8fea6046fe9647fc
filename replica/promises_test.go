package replica_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/replica"
)

// G1, known bug D1: a member that is alone commits, and applies, only what is on its disk.
func TestG1LoneMemberAcknowledgesOnlyWhatIsOnItsDisk(t *testing.T) {
	c := newCluster(t, 1, 0, nil)
	m := c.members[0]
	m.start()
	c.settle()
	m.step(replica.Propose{ID: 1, Data: []byte("a")})
	if len(m.appends) != 1 || len(m.applies) != 0 {
		t.Fatalf("a proposal gives %d appends and %d applies, want 1 and 0", len(m.appends), len(m.applies))
	}
	before := m.r.Status().Committed
	for range 30 {
		m.step(replica.Tick{})
	}
	if st := m.r.Status(); st.Committed != before || len(m.applies) != 0 {
		t.Fatalf("committed up to %d (before: %d) without its disk", st.Committed, before)
	}
	m.appendNext()
	if st := m.r.Status(); st.Committed != before+1 || len(m.applies) != 1 {
		t.Fatalf("committed up to %d, %d applies after the append", st.Committed, len(m.applies))
	}
}

// G1: a leader with a stalled disk is not part of the quorum for what it has not written.
func TestG1LeaderCountsItselfAfterItsOwnSync(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l := c.elect(1)
	l.step(replica.Propose{ID: 1, Data: []byte("a")})
	before := l.r.Status().Committed
	c.deliver(0) // to one follower
	c.member(2).settleLocally()
	c.member(3).crash(0)
	for len(c.network) > 0 {
		c.deliver(0)
	}
	if got := l.r.Status().Committed; got != before {
		t.Fatalf("committed up to %d with one disk of three", got)
	}
	l.appendNext()
	if got := l.r.Status().Committed; got != before+1 {
		t.Fatalf("committed up to %d with two disks of three, want %d", got, before+1)
	}
}

// G2: votes, requests for votes and acknowledgements wait for the disk. cluster.step checks every message that leaves;
// here are the cases one by one.
func TestG2MessagesWaitForTheDisk(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	m := c.member(1)
	m.step(replica.Campaign{})
	if len(c.network) != 0 {
		t.Fatalf("a request for votes has left before the disk: %v", c.network)
	}
	c.settle()
	f := c.member(2)
	m.step(replica.Propose{ID: 1, Data: []byte("a")})
	for len(c.network) > 0 {
		c.deliver(0)
	}
	if len(c.network) != 0 || len(f.appends) != 1 {
		t.Fatalf("%d messages, %d appends, want 0 and 1", len(c.network), len(f.appends))
	}
	f.appendNext()
	if len(c.network) != 1 || c.network[0].GetType() != raftpb.MsgAppResp {
		t.Fatalf("after the append: %v", c.network)
	}
}

// G2: appends are reported in the order they were handed out, or the replica refuses to go on.
func TestAppendsAndAppliesAreReportedInOrder(t *testing.T) {
	c := newCluster(t, 1, 0, func(o *replica.Options) { o.ApplyBytesMax = 1 << 10 })
	m := c.members[0]
	m.start()
	c.settle()
	for i := range 2 {
		m.step(replica.Propose{ID: uint64(i), Data: []byte("a")})
	}
	m.appends[0], m.appends[1] = m.appends[1], m.appends[0]
	expectPanic(t, "reported done after", func() { m.step(replica.AppendDone{Append: m.appends[0].(*replica.Append)}) })

	c = newCluster(t, 1, 0, nil)
	m = c.members[0]
	m.start()
	c.settle()
	for i := range 2 {
		m.step(replica.Propose{ID: uint64(i), Data: []byte("a")})
		for len(m.appends) > 0 {
			m.appendNext()
		}
	}
	expectPanic(t, "reported done after", func() { m.step(replica.ApplyDone{Apply: m.applies[1]}) })
}

func expectPanic(t *testing.T, with string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), with) {
			t.Fatalf("panic %v, want one with %q", r, with)
		}
	}()
	f()
}

// G8, known bugs R3 and R4: after a restart nothing is answered before the member has committed in its new term. What was
// acknowledged before the crash is beyond the commit index on disk.
func TestG8LoneReadAfterRestartWaitsForTheTerm(t *testing.T) {
	c := newCluster(t, 1, 0, nil)
	m := c.members[0]
	m.start()
	c.settle()
	m.step(replica.Propose{ID: 1, Data: []byte("acknowledged")})
	c.settle()
	acknowledged := m.state.applied
	m.crash(0)
	m.start()
	if got := m.r.Status().Committed; got >= acknowledged {
		t.Fatalf("the disk knows of commit index %d: the test is void", got)
	}
	ticket := m.read()
	for len(m.appends) > 0 {
		if i, ok := m.answered(ticket); ok && i < acknowledged {
			t.Fatalf("may read at %d, but %d was acknowledged", i, acknowledged)
		}
		m.appendNext()
	}
	if i, ok := m.answered(ticket); !ok || i < acknowledged {
		t.Fatalf("answered %t at %d, want at least %d", ok, i, acknowledged)
	}
}

// G8: the same for a read that a learner asks of a leader who is the only voter.
func TestG8LearnersReadWaitsForTheTermOfALoneLeader(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	c.startAll()
	c.settle()
	l, learner := c.member(1), c.member(2)
	l.step(replica.Tick{})
	c.settle()
	l.step(replica.Propose{ID: 1, Data: []byte("acknowledged")})
	l.settleLocally()
	acknowledged := l.state.applied
	c.network = nil
	l.crash(0)
	l.start()
	for l.r.Status().Role != raft.StateLeader {
		l.appendNext()
	}
	for len(c.network) > 0 { // the learner hears of the new term
		c.deliver(0)
	}
	if st := learner.r.Status(); st.Leader != 1 || st.Term != l.r.Status().Term || len(l.appends) == 0 {
		t.Fatalf("the test is void: %+v", st)
	}
	ticket := learner.read()
	if len(c.network) == 0 || c.network[0].GetType() != raftpb.MsgReadIndex {
		t.Fatalf("the learner does not ask: %v", c.network)
	}
	for len(c.network) > 0 {
		c.deliver(0)
	}
	if i, ok := learner.answered(ticket); ok {
		t.Fatalf("the learner may read at %d, before the leader has committed in its term", i)
	}
	for range 10 {
		c.settle()
		l.step(replica.Tick{})
		learner.step(replica.Tick{})
	}
	if i, ok := learner.answered(ticket); !ok || i < acknowledged {
		t.Fatalf("answered %t at %d, want at least %d", ok, i, acknowledged)
	}
}

// G8, known bug R1: every attempt has a context of its own, across retries, rounds and restarts.
func TestG8EveryAttemptHasItsOwnContext(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	c.elect(1)
	f := c.member(2)
	seen := map[string]bool{}
	for run := range 3 {
		for range 20 {
			f.read()
			for range 6 {
				f.step(replica.Tick{})
			}
			for _, m := range c.network {
				if m.GetType() != raftpb.MsgReadIndex {
					continue
				}
				context := string(m.GetEntries()[0].GetData())
				if seen[context] {
					t.Fatalf("run %d: context %q is used again", run, context)
				}
				seen[context] = true
			}
			c.network = nil
			c.member(1).step(replica.Tick{})
			c.settle()
		}
		f.crash(0)
		f.start()
		c.member(1).step(replica.Tick{})
		c.settle()
	}
	if len(seen) < 20 {
		t.Fatalf("only %d attempts seen", len(seen))
	}
}

// G8, known bug R1: the answer to an attempt of an earlier run is not taken for ours.
func TestG8AnswerOfAnEarlierRunIsIgnored(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l := c.elect(1)
	f := c.member(2)
	f.read()
	c.settle2(t, raftpb.MsgReadIndexResp)
	stale := c.network[len(c.network)-1]
	c.network = c.network[:len(c.network)-1]
	f.crash(len(f.appends))
	l.step(replica.Propose{ID: 1, Data: []byte("acknowledged")})
	c.settle()
	f.start()
	l.step(replica.Tick{})
	c.settle()
	ticket := f.read()
	c.network = append(c.network, stale)
	c.deliver(len(c.network) - 1)
	if i, ok := f.answered(ticket); ok && i < l.state.applied {
		t.Fatalf("an answer from before the restart lets it read at %d, but %d was acknowledged", i, l.state.applied)
	}
	c.settle()
	if i, ok := f.answered(ticket); !ok || i < l.state.applied {
		t.Fatalf("answered %t at %d, want at least %d", ok, i, l.state.applied)
	}
}

// settle2 settles until a message of a type is the newest one on the network.
func (c *cluster) settle2(t *testing.T, typ raftpb.MessageType) {
	t.Helper()
	for range 100 {
		for _, m := range c.members {
			m.settleLocally()
		}
		if n := len(c.network); n > 0 && c.network[n-1].GetType() == typ {
			return
		}
		if len(c.network) == 0 {
			break
		}
		c.deliver(0)
	}
	t.Fatalf("no %v", typ)
}

// G8, known bug R2: an answer that comes together with the news of another leader is dropped.
func TestG8AnswerIsDroppedIfTheLeaderChanged(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	c.elect(1)
	f := c.member(2)
	ticket := f.read()
	c.settle2(t, raftpb.MsgReadIndexResp)
	answer := c.network[len(c.network)-1]
	c.network = nil
	term := f.r.Status().Term + 1
	f.step(replica.Message{Message: answer}, replica.Message{Message: &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(term),
	}})
	if i, ok := f.answered(ticket); ok {
		t.Fatalf("answered at %d although another leader is known", i)
	}
	if len(f.noReads) != 1 || f.noReads[0].Through != ticket || !errors.Is(f.noReads[0].Err, replica.ErrLeaderChanged) {
		t.Fatalf("dropped reads: %v", f.noReads)
	}
}

// G8: one round answers everything that waited when it began, and nothing that came later.
func TestG8RoundsAreShared(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l := c.elect(1)
	first := l.read()
	rest := first
	sent := len(c.network)
	for range 50 {
		rest = l.read()
	}
	if len(c.network) != sent {
		t.Fatalf("%d messages for reads during a round", len(c.network)-sent)
	}
	c.settle()
	if len(l.ready) != 2 || l.ready[0].Through != first || l.ready[1].Through != rest {
		t.Fatalf("answers %v, want through %d, then through %d", l.ready, first, rest)
	}
}

// G22: what is not for this member, or pretends to come from it, is not looked at.
func TestG22ForeignMessagesAreIgnored(t *testing.T) {
	for _, msg := range []*raftpb.Message{
		{To: new(uint64(9)), From: new(uint64(2)), Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(50))},
		{To: new(uint64(1)), From: new(uint64(1)), Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(50))},
		{To: new(uint64(1)), From: new(uint64(0)), Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(50))},
		{To: new(uint64(1)), From: new(uint64(raft.LocalAppendThread)), Type: raftpb.MsgStorageAppendResp.Enum(), Term: new(uint64(50))},
		{To: new(uint64(1)), From: new(uint64(2)), Type: raftpb.MsgHup.Enum()},
		{To: new(uint64(1)), From: new(uint64(77)), Type: raftpb.MsgAppResp.Enum(), Term: new(uint64(2))},
	} {
		c := newCluster(t, 3, 0, nil)
		c.startAll()
		c.elect(1)
		m := c.members[0]
		before := m.r.Status()
		m.step(replica.Message{Message: msg})
		if after := m.r.Status(); after != before || len(m.effects) != 0 {
			t.Errorf("%v: %+v\nbecame %+v", msg, before, after)
		}
	}
}

// G24: a member that was cut off does not disturb the others when it comes back: it asks first, without a new term.
func TestG24ReturningMemberDoesNotDisturb(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l := c.elect(1)
	term := l.r.Status().Term
	lost := c.member(3)
	for range 100 {
		lost.step(replica.Tick{})
		lost.settleLocally()
		c.network = nil
	}
	l.step(replica.Tick{})
	c.settle()
	if st := l.r.Status(); st.Role != raft.StateLeader || st.Term != term {
		t.Fatalf("the leader of term %d was disturbed: %+v", term, st)
	}
	if st := lost.r.Status(); st.Leader != 1 || st.Term != term {
		t.Fatalf("the returning member: %+v", st)
	}
}

// A conf change that waits to be applied when a later snapshot is accepted must not touch the snapshot's configuration.
func TestConfChangeBehindAnAcceptedSnapshot(t *testing.T) {
	t.Run("one step", func(t *testing.T) { testConfChangeBehindAnAcceptedSnapshot(t, true) })
	t.Run("two steps", func(t *testing.T) { testConfChangeBehindAnAcceptedSnapshot(t, false) })
}

func testConfChangeBehindAnAcceptedSnapshot(t *testing.T, together bool) {
	c := newCluster(t, 3, 0, nil)
	m := c.member(2)
	m.start()
	after := &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
	add := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(4))}
	typ, data, err := raftpb.MarshalConfChange(add)
	must(t, err)
	from, to, term := new(uint64(1)), new(uint64(2)), new(uint64(2))
	m.step(replica.Message{Message: &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: from, To: to, Term: term, Index: new(uint64(1)), LogTerm: new(uint64(1)), Commit: new(uint64(2)),
		Entries: []*raftpb.Entry{{Type: typ.Enum(), Index: new(uint64(2)), Term: term, Data: data}},
	}})
	m.appendNext()
	if len(m.applies) != 1 || m.applies[0].ConfState == nil {
		t.Fatalf("applies %v, want the conf change", m.applies)
	}
	// Member 4 was removed again before the snapshot was taken.
	c.states[9] = machine{applied: 9, conf: after}
	snapshot := replica.Message{Message: &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: from, To: to, Term: term,
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: after, Index: new(uint64(9)), Term: term}},
	}}
	if together {
		m.early = append(m.early, snapshot)
	} else {
		m.step(snapshot)
	}
	if len(m.appends) != 0 {
		t.Fatal("the snapshot is handed out before the conf change is applied")
	}
	m.applyNext()
	m.appendNext()
	// With the configuration of the snapshot, one vote besides its own makes a leader.
	c.network = nil
	m.step(replica.Campaign{})
	m.settleLocally()
	for _, msg := range c.network {
		if msg.GetTo() == 4 {
			t.Fatalf("asks a removed member for its vote: %v", msg)
		}
	}
	if len(c.network) != 2 {
		t.Fatalf("campaign: %v", c.network)
	}
}

// Several conf changes in one stretch of entries are applied one at a time, each on top of the one before.
func TestConfChangesAreAppliedOneByOne(t *testing.T) {
	c := newCluster(t, 1, 0, nil)
	m := c.members[0]
	m.start()
	c.settle()
	for id := uint64(2); id <= 4; id++ {
		m.step(replica.ProposeConfChange{ID: id, Change: &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{
			{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(id)},
		}}})
		m.settleLocally()
	}
	if got := m.state.conf.GetLearners(); fmt.Sprint(got) != "[2 3 4]" {
		t.Fatalf("learners %v", got)
	}
	// After a restart all three wait to be applied: they come in three pieces, and no campaign before the last.
	m.crash(0)
	m.start()
	pieces := 0
	for len(m.applies)+len(m.appends) > 0 {
		if len(m.applies) > 1 {
			t.Fatalf("%d applies at once", len(m.applies))
		}
		if len(m.applies) == 1 {
			pieces++
			m.applyNext()
		} else {
			m.appendNext()
		}
	}
	if st := m.r.Status(); st.Role != raft.StateLeader || !st.Lone {
		t.Fatalf("%+v", st)
	}
	if got := m.state.conf.GetLearners(); fmt.Sprint(got) != "[2 3 4]" || pieces < 3 {
		t.Fatalf("learners %v after %d applies", got, pieces)
	}
}

// A conf change in the log that makes no sense is refused by all, and harms nobody.
func TestImpossibleConfChangesAreRefused(t *testing.T) {
	_, removal, err := raftpb.MarshalConfChange(&raftpb.ConfChange{
		Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: new(uint64(2)),
	})
	must(t, err)
	for name, e := range map[string]*raftpb.Entry{
		"not a message":         {Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff, 0xff}},
		"not a message, either": {Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{0xff, 0xff}},
		"nothing to leave":      {Type: raftpb.EntryConfChangeV2.Enum()},
		"removes the last one":  {Type: raftpb.EntryConfChange.Enum(), Data: removal},
	} {
		e.Index, e.Term = new(uint64(2)), new(uint64(2))
		c := newCluster(t, 1, 0, nil)
		m := c.members[0] // never told: it follows a member of another configuration
		m.flushed.conf = &raftpb.ConfState{Voters: []uint64{2}}
		m.state = m.flushed
		m.start()
		m.step(replica.Message{Message: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2)),
			Index: new(uint64(1)), LogTerm: new(uint64(1)), Commit: new(uint64(2)),
			Entries: []*raftpb.Entry{e},
		}})
		m.appendNext()
		if len(m.applies) != 1 || m.applies[0].ConfState != nil {
			t.Fatalf("%s: applies %v", name, m.applies)
		}
		m.applyNext()
		if st := m.r.Status(); st.Applied != 2 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// A leader takes no more than its limit of proposals that are not applied, and more again when they are.
func TestTooManyUncommittedProposalsAreDropped(t *testing.T) {
	c := newCluster(t, 1, 0, func(o *replica.Options) { o.UncommittedBytesMax = 100 })
	m := c.members[0]
	m.start()
	c.settle()
	for i := range 5 {
		m.step(replica.Propose{ID: uint64(i), Data: make([]byte, 40)})
	}
	if len(m.dropped) != 3 || m.dropped[0].ID != 2 || !errors.Is(m.dropped[0].Err, replica.ErrBusy) {
		t.Fatalf("dropped %v, want the last three of five", m.dropped)
	}
	c.settle()
	m.dropped = nil
	m.step(replica.Propose{ID: 9, Data: make([]byte, 40)})
	if len(m.dropped) != 0 {
		t.Fatalf("dropped %v although everything is applied", m.dropped)
	}
}

// A commit index alone causes no write.
func TestCommitIndexTravelsWithTheNextAppend(t *testing.T) {
	c := newCluster(t, 1, 0, nil)
	m := c.members[0]
	m.start()
	c.settle()
	for range 3 {
		m.step(replica.Propose{ID: 1, Data: []byte("a")})
		c := m.r.Status().Committed
		if a := m.appends[0].(*replica.Append); len(m.appends) != 1 || !a.Sync || a.HardState.GetCommit() != c {
			t.Fatalf("append %+v with commit index %d known", a, c)
		}
		m.appendNext()
		if len(m.appends) != 0 {
			t.Fatalf("a write for a commit index alone: %v", m.appends)
		}
		m.settleLocally()
	}
}

// What does not fit together is refused at the start (G6).
func TestNewRefuses(t *testing.T) {
	conf := &raftpb.ConfState{Voters: []uint64{1}}
	log := func() *raft.MemoryStorage { // entries 11 and 12 of term 3
		s := raft.NewMemoryStorage()
		must(t, s.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			ConfState: conf, Index: new(uint64(10)), Term: new(uint64(2)),
		}}))
		must(t, s.Append([]*raftpb.Entry{
			{Index: new(uint64(11)), Term: new(uint64(3))}, {Index: new(uint64(12)), Term: new(uint64(3))},
		}))
		return s
	}
	hard := func(term, commit uint64) *raftpb.HardState {
		return &raftpb.HardState{Term: new(term), Vote: new(uint64(0)), Commit: new(commit)}
	}
	good := replica.Options{ID: 1, Log: log(), HardState: hard(3, 11), ConfState: conf, Applied: 10}
	if _, err := replica.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(o *replica.Options){
		"no id":                     func(o *replica.Options) { o.ID = 0 },
		"id of a local thread":      func(o *replica.Options) { o.ID = raft.LocalApplyThread },
		"heartbeat after election":  func(o *replica.Options) { o.HeartbeatTicks = 20 },
		"negative retry":            func(o *replica.Options) { o.ReadRetryTicks = -1 },
		"no log":                    func(o *replica.Options) { o.Log = nil },
		"no configuration":          func(o *replica.Options) { o.ConfState = nil },
		"applied before the log":    func(o *replica.Options) { o.Applied = 9 },
		"applied behind the log":    func(o *replica.Options) { o.Applied = 13 },
		"committed behind the log":  func(o *replica.Options) { o.HardState = hard(3, 13) },
		"term older than the log's": func(o *replica.Options) { o.HardState = hard(2, 11) },
		"unreadable log":            func(o *replica.Options) { o.Log = brokenLog{log()} },
		"unreadable tail":           func(o *replica.Options) { o.Log = brokenEntries{log(), 12} },
		"unreadable entries":        func(o *replica.Options) { o.Log = brokenEntries{log(), 11} }, // which a lone voter looks into
	} {
		o := good
		change(&o)
		if _, err := replica.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ahead := good
	ahead.Applied = 12 // the state is ahead of the commit index that reached the disk
	r, err := replica.New(ahead)
	if err != nil || r.Status().Committed != 12 {
		t.Errorf("applied ahead of the hard state: %v", err)
	}
}

// brokenLog fails to read what is not in memory.
type brokenLog struct{ *raft.MemoryStorage }

var errDisk = errors.New("disk error")

func (brokenLog) Term(uint64) (uint64, error) { return 0, errDisk }

// F1: a log that can't be read stops the member.
func TestUnreadableLogPanics(t *testing.T) {
	c := newCluster(t, 3, 0, func(o *replica.Options) { o.Log = brokenEntries{o.Log.(*raft.MemoryStorage), math.MaxUint64} })
	c.startAll()
	c.member(1).step(replica.Campaign{})
	expectPanic(t, errDisk.Error(), func() {
		for range 20 {
			c.settle()
		}
	})
}

// brokenEntries fails to read entries up to one.
type brokenEntries struct {
	*raft.MemoryStorage
	broken uint64
}

func (b brokenEntries) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= b.broken {
		return nil, errDisk
	}
	return b.MemoryStorage.Entries(lo, hi, maxSize)
}

// G23, known bug D11: a member whose log is an old copy ends when the leader counts with what it has acknowledged, with words
// that say so, and has not answered meanwhile to anything but that.
func TestG23OldCopyOfTheLogIsNoticed(t *testing.T) {
	c := newCluster(t, 3, 0, nil)
	c.startAll()
	l := c.elect(1)
	l.step(replica.Propose{ID: 1, Data: []byte("a")})
	c.settle()
	m := c.member(2)
	old, oldHard := must2(m.log.LastIndex()), proto.Clone(m.hard).(*raftpb.HardState)
	entries := must2(m.log.Entries(baseIndex+1, old+1, 1<<20))
	for id := range uint64(3) {
		l.step(replica.Propose{ID: id + 2, Data: []byte("b")})
		c.settle()
	}
	m.crash(0)
	m.log, m.hard = raft.NewMemoryStorage(), oldHard
	must(t, m.log.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: m.flushed.conf, Index: new(uint64(baseIndex)), Term: new(uint64(baseTerm)),
	}}))
	must(t, m.log.Append(entries))
	m.start()
	defer func() {
		e, ok := recover().(*replica.RolledBackError)
		if !ok || e.Member != 2 || e.Leader != 1 || e.Last != old || e.Acknowledged <= old {
			t.Errorf("ended with %v", e)
		}
	}()
	for range 3 {
		l.step(replica.Tick{})
		c.settle()
	}
	t.Error("it goes on")
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
