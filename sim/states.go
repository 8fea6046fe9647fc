package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/env"
	"keelson/raftlog"
	"keelson/replica"
	"keelson/server/datadir"
	"keelson/snapshot"
	"keelson/state"
)

// states is what a member has to do with whole states: those it sends, those it has received and not installed, and those
// that were replaced and are still read. It does what packages node and server do, in the same order.
type states struct {
	origin  snapshot.Store // of what is sent; another one after each Install
	sending map[uint64]bool
	waiting map[raftlog.Position]string // directories of states received and not asked for yet
	retired []retired
}

type retired struct {
	*state.Retired
	dir string
}

const (
	sendingMax = 2
	waitingMax = 2
)

func (m *member) newOrigin() (s snapshot.Store) {
	for i := range s {
		s[i] = byte(m.w.rng.Uint64())
	}
	return s
}

func position(s *raftpb.Snapshot) raftlog.Position {
	return raftlog.Position{Index: s.GetMetadata().GetIndex(), Term: s.GetMetadata().GetTerm()}
}

// describe describes what a member behind the log would be sent.
func (m *member) describe() (*raftpb.Snapshot, error) {
	at := m.machine.Applied()
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: m.configuration(), Index: new(at.Index), Term: new(at.Term),
	}}, nil
}

// sendState begins to send a state to the receiver of msg.
func (m *member) sendState(msg *raftpb.Message) {
	to := msg.GetTo()
	if m.sending[to] || len(m.sending) >= sendingMax {
		m.w.after(0, "no state sent", m, func() { m.step(replica.SnapshotSent{ID: to, Failed: true}) })
		return
	}
	m.sending[to] = true
	m.w.after(m.host.delay(), "checkpoint", m, func() { m.checkpoint(msg) })
}

// checkpoint makes a checkpoint for the receiver of msg, and describes what is in it.
func (m *member) checkpoint(msg *raftpb.Message) {
	w := m.w
	dir := m.disk.PathJoin(m.dir.Outgoing(), fmt.Sprintf("%x", msg.GetTo()))
	msg, ok := m.checkpointIn(dir, msg)
	if m.disk.crashed() {
		return
	}
	if !ok {
		delete(m.sending, msg.GetTo())
		m.step(replica.SnapshotSent{ID: msg.GetTo(), Failed: true})
		return
	}
	to := w.addresses[msg.GetTo()]
	d := time.Duration(w.rng.Int64N(int64(w.air.stateMax)))
	w.enter(event{at: w.now + d, what: fmt.Sprintf("a state from %v", m.host), h: to, f: func() { m.transfer(to, dir, msg) }})
}

// checkpointIn makes a checkpoint, and msg anew with the description of what is in it; ok is false if there is none.
func (m *member) checkpointIn(dir string, msg *raftpb.Message) (_ *raftpb.Message, ok bool) {
	w := m.w
	err := m.disk.RemoveAll(dir)
	var at state.Position
	var encoded []byte
	if err == nil {
		at, encoded, err = m.machine.Checkpoint(dir)
	}
	if m.disk.crashed() {
		return msg, false
	}
	if err != nil && m.disk.failed() {
		w.reach("a checkpoint could not be made", true)
		return msg, false
	}
	conf := new(raftpb.ConfState)
	if err := errors.Join(err, proto.Unmarshal(encoded, conf)); err != nil {
		w.violate("%v makes no checkpoint: %v", m, err)
	}
	msg = proto.Clone(msg).(*raftpb.Message)
	msg.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: conf, Index: &at.Index, Term: &at.Term}}
	return msg, true
}

// transfer carries a checkpoint to another host, or a part of it.
func (m *member) transfer(to *host, dir string, msg *raftpb.Message) {
	w := m.w
	if m.host.member != m {
		return // there is no sender any more
	}
	links := w.network.links
	cut := links[m.host.index][to.index].cut || links[to.index][m.host.index].cut
	ok := false
	if to.member != nil && !cut && m.host.pausedUntil <= w.now {
		ok = m.carry(to.member, dir, msg)
	}
	if m.disk.crashed() {
		return
	}
	if err := m.disk.RemoveAll(dir); err != nil {
		m.shrugOff("remove a checkpoint", err)
	}
	d := time.Millisecond
	if !ok {
		d = time.Second
	}
	w.after(d, fmt.Sprintf("state sent: %t", ok), m, func() {
		delete(m.sending, msg.GetTo())
		m.step(replica.SnapshotSent{ID: msg.GetTo(), Failed: !ok})
	})
}

