package inspect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"keelson/env"
	"keelson/raftlog"
	"keelson/server/datadir"
	"keelson/state"
	"keelson/storage"
)

// openDirectory locks the data directory of a member that is stopped.
//
// Errors: there is none, it is not ours, a member runs on it.
func openDirectory(path string) (*datadir.Dir, error) {
	if _, err := os.Stat(filepath.Join(path, "member")); err != nil {
		return nil, fmt.Errorf("%s is no data directory of a member: %w; give the directory that the member was started with as --data-dir", path, err)
	}
	return datadir.Open(env.SystemFS(), path)
}

// store is the state of a stopped member, open for reading.
type store struct {
	dir     *datadir.Dir
	db      *storage.DB
	machine *state.Machine
}

// openStore opens the state that a member has on disk: as far as it was flushed, which may be less than the log holds.
func openStore(path string) (_ *store, err error) {
	dir, err := openDirectory(path)
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
