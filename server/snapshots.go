package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/raftlog"
	"keelson/snapshot"
)

// snapshotBytesPerSecond limits what is sent to one member that is far behind, so that the others are served meanwhile.
const snapshotBytesPerSecond = 64 << 20

// snapshots moves whole states between this member and others: node.Snapshots.
type snapshots struct {
	s *Server

	receiving sync.Mutex // held by the one stream that is received
	giving    sync.Mutex // held while the state is given to one who has asked

	mu    sync.Mutex
	store snapshot.Store // of what is sent; another one after each Install
	// waiting are the states received that raft has not asked for, by the position that they stand at. It decides at once
	// whether it wants one; then it asks for it when everything before is applied.
	waiting map[raftlog.Position]string
}

// waitingMax is how many received states may wait.
const waitingMax = 2

func newSnapshots(s *Server) *snapshots {
	return &snapshots{s: s, store: newStore(s), waiting: make(map[raftlog.Position]string)}
}

// newStore draws an identity: tables keep their names and contents for as long as one process has a store open.
func newStore(s *Server) (id snapshot.Store) {
	for i := range id {
		id[i] = byte(s.chance.Uint64())
	}
	return id
}

// Send implements node.Snapshots.
func (x *snapshots) Send(ctx context.Context, m *raftpb.Message) error {
	log := x.s.logger.With(hexID("to", m.GetTo()))
	ended := x.s.metrics.SendState(m.GetTo())
	sent, err := x.send(ctx, m, log)
	ended(sent, err)
	if err != nil {
		log.Warn("failed to send database snapshot", zap.Error(err))
		return err
	}
	return nil
}

func (x *snapshots) send(ctx context.Context, m *raftpb.Message, log *zap.Logger) (bytes int64, err error) {
	start := time.Now()
	dir, header, err := x.checkpoint(m)
	if err != nil {
		return bytes, err
	}
	defer func() {
		if err := x.s.engine.fs.RemoveAll(dir); err != nil {
			log.Warn("failed to remove a checkpoint", zap.String("path", dir), zap.Error(err))
		}
	}()
	conn, err := x.s.peers.transport.OpenBulk(ctx, m.GetTo())
	if err != nil {
		return bytes, err
	}
	defer conn.Close()
	return x.sendFiles(ctx, conn, dir, header, start, log)
}

// give sends this member's state to one that asks for it. Any member's will do that is not known to differ from a
// quorum's: what is applied is committed.
func (x *snapshots) give(ctx context.Context, to uint64, conn io.ReadWriter) {
	log := x.s.logger.With(hexID("to", to))
	n := x.s.running.Load()
	if n == nil || n.Corrupt() || !x.giving.TryLock() {
		log.Warn("cannot give the state to a member that asks for it now")
		return
	}
	defer x.giving.Unlock()
	start := time.Now()
	own := x.s.engine.dir.Identity.MemberID
	dir, header, err := x.checkpointIn("fetch-"+strconv.FormatUint(to, 16), &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: &own, To: &to})
	if err == nil {
		_, err = x.sendFiles(ctx, closable{conn}, dir, header, start, log)
		err = errors.Join(err, x.s.engine.fs.RemoveAll(dir))
	}
	if err != nil {
		log.Warn("failed to give the state to a member that asked for it", zap.Error(err))
	}
}

func (x *snapshots) sendFiles(ctx context.Context, conn io.ReadWriteCloser, dir string, header []byte, start time.Time, log *zap.Logger) (bytes int64, err error) {
	log.Info("sending database snapshot")
	err = snapshot.Send(ctx, conn, snapshot.SendOptions{
		FS: x.s.engine.fs, Clock: x.s.clock, Dir: dir, Store: x.identity(), Header: header,
		BytesPerSecond: snapshotBytesPerSecond, Progress: func(_, all int64) { bytes = all },
	})
	if err != nil {
		return bytes, err
	}
	log.Info("sent database snapshot", zap.Int64("bytes", bytes), zap.Duration("took", time.Since(start)))
	return bytes, nil
}

func (x *snapshots) identity() snapshot.Store {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.store
}

// checkpoint makes a checkpoint for the receiver of m, and m anew with the description of what is in it.
func (x *snapshots) checkpoint(m *raftpb.Message) (dir string, header []byte, err error) {
	return x.checkpointIn(strconv.FormatUint(m.GetTo(), 16), m)
}

func (x *snapshots) checkpointIn(name string, m *raftpb.Message) (dir string, header []byte, err error) {
	e := x.s.engine
	dir = e.fs.PathJoin(e.dir.Outgoing(), name)
	if err := e.fs.RemoveAll(dir); err != nil { // an earlier process may have left it
		return "", nil, err
	}
	at, conf, err := e.machine.Checkpoint(dir)
	if err != nil {
		return "", nil, errors.Join(err, e.fs.RemoveAll(dir))
	}
	configuration := new(raftpb.ConfState)
	if err := proto.Unmarshal(conf, configuration); err != nil {
		return "", nil, errors.Join(err, e.fs.RemoveAll(dir))
	}
	m = proto.Clone(m).(*raftpb.Message)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: configuration, Index: &at.Index, Term: &at.Term}}
	header, err = proto.Marshal(m)
	return dir, header, err
}

