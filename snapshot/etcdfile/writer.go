package etcdfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

const (
	// batchBytes is about how much is written in one go: what the file's writer holds in memory.
	batchBytes = 4 << 20
	// fill is how full pages are made that are written in order.
	fill = 0.95
)

// Writer writes a file. Versions come in ascending order; everything else in any.
//
//	Create ─► Put..., Append... ─► Finish ─► Image
type Writer struct {
	path  string
	db    *bbolt.DB
	tx    *bbolt.Tx
	bytes int // in tx
	last  []byte
	key   []byte // scratch
}

// Create begins a file, which must not exist. What is there after an error is for the caller to remove.
func Create(path string) (*Writer, error) {
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		return nil, fmt.Errorf("etcdfile: create %s: exists (%v)", path, err)
	}
	// Nothing is synced: the file counts when it is complete, and whoever keeps it syncs it then.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("etcdfile: create %s: %w", path, err)
	}
	w := &Writer{path: path, db: db}
	if err := w.begin(); err != nil {
		w.Abort()
		return nil, err
	}
	for _, name := range buckets {
		if _, err := w.tx.CreateBucketIfNotExists(name); err != nil {
			w.Abort()
			return nil, w.failed(err)
		}
	}
	return w, nil
}

func (w *Writer) failed(err error) error { return fmt.Errorf("etcdfile: write %s: %w", w.path, err) }

func (w *Writer) begin() (err error) {
	if w.tx, err = w.db.Begin(true); err != nil {
		return w.failed(err)
	}
	w.bytes = 0
	return nil
}

func (w *Writer) put(bucket, key, value []byte) error {
	if w.bytes > batchBytes {
		if err := w.tx.Commit(); err != nil {
			return w.failed(err)
		}
		if err := w.begin(); err != nil {
			return err
		}
	}
	b := w.tx.Bucket(bucket)
	b.FillPercent = fill
	if err := b.Put(key, value); err != nil {
		return w.failed(err)
	}
	w.bytes += len(key) + len(value)
	return nil
}

// Append writes the next version.
func (w *Writer) Append(v Version) error {
	w.key = appendRevision(w.key[:0], v.Main, v.Sub, v.Tombstone)
	if string(w.key) <= string(w.last) {
		return w.failed(fmt.Errorf("version %x after %x", w.key, w.last))
	}
	w.last = append(w.last[:0], w.key...)
	value, err := proto.Marshal(v.KV) // not into a scratch buffer: bbolt keeps values until the batch is written
	if err != nil {
		return w.failed(err)
	}
	return w.put(bucketKey, w.key, value)
}

// PutLease writes a lease.
func (w *Writer) PutLease(l Lease) error {
	return w.put(bucketLease, binary.BigEndian.AppendUint64(nil, uint64(l.ID)), appendLease(nil, l))
}

// PutMember writes a member.
func (w *Writer) PutMember(m Member) error {
	text, err := json.Marshal(m)
	if err != nil {
		return w.failed(err)
	}
	return w.put(bucketMembers, memberKey(m.ID), text)
}

// PutRemoved writes the id of a member that was removed.
func (w *Writer) PutRemoved(id uint64) error {
	return w.put(bucketMembersRemoved, memberKey(id), []byte("removed"))
}

// PutAlarm writes an alarm that is raised.
func (w *Writer) PutAlarm(a *pb.AlarmMember) error {
	key, err := proto.Marshal(a)
	if err != nil {
		return w.failed(err)
	}
	return w.put(bucketAlarm, key, nil)
}

// PutUser writes a user.
func (w *Writer) PutUser(u *authpb.User) error {
	value, err := proto.Marshal(u)
	if err != nil {
		return w.failed(err)
	}
	return w.put(bucketUsers, u.Name, value)
}

// PutRole writes a role.
func (w *Writer) PutRole(r *authpb.Role) error {
	value, err := proto.Marshal(r)
	if err != nil {
		return w.failed(err)
	}
	return w.put(bucketRoles, r.Name, value)
}

// PutAuth writes whether users must say who they are, and the revision of users and roles.
func (w *Writer) PutAuth(enabled bool, revision uint64) error {
	on := []byte{0}
	if enabled {
		on[0] = 1
	}
	if err := w.put(bucketAuth, authEnabled, on); err != nil {
		return err
	}
	return w.put(bucketAuth, authRevision, binary.BigEndian.AppendUint64(nil, revision))
}

// PutTree writes a record of the v2 tree; what it means is the caller's business.
func (w *Writer) PutTree(key, value []byte) error {
	if _, err := w.tx.CreateBucketIfNotExists(bucketTree); err != nil {
		return w.failed(err)
	}
	return w.put(bucketTree, bytes.Clone(key), bytes.Clone(value)) // bbolt keeps values until the batch is written
}

// PutMeta writes what there is once. Level is always that of this package.
func (w *Writer) PutMeta(m Meta) error {
	conf, err := json.Marshal(confState{Voters: m.Voters, Learners: m.Learners})
	if err != nil {
		return w.failed(err)
	}
	type pair struct{ bucket, key, value []byte }
	pairs := []pair{
		{bucketMeta, metaIndex, binary.BigEndian.AppendUint64(nil, m.Index)},
		{bucketMeta, metaTerm, binary.BigEndian.AppendUint64(nil, m.Term)},
		{bucketMeta, metaConfState, conf},
		{bucketMeta, metaVersion, []byte(Level)},
	}
	if m.Scheduled >= 0 {
		pairs = append(pairs, pair{bucketMeta, metaScheduled, appendRevision(nil, m.Scheduled, 0, false)})
	}
	if m.Finished >= 0 {
		pairs = append(pairs, pair{bucketMeta, metaFinished, appendRevision(nil, m.Finished, 0, false)})
	}
	if m.ClusterVersion != "" {
		pairs = append(pairs, pair{bucketCluster, clusterVersion, []byte(m.ClusterVersion)})
	}
	for _, p := range pairs {
		if err := w.put(p.bucket, p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

// Finish completes the file and opens it for copying.
func (w *Writer) Finish() (*Image, error) {
	err := w.tx.Commit()
	w.tx = nil
	if err != nil {
		return nil, w.failed(err)
	}
	tx, err := w.db.Begin(false)
	if err != nil {
		return nil, w.failed(err)
	}
	return &Image{db: w.db, tx: tx}, nil
}

// Abort gives up a file that was not finished.
func (w *Writer) Abort() {
	if w.tx != nil {
		_ = w.tx.Rollback() // nothing of the file counts
	}
	_ = w.db.Close()
}

// Image is a complete file. Close it.
type Image struct {
	db *bbolt.DB
	tx *bbolt.Tx
}

// Size is the number of bytes that WriteTo writes, a multiple of 512.
func (i *Image) Size() int64 { return i.tx.Size() }

// WriteTo implements io.WriterTo: the file as it is, without a sum.
func (i *Image) WriteTo(to io.Writer) (int64, error) { return i.tx.WriteTo(to) }

// Save writes a snapshot file to path, which must not exist: the image with its sum behind, synced.
func (i *Image) Save(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("etcdfile: save: %w", err)
	}
	sum := sha256.New()
	if _, err = i.WriteTo(io.MultiWriter(f, sum)); err == nil {
		_, err = f.Write(sum.Sum(nil))
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("etcdfile: save %s: %w", path, err)
	}
	return nil
}

// Close closes the file and leaves it where it is.
func (i *Image) Close() error {
	err := i.tx.Rollback()
	if e := i.db.Close(); err == nil {
		err = e
	}
	return err
}
