package etcddir

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Log is what the raft log of a directory holds behind a place in it.
type Log struct {
	// ClusterID and MemberID say whose log it is.
	ClusterID, MemberID uint64
	// Entries follow on the place that was asked for, without gaps. The last ones may never have been committed: whoever waited
	// for them does not know, and has to expect either.
	Entries []*raftpb.Entry
	// Commit is up to where the member knew that entries are committed when it last wrote that down, Term the term it was in.
	Commit, Term uint64
	// Snapshots are the places that the log says there was a snapshot of, in its order.
	Snapshots []Place
	// Torn: the last write was not finished.
	Torn bool

	pairs uint64 // up to there, entries about pairs have no data
}

// Place is a place in the log.
type Place struct{ Index, Term uint64 }

// Last is where the log ends: the index of its last entry, or after if there is none behind it.
func (l *Log) Last(after uint64) uint64 {
	if n := len(l.Entries); n > 0 {
		return l.Entries[n-1].GetIndex()
	}
	return after
}

// walFile is one file of the log, and what its name says.
type walFile struct {
	name            string
	sequence, index uint64 // index: no entry before it is in the file
}

// walFiles lists the files of a log in order.
func walFiles(dir string) (files []walFile, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		f := walFile{name: e.Name()}
		if !strings.HasSuffix(f.name, ".wal") || e.IsDir() {
			continue
		}
		if n, err := fmt.Sscanf(f.name, "%016x-%016x.wal", &f.sequence, &f.index); n != 2 || err != nil {
			continue
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b walFile) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(files); i++ {
		if files[i].sequence != files[i-1].sequence+1 {
			return nil, fmt.Errorf("%w: the log in %s has no file between %s and %s", ErrDamaged, dir, files[i-1].name, files[i].name)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: there is no raft log in %s", ErrDamaged, dir)
	}
	return files, nil
}

// Log reads the raft log from behind an index on. Everything is held in memory, but that up to the index pairs only what is about
// the v2 store and members has data: what is about pairs is in the database.
//
// Errors: ErrDamaged, also if the log does not reach back to the index.
func (d *Dir) Log(after, pairs uint64) (*Log, error) {
	l, err := d.read(after, pairs)
	if err == nil {
		err = l.follows(after)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd's raft log in %s: %w", d.wal, err)
	}
	return l, nil
}

// follows refuses a log that leaves a gap behind an index.
func (l *Log) follows(after uint64) error {
	if len(l.Entries) > 0 && l.Entries[0].GetIndex() > after+1 {
		return fmt.Errorf("%w: it begins at %d, but the state that it follows on ends at %d", ErrDamaged, l.Entries[0].GetIndex(), after)
	}
	return nil
}

// read reads all files that may have something behind an index.
func (d *Dir) read(after, pairs uint64) (*Log, error) {
	files, err := walFiles(d.wal)
	if err != nil {
		return nil, err
	}
	for after < math.MaxUint64 && len(files) > 1 && files[1].index <= after+1 {
		files = files[1:]
	}
	l := &Log{pairs: pairs}
	var r *records
	for i, f := range files {
		if r, err = l.readFile(r, filepath.Join(d.wal, f.name), after, i == len(files)-1); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(d.wal, f.name), err)
		}
	}
	return l, nil
}

// readFile takes in one file; records goes on from the file before.
func (l *Log) readFile(before *records, path string, after uint64, isLast bool) (r *records, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if r = before; r == nil {
		r = newRecords(f, info.Size())
	} else {
		r.follow(f, info.Size())
	}
	for {
		rec, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return r, nil
		case errors.Is(err, errTorn) && isLast:
			l.Torn = true
			return r, nil
		case errors.Is(err, errTorn):
			return nil, r.damaged("the file ends in the midst of a record, and is not the last one")
		case err != nil:
			return nil, err
		}
		if err := l.take(rec, after); err != nil {
			return nil, r.damaged("%v", err)
		}
	}
}

// take takes in one record.
func (l *Log) take(rec record, after uint64) error {
	switch rec.kind {
	case kindEntry:
		e := new(raftpb.Entry)
		if err := proto.Unmarshal(rec.data, e); err != nil {
			return fmt.Errorf("no entry: %w", err)
		}
		return l.takeEntry(e, after)
	case kindState:
		var s raftpb.HardState
		if err := proto.Unmarshal(rec.data, &s); err != nil {
			return fmt.Errorf("no state of raft: %w", err)
		}
		l.Commit, l.Term = s.GetCommit(), s.GetTerm()
	case kindMetadata:
		if !eachField(rec.data, func(n protowire.Number, number uint64, _ []byte) {
			switch n {
			case 1:
				l.MemberID = number
			case 2:
				l.ClusterID = number
			}
		}) {
			return fmt.Errorf("no ids: %.40x", rec.data)
		}
	case kindSnapshot:
		var p Place
		if !eachField(rec.data, func(n protowire.Number, number uint64, _ []byte) {
			switch n {
			case 1:
				p.Index = number
			case 2:
				p.Term = number
			}
		}) {
			return fmt.Errorf("no place of a snapshot: %.40x", rec.data)
		}
		l.Snapshots = append(l.Snapshots, p)
	case kindSum:
	default:
		return fmt.Errorf("a record of kind %d", rec.kind)
	}
	return nil
}

// takeEntry takes in an entry, which replaces those from its index on.
func (l *Log) takeEntry(e *raftpb.Entry, after uint64) error {
	i := e.GetIndex()
	if i <= l.Commit { // sums do not cover what kind a record is of: this one may be something else
		return fmt.Errorf("an entry at %d, where one was committed", i)
	}
	if i <= after {
		l.Entries = nil // those behind were replaced
		return nil
	}
	if n := len(l.Entries); n > 0 {
		first := l.Entries[0].GetIndex()
		if i > first+uint64(n) {
			// A snapshot that came from another member may leave a gap; what is before it is part of that snapshot.
			if !slices.ContainsFunc(l.Snapshots, func(p Place) bool { return p.Index == i-1 }) {
				return fmt.Errorf("entry %d follows on %d", i, first+uint64(n)-1)
			}
			l.Entries = nil
		} else if i < first {
			l.Entries = nil
		} else {
			l.Entries = l.Entries[:i-first]
		}
	}
	if n := len(l.Entries); n > 0 && e.GetTerm() < l.Entries[n-1].GetTerm() {
		return fmt.Errorf("entry %d of term %d follows on one of term %d", i, e.GetTerm(), l.Entries[n-1].GetTerm())
	}
	if i <= l.pairs && isAboutPairs(e) {
		e.Data = nil
	}
	l.Entries = append(l.Entries, e)
	return nil
}

// isAboutPairs recognises entries that the v2 store has no part in.
func isAboutPairs(e *raftpb.Entry) bool {
	if e.GetType() != raftpb.EntryType_EntryNormal {
		return false
	}
	if _, ok := DecodeTreeRequest(e.GetData()); ok {
		return false
	}
	isAbout := true
	eachField(e.GetData(), func(n protowire.Number, _ uint64, _ []byte) {
		if n >= requestFieldCluster && n < requestFieldClusterEnd {
			isAbout = false
		}
	})
	return isAbout
}

// Fields of etcdserverpb.InternalRaftRequest about members and versions, which were in the v2 store before.
const (
	requestFieldCluster    protowire.Number = 1300
	requestFieldClusterEnd protowire.Number = 1400
)
