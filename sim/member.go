package sim

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/leader"
	"keelson/raftlog"
	"keelson/replica"
	"keelson/server/datadir"
	"keelson/state"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
	"keelson/watch"
)

const (
	dataDir   = "/data"
	memberDir = "/data/member" // and, while it is founded, member.new
	logDir    = "/data/member/wal"
	storeDir  = "/data/member/state" // and, when it came as a snapshot, state-1, ...

	incomingDir = "/data/member/incoming" // snapshots being received

	tickInterval    = 100 * time.Millisecond
	electionTimeout = 10 * tickInterval
	requestTimeout  = 7 * time.Second
)

func inLog(name string) bool { return strings.HasPrefix(name, logDir) }

// inStore tells files that Pebble handles beside whatever else is going on.
func inStore(name string) bool {
	return strings.HasPrefix(name, storeDir) || strings.HasPrefix(name, "/data/member.new/state")
}

// member is one run of a member: from the start of its process to its end. It is what package node is in production,
// with the moves carried out one at a time, whenever the world says so.
type member struct {
	w    *world
	host *host
	run  int
	disk *disk

	dir     *datadir.Dir
	machine *state.Machine
	log     *raftlog.Log
	replica *replica.Replica
	lessor  *leader.Lessor
	hub     *watch.Hub
	tasks   []func() // of the hub, to be carried out

	appends   []replica.Effect         // Appends and Installs handed out, not begun
	reported  map[*replica.Append]bool // of those: by a deliberate bug, reported done already
	applies   []*replica.Apply
	appending bool // an append is scheduled or under way
	applying  bool
	lastTold  time.Duration // when the last completion reaches the replica

	proposals map[uint64]time.Duration // batches that clients wait for, by sequence, and since when
	sequence  uint64                   // of the last batch
	reads     []*read
	ticket    uint64 // of the last read
	views     []heldView
	unflushed int           // bytes applied since the last flush, about
	seen      mvcc.Revision // the newest revision published so far
	leading   uint64        // the term this member leads in; 0: none
	leader    uint64        // who leads, as far as it knows; 0: nobody
	confirm   bool          // it is asking whether it still leads
	inherited inheritance   // the leases that it leads with from its election on
	leaving   bool          // it knows that it was removed
	running   bool          // its start is over
	opening   bool          // its store is being opened
	damaged   bool          // and was found to be damaged

	states
}

// start starts the member from what its disk holds, the way a process does.
func (m *member) start() error {
	steps := []func() error{m.openDir, m.found, m.openAll, m.openReplica}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
		if m.disk.crashed() {
			return nil
		}
	}
	return nil
}

func (m *member) openDir() (err error) {
	m.dir, err = datadir.Open(m.disk, dataDir)
	return err
}

func (m *member) openDB(dir string, mustExist bool) (*storage.DB, error) {
	return storage.Open(storage.Options{
		FS: m.disk, Dir: dir, MustExist: mustExist, CacheBytes: 1 << 20, MemtableBytes: 32 << 20, Manual: true,
		Fatal: m.disk.giveUp, Damaged: m.noteDamage, // on whatever goroutine
	})
}

// found writes the first files of a member without data.
func (m *member) found() error {
	if !m.dir.Fresh {
		return nil
	}
	if m.host.born {
		m.w.violate("all files of %v are gone", m)
	}
	db, err := m.openDB(m.dir.State(), false)
	if err != nil {
		return err
	}
	if err := errors.Join(m.bootstrap(db), db.Close()); err != nil {
		return err
	}
	l, err := raftlog.Create(m.logOptions(), raftlog.Position(m.host.beginning()))
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	return m.dir.Commit(datadir.Identity{ClusterID: clusterID, MemberID: m.host.id})
}

func (m *member) openStore(dir string) error {
	db, err := m.openDB(dir, true)
	if err != nil {
		return err
	}
	if m.machine, err = state.Open(db, state.Options{NewestCacheBytes: m.w.cacheBytes}); err != nil {
		m.machine = nil
		return errors.Join(fmt.Errorf("%w: %s: %w", storage.ErrDamaged, dir, err), db.Close())
	}
	return nil
}