// receive takes a state that another member sends, and tells the node of it.
func (x *snapshots) receive(ctx context.Context, from uint64, conn io.ReadWriter) {
	n := x.s.running.Load()
	if n == nil || !x.receiving.TryLock() {
		return
	}
	defer x.receiving.Unlock()
	log := x.s.logger.With(hexID("from", from))
	start, ended := time.Now(), x.s.metrics.ReceiveState(from)
	m, got, err := x.fetch(ctx, from, conn, log)
	ended(got.Bytes-got.Resumed, err)
	if err != nil {
		log.Warn("failed to receive database snapshot", zap.Error(err))
		return
	}
	x.s.metrics.ReceivedState.Observe(time.Since(start).Seconds())
	if err := x.keep(position(m.GetSnapshot()), got.Dir); err != nil {
		log.Warn("failed to keep a received database snapshot", zap.Error(err))
		return
	}
	log.Info("received database snapshot", zap.Int64("bytes", got.Bytes), zap.Int64("resumed-bytes", got.Resumed),
		zap.Uint64("snapshot-index", m.GetSnapshot().GetMetadata().GetIndex()))
	if !n.ReceiveSnapshot(m) {
		x.discard(position(m.GetSnapshot()))
	}
}

// fetch receives the files of a state, and the message that goes with it.
func (x *snapshots) fetch(
	ctx context.Context, from uint64, conn io.ReadWriter, log *zap.Logger,
) (m *raftpb.Message, got snapshot.Received, err error) {
	e := x.s.engine
	got, err = snapshot.Receive(ctx, closable{conn}, snapshot.ReceiveOptions{
		FS: e.fs, Clock: x.s.clock, Dir: e.dir.Incoming(),
		Synced: func(took time.Duration) { x.s.metrics.ReceivedStateSync.Observe(took.Seconds()) },
		Accept: func(o snapshot.Offer) (err error) {
			if m, err = x.admit(from, o.Header); err == nil {
				log.Info("receiving database snapshot", zap.Int64("bytes", o.Bytes), zap.Int("files", o.Files),
					zap.Uint64("snapshot-index", m.GetSnapshot().GetMetadata().GetIndex()))
			}
			return err
		},
	})
	return m, got, err
}

func position(s *raftpb.Snapshot) raftlog.Position {
	return raftlog.Position{Index: s.GetMetadata().GetIndex(), Term: s.GetMetadata().GetTerm()}
}

// keep puts a received state where the next one does not replace it.
func (x *snapshots) keep(at raftlog.Position, dir string) error {
	kept, err := x.s.engine.dir.Adopt(dir)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting[at] != "" { // the same state once more
		x.s.engine.remove(kept)
		return nil
	}
	x.waiting[at] = kept
	return nil
}

// discard gives up a state that raft does not want, or, if it was installed already, does nothing.
func (x *snapshots) discard(at raftlog.Position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if dir, ok := x.waiting[at]; ok {
		delete(x.waiting, at)
		x.s.engine.remove(dir)
	}
}

// room forgets the states that raft will not ask for any more, and reports whether another one may come.
func (x *snapshots) room(applied uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for at, dir := range x.waiting {
		if at.Index <= applied {
			delete(x.waiting, at)
			x.s.engine.remove(dir)
		}
	}
	return len(x.waiting) < waitingMax
}

// take gives up a state to be installed.
func (x *snapshots) take(at raftlog.Position) (dir string, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	dir, ok = x.waiting[at]
	delete(x.waiting, at)
	x.store = newStore(x.s)
	return dir, ok
}

// admit reads what an offer is about. It is turned down if raft would not want it, or if too many wait to be installed.
func (x *snapshots) admit(from uint64, header []byte) (*raftpb.Message, error) {
	m := new(raftpb.Message)
	if err := proto.Unmarshal(header, m); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	id := x.s.engine.dir.Identity.MemberID
	if m.GetType() != raftpb.MsgSnap || m.GetFrom() != from || m.GetTo() != id || m.GetSnapshot().GetMetadata().GetConfState() == nil {
		return nil, errors.New("header: not a snapshot from its sender to this member")
	}
	at := x.s.engine.machine.Applied()
	if m.GetSnapshot().GetMetadata().GetIndex() <= at.Index {
		// The sender's raft has missed the answer to an earlier one. It is told by this member's, or it would go on for ever.
		if n := x.s.running.Load(); n != nil {
			n.ReceiveSnapshot(m)
		}
		return nil, fmt.Errorf("this member has applied up to %d already", at.Index)
	}
	if !x.room(at.Index) {
		return nil, errors.New("others wait to be installed")
	}
	return m, nil
}

// Install implements node.Snapshots.
func (x *snapshots) Install(s *raftpb.Snapshot, hs *raftpb.HardState) error {
	at := position(s)
	dir, ok := x.take(at)
	if !ok {
		return fmt.Errorf("no state was received for the snapshot at %d of term %d", at.Index, at.Term)
	}
	x.s.metrics.Installing.Inc()
	defer x.s.metrics.Installing.Dec()
	if err := x.s.engine.install(dir, at, hs); err != nil {
		return err
	}
	x.s.logger.Info("applied snapshot", zap.Uint64("snapshot-index", at.Index), zap.Uint64("snapshot-term", at.Term))
	return nil
}

// closable makes a bulk stream closable, if the transport lets it be.
type closable struct{ io.ReadWriter }

// Close implements io.Closer.
func (c closable) Close() error {
	if closer, ok := c.ReadWriter.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}
