package replica_test

import (
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/replica"
)

// baseIndex and baseTerm are where every member's log begins in these tests, as after a bootstrap.
const (
	baseIndex = 1
	baseTerm  = 1
)

// record is one applied entry.
type record struct {
	index, term uint64
	data        string
}

// machine is a state machine that remembers what was applied to it.
type machine struct {
	applied uint64
	records []record // of entries with data
	conf    *raftpb.ConfState
}

func (m machine) clone() machine {
	m.records = m.records[:len(m.records):len(m.records)]
	return m
}

// member is a replica with everything that node would give it: a log that loses in a crash what was not reported
// done, and a state machine that falls back to its last flush.
type member struct {
	id      uint64
	c       *cluster
	r       *replica.Replica // nil: down
	log     *raft.MemoryStorage
	hard    *raftpb.HardState
	state   machine
	flushed machine

	appends  []replica.Effect // *Append and *Install, in order
	applies  []*replica.Apply
	ready    []replica.ReadReady
	dropped  []replica.ProposalDropped
	noReads  []replica.ReadsDropped
	changes  []replica.LeaderChanged
	starts   uint64
	refuse   func(cc *raftpb.ConfState) bool
	options  func(*replica.Options)
	ticket   uint64
	effects  []replica.Effect // of the last step, for transcripts
	snapshot bool             // offers snapshots
	early    []replica.Event  // come before those of the next step
	ids      uint64           // of proposals, for who counts them here
	mine     map[string][]uint64
}

// cluster is a set of members and the messages between them.
type cluster struct {
	t       testing.TB
	members []*member
	network []*raftpb.Message
	// history is what is applied at each index, by whoever applies it first.
	history map[uint64]record
	// states holds the machine as of each index that a snapshot was described at.
	states map[uint64]machine
}

func newCluster(t testing.TB, voters, learners int, options func(*replica.Options)) *cluster {
	c := &cluster{t: t, history: map[uint64]record{}, states: map[uint64]machine{}}
	conf := &raftpb.ConfState{}
	for i := range voters + learners {
		if i < voters {
			conf.Voters = append(conf.Voters, uint64(i+1))
		} else {
			conf.Learners = append(conf.Learners, uint64(i+1))
		}
	}
	for i := range voters + learners {
		c.add(uint64(i+1), conf, options)
	}
	return c
}

// add adds a member that is down.
func (c *cluster) add(id uint64, conf *raftpb.ConfState, options func(*replica.Options)) *member {
	m := &member{id: id, c: c, log: raft.NewMemoryStorage(), options: options, snapshot: true}
	must(c.t, m.log.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: conf, Index: new(uint64(baseIndex)), Term: new(uint64(baseTerm)),
	}}))
	m.state = machine{applied: baseIndex, conf: conf}
	m.flushed = m.state
	c.members = append(c.members, m)
	return m
}

func (c *cluster) member(id uint64) *member {
	for _, m := range c.members {
		if m.id == id {
			return m
		}
	}
	c.t.Fatalf("no member %d", id)
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a member from its disk.
func (m *member) start() {
	m.c.t.Helper()
	m.starts++
	m.ids, m.mine = 0, map[string][]uint64{}
	m.state = m.flushed.clone()
	o := replica.Options{
		ID: m.id, Origin: m.id<<32 | m.starts, Log: m.log, HardState: m.hard, ConfState: m.state.conf,
		Applied: m.state.applied, Snapshot: m.describe,
		Refuses: func(_ *raftpb.Entry, conf *raftpb.ConfState) (bool, error) { return m.refuses(conf), nil },
	}
	if m.options != nil {
		m.options(&o)
	}
	r, err := replica.New(o)
	must(m.c.t, err)
	m.r = r
	m.step()
}

// describe describes the flushed state, as the receiver of a snapshot gets it.
func (m *member) describe() (*raftpb.Snapshot, error) {
	if !m.snapshot {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	i := m.flushed.applied
	term, err := m.log.Term(i)
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	m.c.states[i] = m.flushed.clone()
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: m.flushed.conf, Index: new(i), Term: new(term)}}, nil
}