// bootstrap makes the state of a new cluster, or of a member that waits to be given one.
func (m *member) bootstrap(db *storage.DB) error {
	if m.host.joins {
		if err := state.BootstrapEmpty(db, clusterID); err != nil {
			return err
		}
		return db.Flush()
	}
	id := state.Identity{ClusterID: clusterID}
	cs := &raftpb.ConfState{}
	for i, founder := range memberIDs[:m.w.o.Members] {
		cs.Voters = append(cs.Voters, founder)
		id.Members = append(id.Members, members.Member{
			ID: founder, Name: fmt.Sprint(i), PeerURLs: []string{m.w.hosts[i].url(0)},
		})
	}
	slices.Sort(cs.Voters)
	var err error
	id.ConfState, err = proto.MarshalOptions{Deterministic: true}.Marshal(cs)
	if err != nil {
		return err
	}
	if err := state.Bootstrap(db, id); err != nil {
		return err
	}
	return db.Flush()
}

func (m *member) logOptions() raftlog.Options {
	return raftlog.Options{
		FS: m.disk, Dir: m.dir.Wal(), ClusterID: clusterID, MemberID: m.host.id,
		SegmentBytes: m.w.segmentBytes, TailBytes: m.w.tailBytes,
	}
}

func (m *member) openLog() error {
	durable, err := m.machine.DurableApplied()
	if err != nil {
		return err
	}
	at := raftlog.Position(durable)
	open := raftlog.Open
	if _, ok := m.dir.Installed(); ok {
		m.w.reach("a crash came between a state and its log", true)
		open = raftlog.OpenInstalled
	}
	l, rec, err := open(m.logOptions(), at)
	if err != nil && m.w.bug("cut-at-first-bad-checksum") {
		l, err = m.cutAndOpen(err, at)
	}
	if err != nil {
		return err
	}
	m.log = l
	m.w.reach("an unfinished append was cut off", rec.Cut != nil)
	m.w.reach("a log was begun anew by a start", rec.Replaced)
	return m.dir.Settle()
}

// cutAndOpen is the bug of a log that takes every damage for the end of the log.
func (m *member) cutAndOpen(err error, at raftlog.Position) (*raftlog.Log, error) {
	for range 100 {
		var damage *raftlog.CorruptError
		if !errors.As(err, &damage) {
			return nil, err
		}
		m.disk.zero(damage.File, damage.Offset)
		var l *raftlog.Log
		if l, _, err = raftlog.Open(m.logOptions(), at); err == nil {
			return l, nil
		}
	}
	return nil, err
}

func (m *member) openReplica() (err error) {
	extension := electionTimeout
	if m.w.bug("no-extension") {
		extension = 0
	}
	m.lessor = leader.NewLessor(leader.LessorOptions{
		Extension: extension, StallMax: electionTimeout, CheckpointInterval: m.w.checkpoints,
	})
	m.replica, err = replica.New(replica.Options{
		ID: m.host.id, Origin: m.w.rng.Uint64(), Log: m.log, HardState: m.log.HardState(), ConfState: m.configuration(),
		Applied: m.appliedAtStart(), Refuses: m.machine.Refuses, Snapshot: m.describe,
		MessageBytesMax: m.w.messageBytes, ApplyBytesMax: m.w.applyBytes, UncommittedBytesMax: m.w.uncommittedBytes,
	})
	if err == nil {
		m.openHub()
	}
	return err
}

// configuration is raft's, as the machine has it.
func (m *member) configuration() *raftpb.ConfState {
	view := m.machine.View()
	defer view.Close()
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(view.Members().ConfState(), conf); err != nil {
		m.w.violate("configuration: %v", err)
	}
	if m.w.bug("forget-configuration") && !m.host.joins {
		return &raftpb.ConfState{Voters: slices.Clone(memberIDs[:m.w.o.Members])}
	}
	return conf
}

