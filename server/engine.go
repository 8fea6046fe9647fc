package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/config"
	"keelson/env"
	"keelson/raftlog"
	"keelson/server/bootstrap"
	"keelson/server/datadir"
	"keelson/state"
	"keelson/state/members"
	"keelson/storage"
)

// engine is what a member has on disk, opened.
type engine struct {
	fs      env.FS
	logger  *zap.Logger
	hooks   hooks
	counted bool           // a quota counts what is stored, as it was written
	machine *state.Machine // nil: not open
	log     *raftlog.Log   // nil: not open

	fetch   fetch
	opening atomic.Bool            // damage of the store is still looked for, and made up for
	damage  atomic.Pointer[string] // what was found; nil: nothing
	known   string                 // what the file of contacts holds, as far as this run has written it

	begun   bool // it had data before this start
	dir     *datadir.Dir
	retired sync.WaitGroup // stores that were replaced and are still read
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

const (
	dirPause    = 100 * time.Millisecond // between two tries to get the data directory
	dirPatience = 10 * time.Second       // between two lines about waiting for it
)

// openDir opens the data directory. While another process has it, it waits, until ctx ends: a member that is started again may come
// before the one it replaces has gone.
func openDir(ctx context.Context, fs env.FS, m config.Member, logger *zap.Logger) (*datadir.Dir, error) {
	start := time.Now()
	for said := start; ; {
		dir, err := datadir.OpenApart(fs, m.DataDir, m.WALDir)
		if !errors.Is(err, datadir.ErrInUse) || errors.Is(err, os.ErrPermission) {
			return dir, err
		}
		select {
		case <-time.After(dirPause):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
		if time.Since(said) >= dirPatience {
			said = time.Now()
			logger.Warn("db file is flocked by another process, or taking too long",
				zap.String("path", m.DataDir), zap.Duration("took", time.Since(start)), zap.Error(err))
		}
	}
}

// openEngine opens the data directory. An empty one is given a first state: of a cluster to be founded, or of none yet, if
// the member is to join one: it then asks others.
//
// fetch gets a state from another member, should this one's be damaged.
func openEngine(
	ctx context.Context, c *config.Config, others *bootstrap.Client, fetch fetch, logger *zap.Logger, h hooks,
) (_ *engine, err error) {
	fs := env.SystemFS()
	dir, err := openDir(ctx, fs, c.Member, logger)
	if err != nil {
		return nil, err
	}
	e := &engine{fs: fs, logger: logger, hooks: h, dir: dir, fetch: fetch, counted: c.Limits.QuotaEnforced}
	checkPermission(c.Member.DataDir, logger)
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
	begun := !dir.Fresh
	e.begun = begun
	if begun {
		logger.Info("server has already been initialized",
			zap.String("data-dir", c.Member.DataDir), zap.String("dir-type", "member"))
		if len(c.Discovery.Endpoints) > 0 || c.Discovery.URL != "" {
			logger.Warn("discovery token is ignored since cluster already initialized; valid logs are found",
				zap.String("wal-dir", dir.Wal()))
		}
	} else if err := begin(ctx, c, others, dir, fs, logger, h); err != nil {
		return nil, err
	}
	if err := e.open(ctx, fs, logger, h); err != nil {
		return nil, err
	}
	if begun && c.Unsafe.ForceNewCluster {
		if err := e.force(fs, logger, h); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// dataDirMode keeps everybody else out of the data.
const dataDirMode = 0o700

// checkPermission warns of a data directory that others may look into.
func checkPermission(dir string, logger *zap.Logger) {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() == dataDirMode {
		return // whoever opens it says what is wrong
	}
	logger.Warn("check file permission", zap.Error(fmt.Errorf("directory %q exist, but the permission is %q. The recommended permission is %q "+
		"to prevent possible unprivileged access to the data", dir, info.Mode(), os.FileMode(dataDirMode))))
}

// begin writes the first files of a member without data.
func begin(
	ctx context.Context, c *config.Config, others *bootstrap.Client, dir *datadir.Dir, fs env.FS, logger *zap.Logger, h hooks,
) error {
	b, err := bootstrap.Begin(ctx, bootstrap.Options{
		Config: c, Resolver: net.DefaultResolver, Peers: others, Clock: env.SystemClock(), Logger: logger,
	})
	if err != nil {
		if _, ok := errors.AsType[*bootstrap.Error](err); ok {
			logger.Error("bootstrap failed", zap.Error(err))
		}
		return err
	}
	db, err := storage.Open(storage.Options{FS: fs, Dir: dir.State(), Fatal: h.end})
	if err != nil {
		return err
	}
	first, err := firstState(db, b)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	log, err := raftlog.Create(logOptions(dir, fs, b.ClusterID, b.MemberID), raftlog.Position(first))
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	if err := writeContacts(dir, contactsOf(b)); err != nil {
		return err
	}
	return dir.Commit(datadir.Identity{ClusterID: b.ClusterID, MemberID: b.MemberID})
}

// firstState writes the state that the member starts from, and returns where in the log it stands: at its beginning, if the
// member joins a cluster and is to be given the state.
func firstState(db *storage.DB, b bootstrap.Beginning) (state.Position, error) {
	if err := writeFirstState(db, b); err != nil {
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

func writeFirstState(db *storage.DB, b bootstrap.Beginning) error {
	if b.Joins() {
		return state.BootstrapEmpty(db, b.ClusterID)
	}
	id, err := identityOf(b.ClusterID, b.Members)
	if err != nil {
		return err
	}
	return state.Bootstrap(db, id)
}

// identityOf is what all first members of a cluster are given alike.
func identityOf(clusterID uint64, founders []config.FoundingMember) (state.Identity, error) {
	id := state.Identity{ClusterID: clusterID}
	conf := &raftpb.ConfState{}
	for _, m := range founders {
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

// scratch is where a forced new cluster is rehearsed.
func (e *engine) scratch(fs env.FS) string { return fs.PathJoin(e.dir.Member(), "force.tmp") }

// force makes the member the only one of its cluster.
func (e *engine) force(fs env.FS, logger *zap.Logger, h hooks) error {
	return bootstrap.Force(bootstrap.ForceOptions{
		FS: fs, Scratch: e.scratch(fs), MemberID: e.dir.Identity.MemberID,
		Machine: e.machine, Log: e.log, Clock: env.SystemClock(), Logger: logger, Fatal: h.end,
	})
}

func logOptions(dir *datadir.Dir, fs env.FS, cluster, member uint64) raftlog.Options {
	return raftlog.Options{FS: fs, Dir: dir.Wal(), ClusterID: cluster, MemberID: member}
}

// open opens the store, or one fetched in its place, and the log.
func (e *engine) open(ctx context.Context, fs env.FS, logger *zap.Logger, h hooks) (err error) {
	if err := fs.RemoveAll(e.scratch(fs)); err != nil { // a start that was to force a new cluster may have crashed
		return err
	}
	part, reason, err := e.dir.Damage()
	if err != nil {
		return err
	}
	if part == datadir.Log {
		return e.rolledBack(reason)
	}
	e.opening.Store(true)
	defer e.opening.Store(false)
	if part == "" {
		err = e.openMachine(e.dir.State())
		if err == nil {
			err = e.openLog(fs, logger, h)
		}
		if err == nil && e.damage.Load() != nil { // in the background
			err = fmt.Errorf("%w: %s", storage.ErrDamaged, *e.damage.Load())
		}
		if !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, raftlog.ErrStateBehind) {
			return err
		}
		reason = err.Error()
	}
	if err := e.rebuild(ctx, reason); err != nil {
		return err
	}
	if err := e.openLog(fs, logger, h); err != nil {
		return err
	}
	return e.dir.ForgetDamage()
}

// openMachine opens a store, and the machine on it. Errors: storage.ErrDamaged, datadir.ErrDamaged.
func (e *engine) openMachine(dir string) error {
	db, err := e.openStore(dir)
	if err != nil {
		return err
	}
	if e.machine, err = state.Open(db, state.Options{}); err != nil {
		e.machine = nil
		return errors.Join(fmt.Errorf("%w: %s: %w", storage.ErrDamaged, dir, err), db.Close())
	}
	if cluster := clusterID(e.machine); cluster != e.dir.Identity.ClusterID {
		return fmt.Errorf("%w: the store in %s belongs to cluster %x, the directory to cluster %x; restore the directory from a backup, "+
			"or remove it and let the member join again", datadir.ErrDamaged, dir, cluster, e.dir.Identity.ClusterID)
	}
	return nil
}

func (e *engine) openLog(fs env.FS, logger *zap.Logger, h hooks) error {
	id := e.dir.Identity
	durable, err := e.machine.DurableApplied()
	if err != nil {
		return err
	}
	options := h.synced(logOptions(e.dir, fs, id.ClusterID, id.MemberID))
	openLog := raftlog.Open
	if at, ok := e.dir.Installed(); ok { // a crash came between the switch to a received state and the log's beginning anew
		logger.Info("Recovering from snapshot backend",
			zap.Uint64("snapshot-index", at.Index), zap.Uint64("snapshot-term", at.Term), zap.String("path", e.dir.State()))
		openLog = raftlog.OpenInstalled
	}
	log, recovery, err := openLog(options, raftlog.Position(durable))
	if err != nil {
		return err
	}
	e.log = log
	if err := e.dir.Settle(); err != nil {
		return err
	}
	logRecovery(logger, e.dir.Wal(), durable, recovery)
	return nil
}

func (e *engine) openStore(dir string) (*storage.DB, error) {
	return storage.Open(storage.Options{
		FS: e.fs, Dir: dir, MustExist: true, Uncompressed: e.counted,
		Fatal: e.hooks.end, Damaged: e.noteDamage, Flushed: e.hooks.flushed,
		Warn: func(message string) { e.logger.Warn("storage engine", zap.String("message", message)) },
	})
}

// remove removes a store that is not in use.
func (e *engine) remove(dir string) {
	if err := e.dir.Remove(dir); err != nil {
		e.logger.Warn("failed to remove a store that is not in use any more", zap.String("path", dir), zap.Error(err))
	}
}

// install makes an adopted store, which stands at a position, the member's state, and the log one that begins there. A
// crash leaves the old state and log or the new ones. It belongs to the goroutine that appends, while nobody applies.
func (e *engine) install(dir string, at raftlog.Position, hs *raftpb.HardState) error {
	db, err := e.openStore(dir)
	if err != nil {
		return err
	}
	old, err := e.dir.Activate(dir, datadir.Position(at))
	if err != nil {
		return errors.Join(err, db.Close())
	}
	e.logger.Info("applySnapshot: opened snapshot backend", zap.Uint64("snapshot-index", at.Index), zap.String("path", dir))
	if err := e.log.Reset(at, hs); err != nil {
		return errors.Join(err, db.Close())
	}
	retired, err := e.machine.Install(db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	e.retired.Go(func() {
		if err := retired.Close(); err != nil {
			e.logger.Warn("failed to close the state that was replaced", zap.Error(err))
		}
		e.remove(old)
	})
	return e.dir.Settle()
}

// isRemoved reports whether an id once was a member's and is for ever gone.
func (e *engine) isRemoved(id uint64) bool {
	view := e.machine.View()
	defer view.Close()
	return view.Members().Removed(id)
}

// isEmpty reports whether the member has not been given a state yet.
func (e *engine) isEmpty() bool {
	view := e.machine.View()
	defer view.Close()
	return len(view.Members().List()) == 0
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
	if e.machine != nil {
		if e.log != nil && e.log.Err() == raftlog.ErrClosed {
			errs = append(errs, e.machine.Flush())
		}
		errs = append(errs, e.machine.Close())
	}
	e.retired.Wait()
	return errors.Join(append(errs, e.dir.Close())...)
}
