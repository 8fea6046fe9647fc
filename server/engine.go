package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/config"
	"keelson/env"
	"keelson/raftlog"
	"keelson/server/datadir"
	"keelson/state"
	"keelson/state/members"
	"keelson/storage"
)

// engine is what a member has on disk, opened.
type engine struct {
	dir     *datadir.Dir
	db      *storage.DB
	machine *state.Machine
	log     *raftlog.Log
}

// hooks are what the engine tells those who are made after it.
type hooks struct {
	fatal   func(error)
	flushed func()
	synced  func(raftlog.Options) raftlog.Options
}

// end ends the member because of its store, which must not go on: it does not return. The process is about to end.
func (h hooks) end(reason string) {
	h.fatal(errors.New("storage engine: " + reason))
	select {}
}

// openEngine opens the data directory, founding the cluster in it if it is empty.
func openEngine(ctx context.Context, c *config.Config, logger *zap.Logger, h hooks) (_ *engine, err error) {
	fs := env.SystemFS()
	dir, err := datadir.Open(fs, c.Member.DataDir)
	if err != nil {
		return nil, err
	}
	e := &engine{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	for _, name := range dir.Strangers {
		logger.Warn("found invalid file under data directory",
			zap.String("filename", name), zap.String("data-dir", c.Member.DataDir))
	}
	logger.Info(config.StartMessage, c.StartFields(!dir.Fresh)...)
	if dir.Fresh {
		if err := found(ctx, c, dir, fs, h); err != nil {
			return nil, err
		}
	} else {
		logger.Info("server has already been initialized",
			zap.String("data-dir", c.Member.DataDir), zap.String("dir-type", "member"))
	}
	if err := e.open(fs, logger, h); err != nil {
		return nil, err
	}
	return e, nil
}

// found writes the first state of a new cluster.
func found(ctx context.Context, c *config.Config, dir *datadir.Dir, fs env.FS, h hooks) error {
	f, err := c.Founding(ctx, net.DefaultResolver)
	if err != nil {
		return err
	}
	db, err := storage.Open(storage.Options{FS: fs, Dir: dir.State(), Fatal: h.end})
	if err != nil {
		return err
	}
	first, err := bootstrap(db, f)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	log, err := raftlog.Create(logOptions(dir, fs, f.ClusterID, f.LocalID), raftlog.Position(first))
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	return dir.Commit(datadir.Identity{ClusterID: f.ClusterID, MemberID: f.LocalID})
}

// bootstrap writes the state that the cluster starts from, and returns where in the log it stands.
func bootstrap(db *storage.DB, f config.Founding) (state.Position, error) {
	id, err := identity(f)
	if err != nil {
		return state.Position{}, err
	}
	if err := state.Bootstrap(db, id); err != nil {
		return state.Position{}, err
	}
	if err := db.Flush(); err != nil {
		return state.Position{}, err
	}
	machine, err := state.Open(db, state.Options{})
	if err != nil {
		return state.Position{}, err
	}
	return machine.Applied(), nil
}

// identity is what all first members of a cluster are given alike.
func identity(f config.Founding) (state.Identity, error) {
	id := state.Identity{ClusterID: f.ClusterID}
	conf := &raftpb.ConfState{}
	for _, m := range f.Members {
		id.Members = append(id.Members, members.Member{ID: m.ID, PeerURLs: m.PeerURLs})
		conf.Voters = append(conf.Voters, m.ID)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		return state.Identity{}, fmt.Errorf("configuration: %w", err)
	}
	id.ConfState = encoded
	return id, nil
}

func logOptions(dir *datadir.Dir, fs env.FS, cluster, member uint64) raftlog.Options {
	return raftlog.Options{FS: fs, Dir: dir.Wal(), ClusterID: cluster, MemberID: member}
}

func (e *engine) open(fs env.FS, logger *zap.Logger, h hooks) (err error) {
	e.db, err = storage.Open(storage.Options{
		FS: fs, Dir: e.dir.State(), Fatal: h.end, Flushed: h.flushed,
		Warn: func(message string) { logger.Warn("storage engine", zap.String("message", message)) },
	})
	if err != nil {
		return err
	}
	if e.machine, err = state.Open(e.db, state.Options{}); err != nil {
		return err
	}
	id := e.dir.Identity
	if cluster := clusterID(e.machine); cluster != id.ClusterID {
		return fmt.Errorf("%w: the store in %s belongs to cluster %x, the directory to cluster %x",
			datadir.ErrDamaged, e.dir.State(), cluster, id.ClusterID)
	}
	durable, err := e.machine.DurableApplied()
	if err != nil {
		return err
	}
	log, recovery, err := raftlog.Open(h.synced(logOptions(e.dir, fs, id.ClusterID, id.MemberID)), raftlog.Position(durable))
	if err != nil {
		return err
	}
	e.log = log
	logRecovery(logger, e.dir.Wal(), durable, recovery)
	return nil
}

func clusterID(m *state.Machine) uint64 {
	view := m.View()
	defer view.Close()
	return view.Members().ClusterID()
}

func logRecovery(logger *zap.Logger, dir string, durable state.Position, r raftlog.Recovery) {
	if r.Cut != nil {
		logger.Warn("cut an unfinished write off the end of the raft log; nobody was told of it",
			zap.String("file", r.Cut.File), zap.Int64("offset", r.Cut.Offset), zap.Int64("bytes", r.Cut.Bytes),
			zap.String("expected", r.Cut.Expected), zap.String("found", r.Cut.Found))
	}
	if len(r.Removed) > 0 {
		logger.Info("removed what a crash left in the raft log's directory", zap.Strings("files", r.Removed))
	}
	logger.Info("opened raft log",
		zap.String("path", filepath.Clean(dir)), zap.Int("segments", r.Segments), zap.Int64("bytes", r.Bytes),
		zap.Uint64("first-index", r.First), zap.Uint64("last-index", r.Last), zap.Uint64("applied-index", durable.Index))
}

// close closes what is open, the store flushed so that the next start has nothing to apply again.
func (e *engine) close() error {
	var errs []error
	if e.log != nil {
		errs = append(errs, e.log.Close())
	}
	if e.db != nil {
		if e.log != nil && e.log.Err() == raftlog.ErrClosed {
			errs = append(errs, e.db.Flush())
		}
		errs = append(errs, e.db.Close())
	}
	return errors.Join(append(errs, e.dir.Close())...)
}