// carry lets the receiver have a checkpoint, and reports whether it has.
func (m *member) carry(to *member, dir string, msg *raftpb.Message) bool {
	received, ok := m.stream(to, dir, msg, func() error { return to.admit(msg) })
	if received != "" {
		to.receiveState(msg, received)
	}
	return ok
}

// stream sends the files of a checkpoint to another member that accepts them, or a part of them. It returns where they are
// if all have come, and whether the sender knows that.
func (m *member) stream(to *member, dir string, msg *raftpb.Message, accept func() error) (received string, ok bool) {
	w := m.w
	header, err := proto.Marshal(msg)
	if err != nil {
		w.violate("header: %v", err)
	}
	left := 1 << 30
	if w.air.splits && !w.healing && w.rng.IntN(3) == 0 {
		left = w.rng.IntN(40 << 10)
	}
	if w.chance(w.faults.flip) { // of what an earlier attempt has left; it is sent again
		where := to.disk.flip(to.dir.Incoming(), w.rng)
		w.reach("a bit of a state that was coming in was flipped", where != "")
	}
	a, b := newStream(left)
	sent := make(chan error, 1)
	go func() {
		sent <- snapshot.Send(context.Background(), a, snapshot.SendOptions{
			FS: m.disk, Clock: env.SystemClock(), Dir: dir, Store: m.origin, Header: header,
		})
	}()
	got, err := snapshot.Receive(context.Background(), b, snapshot.ReceiveOptions{
		FS: to.disk, Clock: env.SystemClock(), Dir: to.dir.Incoming(),
		Accept: func(snapshot.Offer) error { return accept() },
	})
	sendErr := <-sent
	w.reach("a state was received in part", err != nil && left < 1<<30)
	w.reach("a state was resumed", err == nil && got.Resumed > 0)
	if err != nil || to.disk.crashed() {
		return "", false
	}
	to.disk.infect(m.disk, dir, got.Dir)
	return got.Dir, sendErr == nil
}

// admit is for the receiver: it turns down what raft would not want.
func (m *member) admit(msg *raftpb.Message) error {
	at, applied := position(msg.GetSnapshot()), m.machine.Applied().Index
	if msg.GetTo() != m.host.id {
		return errors.New("not for this member")
	}
	if at.Index <= applied { // the sender's raft does not know so, and is told by this one's
		m.w.reach("a state that was applied already was offered", true)
		m.step(replica.Message{Message: proto.Clone(msg).(*raftpb.Message)})
		return errors.New("applied already")
	}
	for at, dir := range m.waiting {
		if at.Index <= applied {
			delete(m.waiting, at)
			m.removeStore(dir)
		}
	}
	if len(m.waiting) >= waitingMax {
		return errors.New("others wait")
	}
	return nil
}

func (m *member) removeStore(dir string) {
	if err := m.dir.Remove(dir); err != nil {
		m.shrugOff("remove "+dir, err)
	}
}

// shrugOff is for what a process goes on after: states that come or go and are in nobody's use.
func (m *member) shrugOff(what string, err error) {
	if !m.disk.failed() {
		m.w.violate("%s: %v", what, err)
	}
	m.w.tracef("%v: %s: %v", m, what, err)
}

// receiveState takes in a state that has come whole, and tells the replica.
func (m *member) receiveState(msg *raftpb.Message, received string) {
	at := position(msg.GetSnapshot())
	kept, err := m.dir.Adopt(received)
	if m.disk.crashed() {
		return
	}
	if err != nil { // raft never hears of it; the leader finds that it is still behind
		m.shrugOff("adopt", err)
		m.w.reach("a state that was received could not be kept", true)
		return
	}
	m.w.reach("a state was received", true)
	if m.waiting[at] != "" { // the same one once more
		m.removeStore(kept)
	} else {
		m.waiting[at] = kept
	}
	m.step(replica.Message{Message: proto.Clone(msg).(*raftpb.Message)})
	if dir, ok := m.waiting[at]; ok && !m.replica.Awaits(msg.GetSnapshot()) {
		m.w.reach("a state was not wanted", true)
		delete(m.waiting, at)
		m.removeStore(dir)
	}
}