// crash stops a member. Of what it was told to append, the first written pieces reached the disk without anybody
// knowing.
func (m *member) crash(written int) {
	for _, e := range m.appends[:written] {
		m.write(e)
	}
	m.r, m.appends, m.applies, m.ready, m.noReads = nil, nil, nil, nil, nil
}

// flush makes the state durable, and drops the log's entries up to there but for the last keep.
func (m *member) flush(keep uint64) {
	m.flushed = m.state.clone()
	if i := m.flushed.applied; i > keep {
		if first, _ := m.log.FirstIndex(); i-keep >= first {
			must(m.c.t, m.log.Compact(i-keep))
		}
	}
}

func (m *member) step(events ...replica.Event) {
	m.c.t.Helper()
	events, m.early = append(m.early, events...), nil
	m.note(events)
	m.effects = append(m.effects[:0], m.r.Step(events...)...)
	for _, e := range m.effects {
		switch e := e.(type) {
		case *replica.Append, *replica.Install:
			m.appends = append(m.appends, e)
		case *replica.Apply:
			m.applies = append(m.applies, e)
		case *replica.Send:
			for _, msg := range e.Messages {
				m.checkDurable(msg)
				// What leaves is bytes: the receiver's copy shares nothing.
				m.c.network = append(m.c.network, proto.Clone(msg).(*raftpb.Message))
			}
		case *replica.ReadReady:
			m.ready = append(m.ready, *e)
		case *replica.ReadsDropped:
			m.noReads = append(m.noReads, *e)
		case *replica.ProposalDropped:
			m.dropped = append(m.dropped, *e)
		case *replica.LeaderChanged:
			m.changes = append(m.changes, *e)
		default:
			m.c.t.Fatalf("effect %T", e)
		}
	}
}

// note remembers what is proposed, by what it looks like in an entry.
func (m *member) note(events []replica.Event) {
	for _, ev := range events {
		switch ev := ev.(type) {
		case replica.Propose:
			m.mine[string(ev.Data)] = append(m.mine[string(ev.Data)], ev.ID)
		case replica.ProposeConfChange:
			data, err := proto.Marshal(ev.Change)
			must(m.c.t, err)
			m.mine[string(data)] = append(m.mine[string(data)], ev.ID)
		}
	}
}

// settled is which of the member's own proposals an entry holds.
func (m *member) settled(e *raftpb.Entry) []uint64 {
	ids := m.mine[string(e.GetData())]
	if len(ids) == 0 {
		return nil
	}
	m.mine[string(e.GetData())] = ids[1:]
	return ids[:1]
}

// checkDurable fails if a message promises what is not on the member's disk (G2).
func (m *member) checkDurable(msg *raftpb.Message) {
	m.c.t.Helper()
	fail := func(what string) {
		m.c.t.Helper()
		m.c.t.Fatalf("member %d sends %s\nbut its disk has not got the %s", m.id, raft.DescribeMessage(msg, nil), what)
	}
	term, vote := m.hard.GetTerm(), m.hard.GetVote()
	if m.hard == nil {
		term = baseTerm
	}
	last, _ := m.log.LastIndex()
	lastTerm, _ := m.log.Term(last)
	switch msg.GetType() {
	case raftpb.MsgVote:
		if term < msg.GetTerm() || vote != m.id {
			fail("candidacy")
		}
		if last < msg.GetIndex() || lastTerm < msg.GetLogTerm() {
			fail("log it boasts of")
		}
	case raftpb.MsgPreVote:
		if last < msg.GetIndex() || lastTerm < msg.GetLogTerm() {
			fail("log it boasts of")
		}
	case raftpb.MsgVoteResp:
		if !msg.GetReject() && (term < msg.GetTerm() || term == msg.GetTerm() && vote != msg.GetTo()) {
			fail("vote")
		}
	case raftpb.MsgAppResp:
		if term < msg.GetTerm() {
			fail("term")
		}
		if !msg.GetReject() && last < msg.GetIndex() {
			fail("entries")
		}
	}
}

