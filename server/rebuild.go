package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/env"
	"keelson/raftlog"
	"keelson/replica"
	"keelson/server/datadir"
	"keelson/snapshot"
	"keelson/transport"
)

// A store that is damaged is not repaired: another member's state is put in its place, and the log, which is a file of its
// own with checksums of its own, is applied behind it. The member stays who it is: what it has voted for and acknowledged is
// in the log.
//
//	running ── damage ──► noted in the data directory, the member ends
//	                            │ next start               open ── damage ──┐
//	                            ▼                                           ▼
//	                        fetched from another member, opened, switched to ──► the log is opened behind it
//
// A crash in between leaves the note or the damage, and the next start begins again, or the new store.

// fetch gets the state of one of some members, which has to reach up to least in the log, and returns its directory, below
// dir.Incoming(), and its position. It asks until it has succeeded or ctx ends.
type fetch func(ctx context.Context, dir *datadir.Dir, from []transport.Peer, least uint64) (received string, at raftlog.Position, err error)

// noteDamage is told by the store that it is damaged. Whether that is the end is for who opens it to say, as long as it is
// being opened.
func (e *engine) noteDamage(reason string) (goOn bool) {
	e.damage.CompareAndSwap(nil, &reason)
	e.logger.Error("the store is damaged", zap.String("path", e.dir.State()), zap.String("reason", reason),
		zap.String("next", "the next start fetches the state from another member"))
	if err := e.dir.NoteDamage(datadir.Store, reason); err != nil {
		e.logger.Warn("failed to note the damage", zap.Error(err))
	}
	return e.opening.Load()
}

// rebuild puts another member's state in the place of a damaged one, and opens it.
func (e *engine) rebuild(ctx context.Context, reason string) error {
	if err := e.closeOpened(); err != nil {
		e.logger.Warn("failed to close a damaged store", zap.Error(err))
	}
	contacts, err := e.contacts()
	if err != nil {
		return err
	}
	var others []transport.Peer
	for _, c := range contacts {
		if c.ID != e.dir.Identity.MemberID {
			others = append(others, c)
		}
	}
	if len(others) == 0 {
		return fmt.Errorf("%w: %s, and there is no other member to fetch the state from: restore a snapshot into an empty directory "+
			"(keelson snapshot restore); %s was not changed. If keelson verify finds it whole, remove the file DAMAGED in it and start again",
			datadir.ErrDamaged, reason, e.dir.Member())
	}
	e.logger.Warn("the store is damaged: fetching the state from another member", zap.String("path", e.dir.State()),
		zap.String("reason", reason), zap.Int("members-to-ask", len(others)))
	base, err := raftlog.Base(logOptions(e.dir, e.fs, e.dir.Identity.ClusterID, e.dir.Identity.MemberID))
	if err != nil {
		return err
	}
	received, at, err := e.fetch(ctx, e.dir, others, base.Index)
	if err != nil {
		return fmt.Errorf("the store in %s is damaged (%s), and no member gave its state: %w", e.dir.State(), reason, err)
	}
	kept, err := e.dir.Adopt(received)
	if err != nil {
		return err
	}
	e.damage.Store(nil)
	if err := e.openMachine(kept); err != nil {
		return err
	}
	if got := raftlog.Position(e.machine.Applied()); got != at {
		return fmt.Errorf("the state that was fetched stands at %+v, not at %+v", got, at)
	}
	old, err := e.dir.Activate(kept, datadir.Position(at))
	if err != nil {
		return err
	}
	e.remove(old)
	e.logger.Info("put another member's state in the place of the damaged one",
		zap.String("path", kept), zap.Uint64("snapshot-index", at.Index))
	return nil
}

// closeOpened closes what a failed start has opened so far. Nothing of the store is written: it is damaged.
func (e *engine) closeOpened() error {
	var errs []error
	if e.log != nil {
		errs = append(errs, e.log.Close())
		e.log = nil
	}
	if e.machine != nil {
		errs = append(errs, e.machine.Close())
		e.machine = nil
	}
	return errors.Join(errs...)
}

