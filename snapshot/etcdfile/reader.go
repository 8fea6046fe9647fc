package etcdfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// ErrNoSum says that there is no sum behind the file: it is not a snapshot that was saved, but perhaps the database of a
// member.
var ErrNoSum = errors.New("snapshot missing hash but --skip-hash-check=false")

// lockTimeout is how long Open waits for somebody who writes to the file.
const lockTimeout = 10 * time.Second

// Reader reads a file and changes nothing of it. Close it.
type Reader struct {
	path string
	db   *bbolt.DB // nil: there is nothing
	tx   *bbolt.Tx
	size int64
}

// Open opens a file to read from. Unless told to skip that, it compares the file with the sum behind it.
//
// Errors: ErrNoSum, ErrDamaged; a wrong sum gives "expected sha256 [...], got [...]". Source: the operations specification,
// 3.11.
func Open(path string, skipSum bool) (_ *Reader, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !skipSum {
		if err := checkSum(path, info.Size()); err != nil {
			return nil, err
		}
	}
	defer guard(&err)
	db, err := bbolt.Open(path, 0o400, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	tx, err := db.Begin(false)
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return &Reader{path: path, db: db, tx: tx, size: info.Size()}, nil
}

// hasSum tells by its size whether a file ends with a sum: databases are made of pages.
func hasSum(size int64) bool { return size%512 == sha256.Size }

func checkSum(path string, size int64) error {
	if !hasSum(size) {
		return ErrNoSum
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, want := sha256.New(), make([]byte, sha256.Size)
	if _, err := io.CopyN(sum, f, size-sha256.Size); err != nil {
		return fmt.Errorf("etcdfile: %s: %w", path, err)
	}
	if _, err := io.ReadFull(f, want); err != nil {
		return fmt.Errorf("etcdfile: %s: %w", path, err)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, want) {
		return fmt.Errorf("expected sha256 %v, got %v", want, got)
	}
	return nil
}

// guard turns a panic of the library, which trusts the pages it reads, into an error.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, p)
	}
}

// Nothing reads a file in which there is nothing, for what comes from elsewhere.
func Nothing() *Reader { return new(Reader) }

// Close ends reading.
func (r *Reader) Close() error {
	if r.db == nil {
		return nil
	}
	err := r.tx.Rollback()
	if e := r.db.Close(); err == nil {
		err = e
	}
	return err
}

// Check looks at every page and returns what is wrong with the file's structure, at most a few of all faults.
//
// Source: the operations specification, 3.11 (text).
func (r *Reader) Check() (err error) {
	if r.db == nil {
		return nil
	}
	defer guard(&err)
	var text []byte
	n := 0
	for e := range r.tx.Check() {
		if n++; n <= 10 {
			text = fmt.Appendf(text, "%v\n", e)
		}
	}
	if n > 0 {
		return fmt.Errorf("snapshot file integrity check failed. %d errors found.\n%s", n, text)
	}
	return nil
}

// each yields a bucket's entries in order. One that is missing is empty. The bytes are valid during the call.
func (r *Reader) each(bucket []byte, yield func(key, value []byte) error) (err error) {
	if r.db == nil {
		return nil
	}
	defer guard(&err)
	b := r.tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	for c, k, v := next(b); k != nil; k, v = c.Next() {
		if v == nil {
			return fmt.Errorf("%w: a bucket within bucket %s", ErrDamaged, bucket)
		}
		if err := yield(k, v); err != nil {
			return err
		}
	}
	return nil
}

func next(b *bbolt.Bucket) (c *bbolt.Cursor, key, value []byte) {
	c = b.Cursor()
	key, value = c.First()
	return c, key, value
}

func (r *Reader) get(bucket, key []byte) (value []byte, err error) {
	if r.db == nil {
		return nil, nil
	}
	defer guard(&err)
	if b := r.tx.Bucket(bucket); b != nil {
		value = b.Get(key)
	}
	return value, nil
}

// Meta reads what there is once.
func (r *Reader) Meta() (m Meta, err error) {
	m.Scheduled, m.Finished = -1, -1
	for _, field := range []struct {
		bucket, key []byte
		read        func([]byte) error
	}{
		{bucketMeta, metaIndex, func(b []byte) (err error) { m.Index, err = decodeUint64("index", b); return err }},
		{bucketMeta, metaTerm, func(b []byte) (err error) { m.Term, err = decodeUint64("term", b); return err }},
		{bucketMeta, metaVersion, func(b []byte) error { m.Level = string(b); return nil }},
		{bucketMeta, metaScheduled, func(b []byte) (err error) { m.Scheduled, _, _, err = decodeRevision(b); return err }},
		{bucketMeta, metaFinished, func(b []byte) (err error) { m.Finished, _, _, err = decodeRevision(b); return err }},
		{bucketMeta, metaConfState, func(b []byte) error {
			var c confState
			if err := json.Unmarshal(b, &c); err != nil {
				return fmt.Errorf("%w: configuration %q: %w", ErrDamaged, b, err)
			}
			m.Voters, m.Learners = c.Voters, c.Learners
			return nil
		}},
		{bucketCluster, clusterVersion, func(b []byte) error { m.ClusterVersion = string(b); return nil }},
	} {
		b, err := r.get(field.bucket, field.key)
		if err == nil && b != nil {
			err = field.read(b)
		}
		if err != nil {
			return Meta{}, err
		}
	}
	m.Scheduled = max(m.Scheduled, m.Finished)
	return m, nil
}