// appliedAtStart is what the replica is told has been applied.
func (m *member) appliedAtStart() uint64 {
	at := m.machine.Applied().Index
	if m.w.bug("applied-index-apart") {
		// The bug of an index that is written when it pleases, not with what it stands for.
		last, _ := m.log.LastIndex()
		at = max(at, min(m.host.applied, last))
	}
	return at
}

// close puts away what is left of a run. After a crash nothing of it reaches the disk that is looked at.
func (m *member) close() {
	for _, v := range m.views {
		v.view.Close()
	}
	m.views = nil
	m.closeHub()
	if m.log != nil {
		_ = m.log.Close()
	}
	m.closeRetired()
	if m.machine != nil {
		_ = m.machine.Close()
	}
}

// step gives the replica events and queues what it wants.
func (m *member) step(events ...replica.Event) {
	effects, ok := m.stepReplica(events)
	if !ok {
		return
	}
	if m.replica.Status().Transfer != 0 && !m.w.bug("renew-while-transferring") {
		m.lessor.Transferring(m.host.clock())
	}
	for _, e := range effects {
		switch e := e.(type) {
		case *replica.Append:
			m.appends = append(m.appends, e)
			m.reportEarly(e)
			m.mayStall(e)
		case *replica.Install:
			m.appends = append(m.appends, e)
		case *replica.Apply:
			m.applies = append(m.applies, e)
		case *replica.Send:
			for _, msg := range e.Messages {
				m.send(msg)
			}
		case *replica.ReadReady:
			m.readsReady(e.Through, e.Index)
		case *replica.ReadsDropped:
			m.readsDropped(e.Through)
		case *replica.ProposalDropped:
			m.w.dropped(m, e)
			delete(m.proposals, e.ID)
			m.w.reach("a proposal was dropped", true)
		case *replica.LeaderChanged:
			m.leaderChanged(e)
		default:
			m.w.violate("%v wants %T", m, e)
		}
	}
	m.schedule()
	m.serveReads()
}

// mayStall lets the disk stand still when nothing but a vote or a commit index is to be written: others must not know before.
func (m *member) mayStall(a *replica.Append) {
	w := m.w
	if !a.Sync || len(a.Entries) > 0 || w.faults.stall == 0 || w.rng.IntN(4) > 0 {
		return
	}
	w.inject("stalled disk of the log")
	m.host.stalledUntil = w.now + time.Duration(w.rng.Int64N(int64(electionTimeout)))
}

// stepReplica steps the replica; ok is false if the log could not be read: then the process has to end.
func (m *member) stepReplica(events []replica.Event) (effects []replica.Effect, ok bool) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			panic(r)
		case error:
			m.host.diskFailed(r)
		default:
			panic(r)
		}
	}()
	return m.replica.Step(events...), true
}

func (m *member) send(msg *raftpb.Message) {
	m.w.checkSent(m, msg)
	if m.w.bug("commit-by-counting") && m.leading != 0 {
		msg = m.commitByCounting(msg)
	}
	if msg.GetType() == raftpb.MsgSnap {
		m.sendState(msg)
		return
	}
	m.w.network.send(m, msg)
}

func (m *member) leaderChanged(e *replica.LeaderChanged) {
	m.leader, m.leading = e.Leader, 0
	if e.Leading {
		m.leading = e.Term
		m.w.checkElected(m)
	}
	if m.lessor.Leading() != m.leading && (m.leading != 0 || !m.w.bug("former-leader-expires")) {
		m.lessor.Demote()
	}
}

// schedule puts the next append and the next apply into the world's calendar.
func (m *member) schedule() {
	if !m.appending && len(m.appends) > 0 {
		m.appending = true
		m.w.at(max(m.w.now+m.host.delay(), m.host.stalledUntil), "append", m, m.append)
	}
	if !m.applying && len(m.applies) > 0 {
		m.applying = true
		m.w.at(max(m.w.now+m.host.delay(), m.host.busyUntil), "apply", m, m.apply)
	}
}

// tell lets the replica know, after a while, that something is done. What was told first arrives first.
func (m *member) tell(what string, events ...replica.Event) {
	m.lastTold = max(m.lastTold, m.w.now) + m.host.delay()
	m.w.at(m.lastTold, what, m, func() { m.step(events...) })
}

