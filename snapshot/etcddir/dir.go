package etcddir

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Dir is the data directory of an etcd that does not run.
type Dir struct{ snap, wal string }

// Open looks for what an etcd leaves: root is what it was given as --data-dir, wal what it was given as --wal-dir; empty: it was
// given none.
//
// Errors: there is no etcd's directory, or its log is elsewhere.
func Open(root, wal string) (*Dir, error) {
	d := &Dir{snap: filepath.Join(root, "member", "snap"), wal: wal}
	if d.wal == "" {
		d.wal = filepath.Join(root, "member", "wal")
	}
	if info, err := os.Stat(d.snap); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s is no data directory of an etcd (%w): give the directory that holds member/snap, what etcd was started with as --data-dir", root, cause(err))
	}
	if info, err := os.Stat(d.wal); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("the raft log is not in %s (%w), and without it what was acknowledged last is lost: "+
			"give the directory that etcd was started with as --wal-dir", d.wal, cause(err))
	}
	return d, nil
}

func cause(err error) error {
	if err == nil {
		return errors.New("not a directory")
	}
	return err
}

// Snapshot is the newest snapshot of a directory.
type Snapshot struct {
	Place
	// Store is the v2 store in etcd's JSON; empty in directories of etcd 3.7 and later.
	Store []byte
}

// Snapshot reads the newest snapshot that is whole. Without one it is at place 0. One that the log does not know does not count:
// etcd was killed before it was finished.
func (d *Dir) Snapshot() (Snapshot, error) {
	names, err := d.snapshotNames()
	if err != nil || len(names) == 0 {
		return Snapshot{}, err
	}
	log, err := d.read(math.MaxUint64, 0)
	if err != nil {
		return Snapshot{}, err
	}
	for _, name := range names {
		s, e := readSnapshot(filepath.Join(d.snap, name))
		if e == nil && s.Index <= log.Commit && slices.Contains(log.Snapshots, s.Place) {
			return s, nil
		}
		err = errors.Join(err, e)
	}
	return Snapshot{}, err
}

// snapshotNames lists the files of snapshots, the newest first.
func (d *Dir) snapshotNames() (names []string, err error) {
	entries, err := os.ReadDir(d.snap)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".snap") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// readSnapshot reads the file of a snapshot: a message of a sum, CRC-32C, and the bytes that it is of, which are a raftpb.Snapshot.
func readSnapshot(path string) (s Snapshot, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	var sum uint32
	var data []byte
	ok := eachField(b, func(n protowire.Number, number uint64, text []byte) {
		switch n {
		case 1:
			sum = uint32(number)
		case 2:
			data = text
		}
	})
	if !ok || len(data) == 0 || crc32.Checksum(data, castagnoli) != sum {
		return s, fmt.Errorf("%w: %s is no snapshot, or its sum is wrong", ErrDamaged, path)
	}
	var r raftpb.Snapshot
	if err := proto.Unmarshal(data, &r); err != nil {
		return s, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	m := r.GetMetadata()
	return Snapshot{Place: Place{Index: m.GetIndex(), Term: m.GetTerm()}, Store: r.GetData()}, nil
}

// Database is the file of the database: that of the member, unless it was killed after it had received another from a member,
// with the snapshot at a place, and before it had put it in place. index tells how far a file goes.
func (d *Dir) Database(at Place, index func(path string) (uint64, error)) (string, error) {
	own := filepath.Join(d.snap, "db")
	received := filepath.Join(d.snap, fmt.Sprintf("%016x.snap.db", at.Index))
	if _, err := os.Stat(received); at.Index == 0 || err != nil {
		return own, nil
	}
	if has, err := index(own); err == nil && has >= at.Index {
		return own, nil
	}
	return received, nil
}
