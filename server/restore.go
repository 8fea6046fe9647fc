package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"go.uber.org/zap"

	"keelson/config"
	"keelson/env"
	"keelson/raftlog"
	"keelson/server/datadir"
	"keelson/snapshot/etcddir"
	"keelson/state"
	"keelson/storage"
)

// Restoration says what a restore makes of a snapshot.
type Restoration struct {
	// Snapshot is a file in etcd's format, saved from Keelson or from etcd.
	Snapshot string
	// Directory is the data directory of an etcd that does not run, and WAL its --wal-dir if it had one; instead of a snapshot.
	Directory, WAL string
	// Store is the v2 store of an etcd that runs, as it was read from its API, and StoreFrom where; instead of both.
	Store     *etcddir.Store
	StoreFrom string
	// SkipHashCheck takes a file that has no sum behind it: one copied from a data directory of etcd.
	SkipHashCheck bool
	// BumpRevision is added to the newest revision, and everything in the snapshot then counts as compacted, so that whoever
	// has seen later revisions than the snapshot's is told that they are gone. 0: neither.
	BumpRevision int64
	// Progress is told of every version of a pair that has been restored. Nil: nobody wants to know.
	Progress func()
	// Expect is told before how many there are. Nil likewise.
	Expect func(versions int64)
}

// Restore makes the data directory of one member of a new cluster from a snapshot or an etcd's directory. Which cluster and which member, the
// configuration says: name, data directory, log directory, initial cluster, its token, and the peer addresses that the member
// advertises. All members of the cluster are restored from the same file or directory. Pairs keep their revisions, leases their time to live.
//
// Errors: those of Restoration.Open and state.Import; a data directory that is not empty; an initial cluster that can't be.
// Source: the operations specification, 3.11 (texts).
func Restore(ctx context.Context, c *config.Config, r Restoration, logger *zap.Logger) (err error) {
	f, err := c.Founding(ctx, net.DefaultResolver, c.Cluster.Initial, c.Cluster.InitialToken)
	if err != nil {
		return err
	}
	if err := MustBeEmpty(c.Member.DataDir); err != nil {
		return err
	}
	where := []zap.Field{zap.String("path", cmp.Or(r.Snapshot, r.Directory, r.StoreFrom)), zap.String("wal-dir", c.WALDir()), zap.String("data-dir", c.Member.DataDir)}
	logger.Info("restoring snapshot", where...)
	from, err := r.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if r.Expect != nil {
		n, err := from.VersionCount()
		if err != nil {
			return err
		}
		r.Expect(n)
	}
	fs := env.SystemFS()
	dir, err := datadir.OpenApart(fs, c.Member.DataDir, c.Member.WALDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	first, err := restoreState(dir, fs, f, from, r)
	if err != nil {
		return err
	}
	log, err := raftlog.Create(logOptions(dir, fs, f.ClusterID, f.LocalID), raftlog.Position(first))
	if err == nil {
		err = log.Close()
	}
	if err == nil {
		err = dir.Commit(datadir.Identity{ClusterID: f.ClusterID, MemberID: f.LocalID})
	}
	if err != nil {
		return err
	}
	for _, m := range f.Members {
		logger.Info("added member", hexID("cluster-id", f.ClusterID), hexID("local-member-id", 0),
			hexID("added-peer-id", m.ID), zap.Strings("added-peer-peer-urls", m.PeerURLs), zap.Bool("added-peer-is-learner", false))
	}
	logger.Info("restored snapshot", where...)
	return nil
}

// MustBeEmpty refuses a data directory that holds anything.
func MustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
		return fmt.Errorf("data-dir %q not empty or could not be read", dir)
	}
	return nil
}

// restoreState writes the first state of a restored member, and returns where in the log it stands.
func restoreState(dir *datadir.Dir, fs env.FS, f config.Founding, from *Source, r Restoration) (at state.Position, err error) {
	id, err := identityOf(f.ClusterID, f.Members)
	if err != nil {
		return at, err
	}
	db, err := storage.Open(storage.Options{FS: fs, Dir: dir.State()})
	if err != nil {
		return at, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := state.Import(db, id, from.Reader, from.options(r)); err != nil {
		return at, err
	}
	if err := db.Flush(); err != nil {
		return at, err
	}
	machine, err := state.Open(db, state.Options{})
	if err != nil {
		return at, err
	}
	return machine.Applied(), nil
}
