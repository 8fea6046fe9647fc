package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"keelson/internal/fault"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/state/tree"
	"keelson/storage"
)

// Position is a place in the log.
type Position struct{ Index, Term uint64 }

// Identity is what a cluster starts from; all members it starts with are given the same.
type Identity = members.Identity

// Options opens a Machine. Nothing in it, nor anything else that is local, may show in what Apply does.
type Options struct {
	// NewestCacheBytes bounds two caches each: of the newest versions of pairs and of the newest nodes of the v2 tree. 0: the
	// defaults of packages mvcc and tree.
	NewestCacheBytes int64
	// EventsKept bounds the bytes that the events of a run hold (see Outcome.Light). 0: the default of package mvcc.
	EventsKept int
}

// Machine is the state machine. See the package comment for who may call what.
type Machine struct {
	// current is the store that readers find. Install replaces it.
	current atomic.Pointer[store]
	o       Options

	// Apply's own, and Install's, which runs on the same goroutine.
	*store // the current one
	hashes hashRing
	buf    []byte // scratch of the hash
	failed error  // what Apply has failed with

	replyMax int // replyMax. Tests use small numbers
}

// store is one database and everything that is read through it. A machine has one at a time.
type store struct {
	db     *storage.DB
	kv     *mvcc.Store
	shared atomic.Pointer[publication]
	users  atomic.Pointer[auth.Set] // at least as new as the pairs that can be read
	leases lease.Table              // Apply's own
	trees  tree.Table
}

// publication is what Apply publishes apart from pairs and leases. It is immutable.
type publication struct {
	applied Position
	hash    uint64
	members *members.Set
	alarms  *alarm.Set
	tree    tree.State
}

// bootstrapPosition is the position that a new state stands at: as if from a snapshot that every first member has been
// given.
var bootstrapPosition = Position{Index: 1, Term: 1}

// Bootstrap makes the state that a new cluster starts from, in an empty database. The caller flushes it.
func Bootstrap(db *storage.DB, id Identity) error {
	if done, err := Bootstrapped(db); err != nil || done {
		return errors.Join(err, errors.New("state: bootstrap: there is a state already"))
	}
	b := db.NewBatch()
	set, err := members.Bootstrap(b, id)
	if err != nil {
		b.Discard()
		return fmt.Errorf("state: bootstrap: %w", err)
	}
	tree.Bootstrap(b, len(id.Members))
	b.Set(storage.Meta, metaApplied, appendApplied(nil, bootstrapPosition, xxhash.Sum64(set.AppendTo(nil))))
	if err := b.Commit(); err != nil {
		return fmt.Errorf("state: bootstrap: %w", err)
	}
	return nil
}

// BootstrapEmpty makes the state of a member that joins a cluster, in an empty database: it knows the cluster's id and
// nothing else, and stands at position 0 with hash 0. Everything else comes with the first snapshot. The caller flushes
// it.
func BootstrapEmpty(db *storage.DB, clusterID uint64) error {
	if done, err := Bootstrapped(db); err != nil || done {
		return errors.Join(err, errors.New("state: bootstrap: there is a state already"))
	}
	b := db.NewBatch()
	if _, err := members.Bootstrap(b, Identity{ClusterID: clusterID}); err != nil {
		b.Discard()
		return fmt.Errorf("state: bootstrap: %w", err)
	}
	b.Set(storage.Meta, metaApplied, appendApplied(nil, Position{}, 0))
	if err := b.Commit(); err != nil {
		return fmt.Errorf("state: bootstrap: %w", err)
	}
	return nil
}

// Bootstrapped reports whether the database holds a state.
func Bootstrapped(db *storage.DB) (bool, error) {
	_, ok, err := db.Get(storage.Meta, metaApplied)
	if err != nil {
		return false, fmt.Errorf("state: %w", err)
	}
	return ok, nil
}

// Open opens the state in db. It reads a few records, however much is stored. Errors: ErrNotBootstrapped.
func Open(db *storage.DB, o Options) (*Machine, error) {
	s, err := openStore(db, o)
	if err != nil {
		return nil, fmt.Errorf("state: open: %w", err)
	}
	m := &Machine{o: o, replyMax: replyMax}
	m.use(s)
	return m, nil
}

// openStore reads where the state in db stands.
func openStore(db *storage.DB, o Options) (*store, error) {
	applied, hash, ok, err := readApplied(db)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotBootstrapped
	}
	p := &publication{applied: applied, hash: hash}
	if p.members, err = members.Load(db); err != nil {
		return nil, err
	}
	if p.alarms, err = alarm.Load(db); err != nil {
		return nil, err
	}
	if p.tree, err = tree.Load(db); err != nil {
		return nil, err
	}
	users, err := auth.Load(db)
	if err != nil {
		return nil, err
	}
	if fault.Mutant("forget-users-at-start") {
		users = new(auth.Set)
	}
	s := &store{db: db}
	s.users.Store(users)
	if s.kv, err = mvcc.Open(db, mvcc.Options{NewestCacheBytes: o.NewestCacheBytes, EventsKept: o.EventsKept}); err != nil {
		return nil, err
	}
	s.trees.Bound(o.NewestCacheBytes)
	s.shared.Store(p)
	return s, nil
}