// append is the append move: one or more Appends under one sync, or an Install.
func (m *member) append() {
	if in, ok := m.appends[0].(*replica.Install); ok {
		m.appends = m.appends[1:]
		m.appending = false
		m.install(in)
		return
	}
	n := slices.IndexFunc(m.appends, func(e replica.Effect) bool { _, ok := e.(*replica.Install); return ok })
	if n < 0 {
		n = len(m.appends)
	}
	n = 1 + m.w.rng.IntN(n)
	var batches []raftlog.Batch
	var done []replica.Event
	for _, e := range m.appends[:n] {
		a := e.(*replica.Append)
		batches = append(batches, m.batch(a))
		if !m.reported[a] {
			done = append(done, replica.AppendDone{Append: a})
		}
	}
	m.appends = m.appends[n:]
	m.w.reach("several appends under one sync", n > 1)
	m.w.reach("an append while an apply is under way", m.applying)
	m.appending = false
	ledger := &m.host.ledger
	ledger.writing = batches
	if err := m.log.Append(batches...); err != nil {
		m.host.diskFailed(err)
		return
	}
	if m.disk.crashed() {
		return
	}
	m.w.checkAppended(m, batches)
	ledger.written(batches)
	m.tell("append done", done...)
	m.schedule()
}

func (m *member) batch(a *replica.Append) raftlog.Batch {
	b := raftlog.Batch{HardState: a.HardState, Entries: a.Entries, MustSync: a.Sync}
	if m.w.bug("keep-conflicting-tail") {
		last, _ := m.log.LastIndex()
		for len(b.Entries) > 1 && b.Entries[0].GetIndex() <= last { // one stays, or the replica would miss its entries
			b.Entries = b.Entries[1:]
		}
	}
	return b
}

// apply is the apply move: some Applies, in one or several runs of the machine.
func (m *member) apply() {
	n := 1 + m.w.rng.IntN(len(m.applies))
	var entries []state.Entry
	var done []replica.ApplyDone
	for _, a := range m.applies[:n] {
		from := len(entries)
		entries = state.AppendEntries(entries, a.Entries, a.ConfState)
		var settled []uint64
		for _, e := range entries[from:] {
			if id := batchID(e.Data); id.Origin == uint64(m.run) {
				settled = append(settled, id.Sequence)
			}
		}
		done = append(done, replica.ApplyDone{Apply: a, Settled: settled})
	}
	m.applies = m.applies[n:]
	m.applying = false
	m.w.reach("several applies at once", n > 1)
	members := false
	for len(entries) > 0 {
		k := 1 + m.w.rng.IntN(len(entries))
		out, err := m.machine.Apply(entries[:k])
		if err != nil {
			m.w.violate("apply: %v", err)
		}
		m.w.applied(m, entries[:k], &out)
		m.publish(&out)
		entries = entries[k:]
		members = members || out.Members
		done[len(done)-1].Refused = out.ConfRefused && !m.w.bug("change-though-refused")
		m.w.reach("a change of members was refused", out.ConfRefused)
	}
	events := make([]replica.Event, len(done))
	for i, d := range done {
		events[i] = d
	}
	m.tell("apply done", events...)
	m.schedule()
	m.serveReads()
	if members {
		m.checkBelongs()
	}
	// Pebble's first memtable has 256 KiB. Were it full, Pebble would take the next one from the block cache, at a moment that its own
	// chance decides on; and then, what is read from the disk.
	if m.unflushed > 100<<10 {
		m.flush()
	}
}

// checkBelongs looks whether this member was removed.
func (m *member) checkBelongs() {
	if m.hasRemoved(m.host.id) {
		m.leaveLater()
	}
}

// observeLeases tells the lessor what was applied.
func (m *member) observeLeases(changes []state.LeaseChange) {
	for _, c := range changes {
		if m.lessor.Leading() == 0 {
			break
		}
		switch c.Kind {
		case state.LeaseGranted:
			m.lessor.Granted(c.ID, c.Grant, c.TTLSeconds, m.host.clock())
		case state.LeaseRevoked:
			m.lessor.Revoked(c.ID)
		case state.LeaseCheckpointed:
			m.lessor.Checkpointed(c.ID, c.RemainingSeconds, c.CheckpointIndex)
		}
	}
}

