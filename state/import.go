package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/snapshot/etcdfile"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/state/tree"
	"keelson/storage"
)

// ImportOptions say how a state is taken over.
type ImportOptions struct {
	// Bump is added to the newest revision, and then everything that came is compacted: whoever has seen revisions that are
	// not in the file notices that they are gone, instead of being given others under the same numbers. 0: nothing is added,
	// and nothing compacted.
	Bump int64
	// Log is what etcd's raft log holds behind the file: entries that were acknowledged, and that the file does not show yet.
	Log []*raftpb.Entry
	// Tree is the v2 store of the etcd that the file is from. It does not count if the file has a v2 tree, which etcd's never do.
	Tree TreeSource
	// Progress is told of every version of a pair that has been taken over. Nil: nobody wants to know.
	Progress func()
	// Hash hashes passwords that stand in the log, as they do before etcd 3.5. Required with a Log.
	Hash func(password string) ([]byte, error)
}

// Import makes the state of a cluster to be founded in an empty database, as Bootstrap does, and fills it from an etcd file and
// the log behind it: pairs with all their revisions, leases, users and roles, and alarms. The members are those of id, not the
// file's. Members that are given the same and the same id get the same state. The caller flushes it; after an error the database
// is of no use.
//
// Errors: etcdfile.ErrDamaged, mvcc.ErrOrder, mvcc.ErrRevision.
func Import(db *storage.DB, id Identity, from *etcdfile.Reader, o ImportOptions) error {
	if done, err := Bootstrapped(db); err != nil || done {
		return errors.Join(err, errors.New("state: import: there is a state already"))
	}
	m := importer{db: db, from: from, digest: xxhash.New(), progress: o.Progress}
	err := m.run(id, o.Tree)
	if err == nil {
		err = replay(db, o.Log, o.Hash)
	}
	if err == nil && o.Bump != 0 {
		err = bump(db, o.Bump)
	}
	if err != nil {
		return fmt.Errorf("state: import: %w", err)
	}
	return nil
}

// importer is one Import.
type importer struct {
	db     *storage.DB
	from   *etcdfile.Reader
	leases lease.Table
	digest *xxhash.Digest // of all that is taken over
	buf    []byte
	newest mvcc.Revision

	progress func()
}

func (m *importer) run(id Identity, store TreeSource) error {
	if err := m.importLeases(); err != nil {
		return err
	}
	if err := m.importPairs(); err != nil {
		return err
	}
	if err := m.importTree(len(id.Members), store); err != nil {
		return err
	}
	// The applied position comes last: a database without one holds no state.
	b := m.db.NewBatch()
	set, err := members.Bootstrap(b, id)
	if err == nil {
		err = errors.Join(m.importUsers(b), m.importAlarms(b))
	}
	if err != nil {
		b.Discard()
		return err
	}
	m.digest.Write(set.AppendTo(nil))
	b.Set(storage.Meta, metaApplied, appendApplied(nil, bootstrapPosition, m.digest.Sum64()))
	return b.Commit()
}

// importUsers takes over users and roles.
func (m *importer) importUsers(b *storage.Batch) error {
	enabled, revision, err := m.from.Auth()
	if err != nil {
		return err
	}
	var users []*auth.User
	err = m.from.Users(func(u *authpb.User) error {
		users = append(users, &auth.User{
			Name: string(u.Name), Hash: u.Password, NoPassword: u.Options.GetNoPassword(), Roles: u.Roles,
		})
		return m.noteMessage(u)
	})
	if err != nil {
		return err
	}
	var roles []*auth.Role
	err = m.from.Roles(func(r *authpb.Role) error {
		role := &auth.Role{Name: string(r.Name)}
		for _, p := range r.KeyPermission {
			role.Permissions = append(role.Permissions, auth.Permission{Access: auth.Access(p.PermType), Key: p.Key, End: p.RangeEnd})
		}
		roles = append(roles, role)
		return m.noteMessage(r)
	})
	if err != nil {
		return err
	}
	m.note(int64(revision), int64(len(users)), int64(len(roles)))
	auth.Import(b, enabled, revision, users, roles)
	return nil
}

// noteMessage adds a message to the digest.
func (m *importer) noteMessage(p proto.Message) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	m.digest.Write(b)
	return err
}

// importLeaseBatch is how many leases are written in one batch.
const importLeaseBatch = 1 << 12

func (m *importer) importLeases() error {
	b := m.db.NewBatch()
	tx := m.leases.Begin(b)
	n := uint32(0)
	err := m.from.Leases(func(l etcdfile.Lease) error {
		if n++; n%importLeaseBatch == 0 {
			if err := b.Commit(); err != nil {
				return err
			}
			b = m.db.NewBatch()
			tx = m.leases.Begin(b)
		}
		tx.Grant(lease.Lease{
			ID: l.ID, TTLSeconds: l.TTLSeconds, RemainingSeconds: l.RemainingSeconds,
			Grant: lease.Grant{Index: bootstrapPosition.Index, Ordinal: n},
		})
		m.note(l.ID, l.TTLSeconds, l.RemainingSeconds)
		return nil
	})
	if err != nil {
		b.Discard()
		return err
	}
	return b.Commit()
}