// write carries out an Append or an Install.
func (m *member) write(e replica.Effect) {
	m.c.t.Helper()
	a, _ := e.(*replica.Append)
	if in, ok := e.(*replica.Install); ok {
		a = in.Append
		i := in.Snapshot.GetMetadata().GetIndex()
		must(m.c.t, m.log.ApplySnapshot(in.Snapshot))
		state, ok := m.c.states[i]
		if !ok {
			m.c.t.Fatalf("member %d installs a snapshot at %d that nobody described", m.id, i)
		}
		if len(m.applies) > 0 {
			m.c.t.Fatalf("member %d installs a snapshot at %d with applies under way", m.id, i)
		}
		m.flushed, m.state = state.clone(), state.clone()
	}
	if a.HardState != nil {
		if !a.Sync {
			m.c.t.Fatalf("member %d: hard state without a sync", m.id)
		}
		m.hard = a.HardState
	}
	if len(a.Entries) > 0 {
		if !a.Sync {
			m.c.t.Fatalf("member %d: entries without a sync", m.id)
		}
		must(m.c.t, m.log.Append(a.Entries))
	}
}

// appendNext carries out the oldest Append or Install and reports it.
func (m *member) appendNext() {
	m.c.t.Helper()
	e := m.appends[0]
	m.appends = m.appends[1:]
	m.write(e)
	switch e := e.(type) {
	case *replica.Append:
		m.step(replica.AppendDone{Append: e})
	case *replica.Install:
		m.step(replica.InstallDone{Install: e})
	}
}

// refuses reports whether the machine refuses a conf change that leads to a configuration.
func (m *member) refuses(conf *raftpb.ConfState) bool {
	return conf == nil || m.refuse != nil && m.refuse(conf)
}

// applyNext carries out the oldest Apply and reports it.
func (m *member) applyNext() {
	m.c.t.Helper()
	a := m.applies[0]
	m.applies = m.applies[1:]
	refused := false
	var settled []uint64
	for i, e := range a.Entries {
		settled = append(settled, m.settled(e)...)
		if e.GetIndex() != m.state.applied+1 {
			m.c.t.Fatalf("member %d applies entry %d after %d", m.id, e.GetIndex(), m.state.applied)
		}
		m.state.applied++
		rec := record{index: e.GetIndex(), term: e.GetTerm(), data: string(e.GetData())}
		if first, ok := m.c.history[rec.index]; ok && first != rec {
			m.c.t.Fatalf("member %d applies %v at an index where %v was applied", m.id, rec, first)
		}
		m.c.history[rec.index] = rec
		if e.GetType() != raftpb.EntryNormal {
			if i != len(a.Entries)-1 {
				m.c.t.Fatalf("member %d: conf change %d inside an Apply", m.id, rec.index)
			}
			refused = m.refuses(a.ConfState)
			if !refused {
				m.state.conf = a.ConfState
			}
		} else if len(e.GetData()) > 0 {
			m.state.records = append(m.state.records, rec)
		}
	}
	m.step(replica.ApplyDone{Apply: a, Refused: refused, Settled: settled})
}

// settleLocally appends and applies until the member has nothing to do.
func (m *member) settleLocally() {
	m.c.t.Helper()
	for len(m.appends)+len(m.applies) > 0 {
		if len(m.appends) > 0 {
			m.appendNext()
		} else {
			m.applyNext()
		}
	}
}

