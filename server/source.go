package server

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/crypto/bcrypt"

	"keelson/snapshot/etcddir"
	"keelson/snapshot/etcdfile"
	"keelson/state"
)

// Source is what a restore takes, opened. Close it.
type Source struct {
	*etcdfile.Reader
	// Path is where it is.
	Path string
	// Log is what was acknowledged after what the file shows; empty for a snapshot.
	Log []*raftpb.Entry
	// Tree is the v2 store; empty for a snapshot.
	Tree state.TreeSource
	// Place is the entry up to which file and log go, in the log of the cluster that they are from.
	Place etcddir.Place
	// Torn: etcd was killed in the midst of a write, which nobody was told of.
	Torn bool
}

// Open opens what is to be restored from; nothing of it is changed.
//
// Errors: those of etcdfile.Open, etcddir.Open and etcddir.Dir.Log.
func (r Restoration) Open() (*Source, error) {
	if r.Directory != "" {
		return r.openDirectory()
	}
	if r.Store != nil {
		return &Source{Reader: etcdfile.Nothing(), Path: r.StoreFrom, Tree: state.TreeSource{Read: r.Store}}, nil
	}
	from, err := etcdfile.Open(r.Snapshot, r.SkipHashCheck)
	if err != nil {
		return nil, err
	}
	return sourceOf(from, r.Snapshot)
}

func sourceOf(from *etcdfile.Reader, path string) (*Source, error) {
	meta, err := from.Meta()
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	return &Source{Reader: from, Path: path, Place: etcddir.Place{Index: meta.Index, Term: meta.Term}}, nil
}

// openDirectory opens the data directory of an etcd: its database, and its log from there on.
func (r Restoration) openDirectory() (*Source, error) {
	dir, err := etcddir.Open(r.Directory, r.WAL)
	if err != nil {
		return nil, err
	}
	snapshot, err := dir.Snapshot()
	if err != nil {
		return nil, err
	}
	path, err := dir.Database(snapshot.Place, indexOf)
	if err != nil {
		return nil, err
	}
	from, err := etcdfile.Open(path, true)
	if err != nil {
		return nil, err
	}
	s, err := sourceOf(from, path)
	if err != nil {
		return nil, err
	}
	pairs := s.Place.Index
	log, err := dir.Log(min(pairs, snapshot.Index), pairs)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; import from the directory of another member, or what the database alone holds: --snapshot %s --skip-hash-check", err, path), s.Close())
	}
	s.Log, s.Torn = behind(log.Entries, pairs), log.Torn
	s.Tree = state.TreeSource{Store: snapshot.Store, Log: behind(log.Entries, snapshot.Index)}
	if n := len(s.Log); n > 0 {
		s.Place = etcddir.Place{Index: s.Log[n-1].GetIndex(), Term: s.Log[n-1].GetTerm()}
	}
	return s, nil
}

// behind are the entries behind an index.
func behind(entries []*raftpb.Entry, index uint64) []*raftpb.Entry {
	for len(entries) > 0 && entries[0].GetIndex() <= index {
		entries = entries[1:]
	}
	return entries
}

// indexOf is the place in the log up to which a database goes.
func indexOf(path string) (index uint64, err error) {
	from, err := etcdfile.Open(path, true)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	meta, err := from.Meta()
	return meta.Index, err
}

// options are what the state is imported with.
func (s *Source) options(r Restoration) state.ImportOptions {
	return state.ImportOptions{Bump: r.BumpRevision, Log: s.Log, Tree: s.Tree, Progress: r.Progress, Hash: func(password string) ([]byte, error) {
		return bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	}}
}