func (m *importer) importPairs() error {
	meta, err := m.from.Meta()
	if err != nil {
		return err
	}
	l := mvcc.NewLoader(m.db, meta.Finished, m.hold)
	m.newest = 1
	err = m.from.Versions(func(v etcdfile.Version) error {
		if v.Sub > 1<<32-1 {
			return fmt.Errorf("%w: sub-revision %d", etcdfile.ErrDamaged, v.Sub)
		}
		if m.progress != nil {
			m.progress()
		}
		m.newest = max(m.newest, v.Main)
		if len(v.KV.Key) == 0 {
			return nil // somebody raised the revision
		}
		kv := &mvcc.KeyValue{
			Key: v.KV.Key, Value: v.KV.Value, CreateRevision: v.KV.CreateRevision, ModRevision: v.Main,
			Version: v.KV.Version, Lease: v.KV.Lease,
		}
		if v.Tombstone {
			*kv = mvcc.KeyValue{Key: v.KV.Key, ModRevision: v.Main}
		}
		m.note(v.Main, v.Sub, kv.CreateRevision, kv.Version, kv.Lease)
		m.digest.Write(kv.Key)
		m.digest.Write(kv.Value)
		return l.Add(kv, uint32(v.Sub))
	})
	floor := meta.Scheduled
	m.newest = max(m.newest, floor)
	if err == nil {
		m.note(m.newest, floor)
		err = l.Finish(m.newest, floor)
	}
	if err != nil {
		l.Abort()
	}
	return err
}

// hold lets a key hang on its lease. Leases that are not there hold nothing.
func (m *importer) hold(b *storage.Batch, kv, prev *mvcc.KeyValue) error {
	from, to := int64(0), kv.Lease
	if prev != nil {
		from = prev.Lease
	}
	if from == to {
		return nil
	}
	if to != 0 {
		if _, ok, err := lease.Get(m.db, to); err != nil {
			return err
		} else if !ok {
			to = 0
		}
	}
	m.leases.Begin(b).Move(kv.Key, from, to)
	return nil
}

// importBatchBytes is about how much of the tree is written in one batch.
const importBatchBytes = 4 << 20

// importTree takes over the v2 tree: the file's, if it has one, or etcd's store.
func (m *importer) importTree(members int, store TreeSource) error {
	b := m.db.NewBatch()
	l := tree.NewLoader(b)
	next := func() (*tree.Loader, error) {
		if b.Len() > importBatchBytes {
			if err := b.Commit(); err != nil {
				return nil, err
			}
			b = m.db.NewBatch()
			l.Next(b)
		}
		return l, nil
	}
	some, err := m.importTreeRecords(next)
	if err == nil && !some {
		some, err = m.importStore(store, next)
	}
	if err != nil {
		b.Discard()
		return err
	}
	if !some {
		tree.Bootstrap(b, members)
	}
	return b.Commit()
}

// importTreeRecords takes over the tree that the file has.
func (m *importer) importTreeRecords(next func() (*tree.Loader, error)) (some bool, err error) {
	err = m.from.Tree(func(key, value []byte) error {
		l, err := next()
		if err != nil {
			return err
		}
		some = true
		m.note(int64(len(key)), int64(len(value)))
		m.digest.Write(key)
		m.digest.Write(value)
		return l.Record(key, value)
	})
	if err != nil || !some {
		return some, err
	}
	l, err := next()
	if err == nil {
		l.Finish(tree.Position{}, false)
	}
	return true, err
}

// importStore takes over etcd's v2 store.
func (m *importer) importStore(store TreeSource, next func() (*tree.Loader, error)) (some bool, err error) {
	if store.Read == nil && len(store.Store) == 0 && len(store.Log) == 0 {
		return false, nil
	}
	r, err := openStoreTree(store)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	some, err = r.copyTo(next)
	if err != nil || !some {
		return some, err
	}
	return true, tree.Export(r.db, func(key, value []byte) error {
		m.note(int64(len(key)), int64(len(value)))
		m.digest.Write(key)
		m.digest.Write(value)
		return nil
	})
}

func (m *importer) importAlarms(b *storage.Batch) error {
	none, err := alarm.Load(m.db)
	if err != nil {
		return err
	}
	tx := alarm.Begin(b, none)
	return m.from.Alarms(func(a *pb.AlarmMember) error {
		tx.Raise(alarm.Alarm{Member: a.MemberID, Type: alarm.Type(a.Alarm)})
		m.note(int64(a.MemberID), int64(a.Alarm))
		return nil
	})
}

// note adds numbers to the digest.
func (m *importer) note(numbers ...int64) {
	m.buf = m.buf[:0]
	for _, n := range numbers {
		m.buf = binary.LittleEndian.AppendUint64(m.buf, uint64(n))
	}
	m.digest.Write(m.buf)
}