// settle runs everybody and delivers every message until nothing is left to do.
func (c *cluster) settle() {
	c.t.Helper()
	for range 10000 {
		for _, m := range c.members {
			if m.r != nil {
				m.settleLocally()
			}
		}
		if len(c.network) == 0 {
			return
		}
		c.deliver(0)
	}
	c.t.Fatal("the cluster does not come to rest")
}

// deliver delivers one message, if its receiver is up.
func (c *cluster) deliver(i int) {
	c.t.Helper()
	msg := c.network[i]
	c.network = append(c.network[:i:i], c.network[i+1:]...)
	for _, m := range c.members {
		if m.id == msg.GetTo() && m.r != nil {
			m.step(replica.Message{Message: msg})
		}
	}
}

// startAll starts everybody.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, m := range c.members {
		m.start()
	}
}

// elect makes a member campaign, and settles.
func (c *cluster) elect(id uint64) *member {
	c.t.Helper()
	m := c.member(id)
	m.step(replica.Campaign{})
	c.settle()
	if m.r.Status().Role != raft.StateLeader {
		c.t.Fatalf("member %d does not lead: %+v", id, m.r.Status())
	}
	return m
}

// leader is the member that leads the newest term, or nil.
func (c *cluster) leader() *member {
	var l *member
	for _, m := range c.members {
		if m.r == nil || m.r.Status().Role != raft.StateLeader {
			continue
		}
		if l == nil || m.r.Status().Term > l.r.Status().Term {
			l = m
		}
	}
	return l
}

// read asks for a read and returns its ticket.
func (m *member) read() uint64 {
	m.c.t.Helper()
	m.ticket++
	m.step(replica.ReadIndex{Ticket: m.ticket})
	return m.ticket
}

// answered returns the index a ticket was answered with.
func (m *member) answered(ticket uint64) (uint64, bool) {
	for _, r := range m.ready {
		if r.Through >= ticket {
			return r.Index, true
		}
	}
	return 0, false
}

// refused reports whether a ticket was dropped.
func (m *member) refused(ticket uint64) bool {
	return slices.ContainsFunc(m.noReads, func(d replica.ReadsDropped) bool { return d.Through >= ticket })
}

func (m *member) data() (d []string) {
	for _, r := range m.state.records {
		d = append(d, r.data)
	}
	return d
}

func describe(e replica.Effect) string {
	switch e := e.(type) {
	case *replica.Append:
		return "append" + describeWrite(e)
	case *replica.Install:
		return fmt.Sprintf("install %s%s", raft.DescribeSnapshot(e.Snapshot), describeWrite(e.Append))
	case *replica.Apply:
		s := "apply"
		for _, ent := range e.Entries {
			s += "\n    " + raft.DescribeEntry(ent, nil)
		}
		if e.ConfState != nil {
			s += "\n    -> " + raft.DescribeConfState(e.ConfState)
		}
		return s
	case *replica.Send:
		s := "send"
		for _, m := range e.Messages {
			s += "\n    " + raft.DescribeMessage(m, nil)
		}
		return s
	case *replica.ReadReady:
		return fmt.Sprintf("read-ready through=%d index=%d", e.Through, e.Index)
	case *replica.ReadsDropped:
		return fmt.Sprintf("reads-dropped through=%d: %v", e.Through, e.Err)
	case *replica.ProposalDropped:
		return fmt.Sprintf("proposal-dropped id=%d: %v", e.ID, e.Err)
	case *replica.LeaderChanged:
		return fmt.Sprintf("leader-changed leader=%d term=%d leading=%t", e.Leader, e.Term, e.Leading)
	}
	return fmt.Sprintf("%T", e)
}

func describeWrite(a *replica.Append) string {
	s := fmt.Sprintf(" sync=%t", a.Sync)
	if a.HardState != nil {
		s += " " + raft.DescribeHardState(a.HardState)
	}
	for _, e := range a.Entries {
		s += "\n    " + raft.DescribeEntry(e, nil)
	}
	return s
}