// install makes a received state this member's.
func (m *member) install(in *replica.Install) {
	w, at := m.w, position(in.Snapshot)
	if m.applying || len(m.applies) > 0 {
		w.violate("%v is to install a state with applies under way", m)
	}
	dir, ok := m.waiting[at]
	if !ok {
		w.violate("%v is to install a state at %v that was not received", m, at)
	}
	delete(m.waiting, at)
	if len(m.views) == 0 && at.Index%2 == 0 { // who lags is seldom being read when it is given a state: now and then it is
		m.views = append(m.views, heldView{m.machine.View(), m.origin, w.now + time.Second})
	}
	m.origin = m.newOrigin()
	l := &m.host.ledger
	l.installing = &installation{at: at, hard: in.HardState}
	if w.faults.strikeStore > 0 && w.chance(4) {
		w.inject("crash within an installation")
		m.disk.arm(strike{dir: memberDir, after: w.rng.IntN(20), crash: true})
	}
	if err := m.installStore(dir, at, in.HardState); err != nil {
		m.host.diskFailed(err)
		return
	}
	if m.disk.crashed() {
		w.reach("a crash within an installation", true)
		return
	}
	w.reach("a state was installed", true)
	l.installed()
	m.host.applied = max(m.host.applied, at.Index)
	if got := m.machine.Applied(); raftlog.Position(got) != at {
		w.violate("%v installs a state at %v, and is at %v", m, at, got)
	}
	w.checkHash(m)
	w.checkDump(m)
	if !w.bug("install-tells-no-watcher") {
		m.hub.Reset(m.machine.Revision())
	}
	m.checkBelongs()
	if len(in.Entries) > 0 {
		w.reach("entries came with a state", true)
		batches := []raftlog.Batch{{Entries: in.Entries}}
		l.writing = batches
		if err := m.log.Append(batches...); err != nil {
			m.host.diskFailed(err)
			return
		}
		if m.disk.crashed() {
			return
		}
		w.checkAppended(m, batches)
		l.written(batches)
	}
	m.tell("install done", replica.InstallDone{Install: in})
	m.schedule()
	m.serveReads()
}

// installStore is what server's engine does, step by step: a crash leaves the old state and log or the new ones.
func (m *member) installStore(dir string, at raftlog.Position, hs *raftpb.HardState) error {
	db, err := m.openDB(dir, true)
	if err != nil {
		return err
	}
	if m.w.bug("reset-log-before-switch") {
		if err := m.log.Reset(at, hs); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	old, err := m.dir.Activate(dir, datadir.Position(at))
	if err != nil {
		return errors.Join(err, db.Close())
	}
	if m.w.bug("settle-before-reset") {
		if err := m.dir.Settle(); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	if err := m.log.Reset(at, hs); err != nil {
		return errors.Join(err, db.Close())
	}
	r, err := m.machine.Install(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	m.retired = append(m.retired, retired{r, old})
	return m.dir.Settle()
}

// retireDrained closes and removes states that nobody reads any more.
func (m *member) retireDrained() {
	kept := m.retired[:0]
	for _, r := range m.retired {
		select {
		case <-r.Drained():
			m.w.reach("a replaced state was removed", true)
			if err := r.Close(); err != nil {
				m.shrugOff("close a replaced state", err)
			}
			m.removeStore(r.dir)
		default:
			kept = append(kept, r)
		}
	}
	m.retired = kept
}

// closeRetired is for the end of a run: nobody reads any more.
func (m *member) closeRetired() {
	for _, r := range m.retired {
		_ = r.Close()
	}
	m.retired = nil
}

// needed is up to where nobody needs the log any more.
func (m *member) needed() uint64 {
	w := m.w
	if w.keepAll {
		return w.disposable()
	}
	at := m.replica.Status().Applied
	to := at - min(at, w.catchUp)
	m.replica.Progress(func(p replica.Progress) {
		if p.Active && w.keepForActive {
			to = min(to, p.Match)
		}
	})
	return to
}

// stream is one end of a connection that breaks after so many bytes from its sender.
type stream struct {
	*io.PipeReader
	*io.PipeWriter
	left *int // nil: does not break
}

func newStream(left int) (sender, receiver *stream) {
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	return &stream{ar, bw, &left}, &stream{br, aw, nil}
}

func (s *stream) Read(p []byte) (int, error) { return s.PipeReader.Read(p) }

func (s *stream) Write(p []byte) (int, error) {
	if s.left == nil {
		return s.PipeWriter.Write(p)
	}
	n := min(len(p), *s.left)
	*s.left -= n
	k, err := s.PipeWriter.Write(p[:n])
	if err == nil && n < len(p) {
		err = io.ErrClosedPipe
		_ = s.Close()
	}
	return k, err
}

func (s *stream) Close() error { return errors.Join(s.PipeReader.Close(), s.PipeWriter.Close()) }
