package inspect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"keelson/env"
	"keelson/raftlog"
	"keelson/server/bootstrap"
	"keelson/server/datadir"
	"keelson/state"
	"keelson/storage"
)

// openDirectory locks the data directory of a member that is stopped.
//
// Errors: there is none, it is not ours, a member runs on it.
func openDirectory(path, walDir string) (*datadir.Dir, error) {
	if _, err := os.Stat(filepath.Join(path, "member")); err != nil {
		return nil, fmt.Errorf("%s is no data directory of a member: %w; give the directory that the member was started with as --data-dir", path, err)
	}
	return datadir.OpenApart(env.SystemFS(), path, walDir)
}

// store is the state of a stopped member, open for reading.
type store struct {
	dir     *datadir.Dir
	db      *storage.DB
	machine *state.Machine
	// replayed is how many entries of the log were applied to bring it up to the log's end.
	replayed uint64
}

// openStore opens the state that a member has on disk: as far as it was flushed, which may be less than the log holds.
func openStore(path string) (*store, error) { return openStoreApart(path, "") }

func openStoreApart(path, walDir string) (_ *store, err error) {
	dir, err := openDirectory(path, walDir)
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.db, err = storage.Open(storage.Options{FS: env.SystemFS(), Dir: dir.State(), ReadOnly: true}); err != nil {
		return nil, err
	}
	s.machine, err = state.Open(s.db, state.Options{})
	return s, err
}

func (s *store) Close() (err error) {
	if s.db != nil {
		err = s.db.Close()
	}
	return errors.Join(err, s.dir.Close())
}

// applied is the position in the log up to which the state goes.
func (s *store) applied() raftlog.Position { return raftlog.Position(s.machine.Applied()) }

// openWhole opens the state that a member has on disk with everything that its log holds: if that is more than was flushed, a
// copy, which it makes in scratch.
func openWhole(path, walDir, scratch string) (_ *store, err error) {
	s, err := openStoreApart(path, walDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	id := s.dir.Identity
	log, _, err := raftlog.Open(raftlog.Options{FS: env.SystemFS(), Dir: s.dir.Wal(), ClusterID: id.ClusterID, MemberID: id.MemberID}, s.applied())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	last, err := log.LastIndex()
	if err != nil || last <= s.applied().Index {
		return s, err
	}
	before := s.applied().Index
	copied, err := bootstrap.Rehearsal(bootstrap.ForceOptions{FS: env.SystemFS(), Scratch: scratch, MemberID: id.MemberID, Machine: s.machine, Log: log})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(copied.Flush(), copied.Close()); err != nil {
		return nil, err
	}
	original := s.db
	s.db = nil
	if err := original.Close(); err != nil {
		return nil, err
	}
	if s.db, err = storage.Open(storage.Options{FS: env.SystemFS(), Dir: scratch, ReadOnly: true}); err != nil {
		return nil, err
	}
	if s.machine, err = state.Open(s.db, state.Options{}); err != nil {
		return nil, err
	}
	s.replayed = s.applied().Index - before
	return s, nil
}