// flush makes the store durable, and then the log shorter.
func (m *member) flush() {
	m.unflushed = 0
	before := m.machine.Applied()
	if err := m.machine.Flush(); err != nil {
		m.w.violate("flush: %v", err)
	}
	if m.disk.crashed() {
		m.w.reach("a crash within a flush", true)
		return
	}
	durable, err := m.machine.DurableApplied()
	if err != nil || durable != before {
		m.w.violate("a flush after %v left %v durable: %v", before, durable, err)
	}
}

// truncate makes the log shorter, up to what the store has on disk, the replica knows to be applied, and nobody else needs.
func (m *member) truncate() {
	durable, err := m.machine.DurableApplied()
	if err != nil {
		m.w.violate("durable position: %v", err)
	}
	upTo := min(durable.Index, m.replica.Status().Applied) // raft looks at what it does not know to be applied
	if m.w.bug("truncate-to-applied") {
		upTo = m.machine.Applied().Index
	}
	upTo = min(upTo, m.needed())
	first, _ := m.log.FirstIndex()
	if err := m.log.Truncate(upTo); err != nil {
		m.host.diskFailed(err)
		return
	}
	again, _ := m.log.FirstIndex()
	m.w.reach("the log was truncated", again > first)
	if again > max(first, upTo+1) {
		m.w.violate("the log begins at %d, truncated to %d", again, upTo)
	}
}

// propose proposes a batch of commands that clients wait for.
func (m *member) propose(ops ...command.Op) {
	m.proposeCommands(commandsOf(ops))
}

func commandsOf(ops []command.Op) []command.Command {
	list := make([]command.Command, len(ops))
	for i, op := range ops {
		list[i].Op = op
	}
	return list
}

func (m *member) proposeCommands(list []command.Command) {
	data := m.beginBatch(list)
	m.step(replica.Propose{ID: m.sequence, Data: data})
}

// beginBatch makes a batch of commands that clients wait for, to be proposed at once.
func (m *member) beginBatch(list []command.Command) []byte {
	m.sequence++
	m.proposals[m.sequence] = m.w.now
	data := command.BeginBatch(nil, m.batchID(m.sequence))
	for _, c := range list {
		c.Time = m.host.date()
		data = command.AppendTo(data, c.Append(nil))
	}
	m.w.proposed(m.batchID(m.sequence), m.replica.Status().Term)
	m.w.proposedAt[m.batchID(m.sequence)] = m.w.now
	return data
}

// nextBatchID is the name of the batch that is proposed next.
func (m *member) nextBatchID() command.BatchID { return m.batchID(m.sequence + 1) }

func (m *member) batchID(sequence uint64) command.BatchID {
	return command.BatchID{Origin: uint64(m.run), Sequence: sequence}
}

// batchID is the name of the batch in an entry; zero if there is none.
func batchID(data []byte) command.BatchID {
	if len(data) == 0 {
		return command.BatchID{}
	}
	b, err := command.OpenBatch(data)
	if err != nil {
		panic(fmt.Sprintf("sim: an entry that does not decode: %v", err))
	}
	return b.ID
}

// giveUp is what clients do whose request takes too long. Once the cluster is healthy they have patience.
func (m *member) giveUp() {
	if m.w.healing {
		return
	}
	before := m.w.now - requestTimeout
	for _, s := range slices.Sorted(maps.Keys(m.proposals)) {
		if m.proposals[s] < before {
			delete(m.proposals, s)
			m.w.reach("a client gave up", true)
			m.step(replica.Forget{ID: s})
		}
	}
	m.reads = slices.DeleteFunc(m.reads, func(r *read) bool {
		if r.begun < before && r.then != nil {
			m.confirm = false
		}
		return r.begun < before
	})
}

func (m *member) String() string { return fmt.Sprintf("%v run %d", m.host, m.run) }