// Versions yields all versions in ascending order. They belong to the receiver.
func (r *Reader) Versions(yield func(Version) error) error {
	return r.each(bucketKey, func(key, value []byte) error {
		v, err := decodeVersion(key, value)
		if err != nil {
			return err
		}
		return yield(v)
	})
}

// VersionCount is how many versions there are, by a look at the pages alone.
func (r *Reader) VersionCount() (n int64, err error) {
	if r.db == nil {
		return 0, nil
	}
	defer guard(&err)
	if b := r.tx.Bucket(bucketKey); b != nil {
		n = int64(b.Stats().KeyN)
	}
	return n, nil
}

// Leases yields all leases.
func (r *Reader) Leases(yield func(Lease) error) error {
	return r.each(bucketLease, func(key, value []byte) error {
		l, err := decodeLease(key, value)
		if err != nil {
			return err
		}
		return yield(l)
	})
}

// Members yields the members.
func (r *Reader) Members(yield func(Member) error) error {
	return r.each(bucketMembers, func(key, value []byte) error {
		m, err := decodeMember(key, value)
		if err != nil {
			return err
		}
		return yield(m)
	})
}

// Tree yields the records of the v2 tree in order. A file that etcd wrote has none.
func (r *Reader) Tree(yield func(key, value []byte) error) error { return r.each(bucketTree, yield) }

// Alarms yields the alarms that are raised.
func (r *Reader) Alarms(yield func(*pb.AlarmMember) error) error {
	return r.each(bucketAlarm, func(key, _ []byte) error {
		a, err := decodeAlarm(key)
		if err != nil {
			return err
		}
		return yield(a)
	})
}

// Users yields all users.
func (r *Reader) Users(yield func(*authpb.User) error) error {
	return r.each(bucketUsers, func(_, value []byte) error {
		u := new(authpb.User)
		if err := proto.Unmarshal(value, u); err != nil {
			return fmt.Errorf("%w: user: %w", ErrDamaged, err)
		}
		return yield(u)
	})
}

// Roles yields all roles.
func (r *Reader) Roles(yield func(*authpb.Role) error) error {
	return r.each(bucketRoles, func(_, value []byte) error {
		role := new(authpb.Role)
		if err := proto.Unmarshal(value, role); err != nil {
			return fmt.Errorf("%w: role: %w", ErrDamaged, err)
		}
		return yield(role)
	})
}

// Auth reads whether users must say who they are, and the revision of users and roles.
func (r *Reader) Auth() (enabled bool, revision uint64, err error) {
	on, err := r.get(bucketAuth, authEnabled)
	if err != nil {
		return false, 0, err
	}
	b, err := r.get(bucketAuth, authRevision)
	if err == nil && b != nil {
		revision, err = decodeUint64("auth revision", b)
	}
	return len(on) == 1 && on[0] == 1, revision, err
}

// Status describes a file.
type Status struct {
	// Hash is a CRC-32C over all buckets, names included.
	Hash uint32
	// Revision is the newest one.
	Revision int64
	// Keys is how many keys exist at that revision.
	Keys int
	// Bytes is the size of the database.
	Bytes int64
	// Level is the level of the storage format; empty for files of etcd 3.5 and before.
	Level string
}

// Status describes the file as `etcdutl snapshot status` does. It reads everything, and holds all keys in memory; Check tells
// whether what it reads can be trusted.
func (r *Reader) Status() (s Status, err error) {
	if r.db == nil {
		return Status{Revision: 1}, nil
	}
	defer guard(&err)
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	err = r.tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		sum.Write(name)
		return r.each(name, func(k, v []byte) error {
			sum.Write(k)
			sum.Write(v)
			return nil
		})
	})
	if err != nil {
		return Status{}, err
	}
	live := map[string]struct{}{}
	err = r.Versions(func(v Version) error {
		if s.Revision = v.Main; v.Tombstone {
			delete(live, string(v.KV.Key))
		} else if len(v.KV.Key) > 0 {
			live[string(v.KV.Key)] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return Status{}, err
	}
	m, err := r.Meta()
	if err != nil {
		return Status{}, err
	}
	s.Hash, s.Keys, s.Level, s.Bytes = sum.Sum32(), len(live), m.Level, r.tx.Size()
	return s, nil
}