// rolledBack refuses a member that has forgotten what it has acknowledged.
func (e *engine) rolledBack(reason string) error {
	id := e.dir.Identity.MemberID
	return fmt.Errorf("%w: %s. It may have forgotten a vote, too, so it does not take part any more under this id, and %s was not changed: "+
		"remove the member (keelson member remove %x), empty the directory, and add it again (keelson member add --learner, or keelson join)",
		datadir.ErrDamaged, reason, e.dir.Member(), id)
}

// nodeFailed notes why the node has ended, where the next start would not find out by itself.
func (s *Server) nodeFailed(err error) {
	if rolledBack, ok := errors.AsType[*replica.RolledBackError](err); ok {
		if e := s.engine.dir.NoteDamage(datadir.Log, rolledBack.Error()); e != nil {
			s.logger.Warn("failed to note the damage", zap.Error(e))
		}
		err = s.engine.rolledBack(rolledBack.Error())
	}
	s.failed.note(err)
}

// Pauses between two rounds of asking.
const fetchPauseMin, fetchPauseMax = time.Second, 10 * time.Second

// fetchState is a fetch.
func (s *Server) fetchState(
	ctx context.Context, dir *datadir.Dir, from []transport.Peer, least uint64,
) (string, raftlog.Position, error) {
	o := s.transportOptions(dir.Identity)
	o.Handler = outsider{s}
	t := transport.New(o)
	defer t.Stop()
	for pause := fetchPauseMin; ; pause = min(2*pause, fetchPauseMax) {
		var err error
		for _, other := range from {
			var got string
			var at raftlog.Position
			if got, at, err = s.fetchFrom(ctx, t, dir, other, least); err == nil {
				return got, at, nil
			}
			s.logger.Warn("failed to fetch the state from a member", hexID("from", other.ID), zap.Error(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", raftlog.Position{}, errors.Join(ctx.Err(), err)
		}
	}
}

func (s *Server) fetchFrom(
	ctx context.Context, t *transport.Transport, dir *datadir.Dir, from transport.Peer, least uint64,
) (string, raftlog.Position, error) {
	conn, err := t.OpenFetch(ctx, from)
	if err != nil {
		return "", raftlog.Position{}, err
	}
	defer conn.Close()
	m := new(raftpb.Message)
	got, err := snapshot.Receive(ctx, conn, snapshot.ReceiveOptions{
		FS: env.SystemFS(), Clock: s.clock, Dir: dir.Incoming(),
		Accept: func(o snapshot.Offer) error {
			if err := proto.Unmarshal(o.Header, m); err != nil {
				return fmt.Errorf("header: %w", err)
			}
			if m.GetType() != raftpb.MsgSnap || m.GetFrom() != from.ID || m.GetTo() != dir.Identity.MemberID || m.GetSnapshot().GetMetadata().GetIndex() == 0 {
				return errors.New("header: not a snapshot from its sender to this member")
			}
			if at := position(m.GetSnapshot()); at.Index < least {
				return fmt.Errorf("it stands at entry %d, and this member's log begins with %d", at.Index, least+1)
			}
			return nil
		},
	})
	return got.Dir, position(m.GetSnapshot()), err
}

// outsider is the member towards a transport that only fetches.
type outsider struct{ s *Server }

// Receive implements transport.Handler.
func (outsider) Receive([]*raftpb.Message)        {}
func (outsider) ReceiveEntries([]*raftpb.Message) {}

// Unreachable implements transport.Handler.
func (outsider) Unreachable(uint64) {}

// Bulk implements transport.Handler.
func (outsider) Bulk(context.Context, uint64, io.ReadWriter) {}

// Fetch implements transport.Handler.
func (outsider) Fetch(context.Context, uint64, io.ReadWriter) {}

// Removed implements transport.Handler.
func (o outsider) Removed(uint64) { o.s.removed.note(errRemoved) }