// use makes s the store that is read and applied to.
func (m *Machine) use(s *store) {
	p := s.shared.Load()
	m.hashes = hashRing{} // those of before were of another store's making
	m.hashes.put(p.applied.Index, p.hash)
	m.store = s
	m.current.Store(s)
}

// Applied is the position of the newest entry whose effects can be seen.
func (m *Machine) Applied() Position { return m.current.Load().shared.Load().applied }

// StateHash is the hash of everything up to the entry at index, the newest applied.
func (m *Machine) StateHash() (index, hash uint64) {
	p := m.current.Load().shared.Load()
	return p.applied.Index, p.hash
}

// Users is the users and roles at this moment. It costs next to nothing.
func (m *Machine) Users() *auth.Set { return m.current.Load().users.Load() }

// TreeState is how the v2 tree stands at this moment. It costs next to nothing.
func (m *Machine) TreeState() tree.State { return m.current.Load().shared.Load().tree }

// DurableApplied is the position of the newest entry whose effects no crash can take away: the log may be cut up to it.
// Zero: not even the beginning has been flushed.
func (m *Machine) DurableApplied() (Position, error) {
	v := m.View() // keeps the database open
	defer v.Close()
	p, _, _, err := readApplied(v.store.db.Durable())
	if err != nil {
		return Position{}, fmt.Errorf("state: durable position: %w", err)
	}
	return p, nil
}

// Revision is the newest revision.
func (m *Machine) Revision() mvcc.Revision { return m.current.Load().kv.Revision() }

// Compacted is the compaction floor: revisions below it can't be read. -1: all can.
func (m *Machine) Compacted() mvcc.Revision { return m.current.Load().kv.Compacted() }

// LiveKeys is the number of keys that exist.
func (m *Machine) LiveKeys() int64 { return m.current.Load().kv.LiveKeys() }

// OpenViews is the number of views that are open; those of a store that was replaced are not counted.
func (m *Machine) OpenViews() int64 { return m.current.Load().kv.OpenViews() }

// NewestCache is how the cache of newest versions does.
func (m *Machine) NewestCache() mvcc.CacheStats { return m.current.Load().kv.NewestCache() }

// Changes calls f for the events of from <= revision <= to on keys within lower <= key < upper; see mvcc.Store.Changes.
func (m *Machine) Changes(from, to mvcc.Revision, lower, upper []byte, maxBytes int, f func(*mvcc.Event) error) (next mvcc.Revision, err error) {
	for {
		next, err = m.current.Load().kv.Changes(from, to, lower, upper, maxBytes, f)
		if err != mvcc.ErrRetired {
			return next, err
		}
	}
}

// HashKV hashes the pairs as of a revision; see mvcc.Store.HashKV.
func (m *Machine) HashKV(rev mvcc.Revision) (mvcc.Hash, error) {
	for {
		h, err := m.current.Load().kv.HashKV(rev)
		if err != mvcc.ErrRetired {
			return h, err
		}
	}
}

// Hash hashes all pairs; see mvcc.Store.Hash.
func (m *Machine) Hash() (hash uint32, rev mvcc.Revision, err error) {
	for {
		hash, rev, err = m.current.Load().kv.Hash()
		if err != mvcc.ErrRetired {
			return hash, rev, err
		}
	}
}

// CompactStep removes a part of what has been put below the compaction floor; see mvcc.Store.CompactStep.
func (m *Machine) CompactStep(maxRecords int) (removed int, more bool, err error) {
	for {
		removed, more, err = m.current.Load().kv.CompactStep(maxRecords)
		if err != mvcc.ErrRetired {
			return removed, more, err
		}
	}
}

// The record of how far the log has been applied, in storage.Meta:
//
//	version(1) = 1 | index(8) | term(8) | hash(8)      all little endian
var metaApplied = []byte("applied")

const (
	appliedVersion = 1
	appliedSize    = 25
)

func appendApplied(dst []byte, p Position, hash uint64) []byte {
	dst = append(dst, appliedVersion)
	dst = binary.LittleEndian.AppendUint64(dst, p.Index)
	dst = binary.LittleEndian.AppendUint64(dst, p.Term)
	return binary.LittleEndian.AppendUint64(dst, hash)
}

func readApplied(r storage.Reader) (p Position, hash uint64, ok bool, err error) {
	v, ok, err := r.Get(storage.Meta, metaApplied)
	if err != nil || !ok {
		return Position{}, 0, false, err
	}
	if len(v) != appliedSize || v[0] != appliedVersion {
		return Position{}, 0, false, fmt.Errorf("applied position is not one of version %d: %x", appliedVersion, v)
	}
	p.Index = binary.LittleEndian.Uint64(v[1:])
	p.Term = binary.LittleEndian.Uint64(v[9:])
	return p, binary.LittleEndian.Uint64(v[17:]), true, nil
}
