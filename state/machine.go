package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"keelson/state/alarm"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
)

// Position is a place in the log.
type Position struct{ Index, Term uint64 }

// Entry is one committed entry of the log.
type Entry struct {
	Index, Term uint64
	// Data is a batch of commands (see package command). Empty: raft's own empty entry. It must not change any more:
	// what comes of it aliases it.
	Data []byte
	// ConfState is set for a change of raft's configuration: the configuration it leads to, encoded (raftpb.ConfState).
	ConfState []byte
}

// Identity is what a cluster starts from; all members it starts with are given the same.
type Identity = members.Identity

// Options opens a Machine. Nothing in it, nor anything else that is local, may show in what Apply does.
type Options struct {
	// NewestCacheBytes bounds the cache of newest versions. 0: the default of package mvcc.
	NewestCacheBytes int64
}

// Machine is the state machine. See the package comment for who may call what.
type Machine struct {
	db     *storage.DB
	kv     *mvcc.Store
	shared atomic.Pointer[publication]

	// Apply's own.
	leases lease.Table
	hashes hashRing
	buf    []byte // scratch of the hash
	failed error  // what Apply has failed with
}

// publication is what Apply publishes apart from pairs and leases. It is immutable.
type publication struct {
	applied Position
	hash    uint64
	members *members.Set
	alarms  *alarm.Set
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
	b.Set(storage.Meta, metaApplied, appendApplied(nil, bootstrapPosition, xxhash.Sum64(set.AppendTo(nil))))
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
	applied, hash, ok, err := readApplied(db)
	if err != nil {
		return nil, fmt.Errorf("state: open: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("state: open: %w", ErrNotBootstrapped)
	}
	p := &publication{applied: applied, hash: hash}
	if p.members, err = members.Load(db); err != nil {
		return nil, fmt.Errorf("state: open: %w", err)
	}
	if p.alarms, err = alarm.Load(db); err != nil {
		return nil, fmt.Errorf("state: open: %w", err)
	}
	m := &Machine{db: db}
	if m.kv, err = mvcc.Open(db, mvcc.Options{NewestCacheBytes: o.NewestCacheBytes}); err != nil {
		return nil, fmt.Errorf("state: open: %w", err)
	}
	m.hashes.put(applied.Index, hash)
	m.shared.Store(p)
	return m, nil
}

// Applied is the position of the newest entry whose effects can be seen.
func (m *Machine) Applied() Position { return m.shared.Load().applied }

// StateHash is the hash of everything up to the entry at index, the newest applied.
func (m *Machine) StateHash() (index, hash uint64) {
	p := m.shared.Load()
	return p.applied.Index, p.hash
}

// DurableApplied is the position of the newest entry whose effects no crash can take away: the log may be cut up to it.
// Zero: not even the beginning has been flushed.
func (m *Machine) DurableApplied() (Position, error) {
	p, _, _, err := readApplied(m.db.Durable())
	if err != nil {
		return Position{}, fmt.Errorf("state: durable position: %w", err)
	}
	return p, nil
}

// Revision is the newest revision.
func (m *Machine) Revision() mvcc.Revision { return m.kv.Revision() }

// Compacted is the compaction floor: revisions below it can't be read. -1: all can.
func (m *Machine) Compacted() mvcc.Revision { return m.kv.Compacted() }

// LiveKeys is the number of keys that exist.
func (m *Machine) LiveKeys() int64 { return m.kv.LiveKeys() }

// Changes calls f for the events of from <= revision <= to on keys within lower <= key < upper; see mvcc.Store.Changes.
func (m *Machine) Changes(from, to mvcc.Revision, lower, upper []byte, maxBytes int, f func(*mvcc.Event) error) (next mvcc.Revision, err error) {
	return m.kv.Changes(from, to, lower, upper, maxBytes, f)
}

// HashKV hashes the pairs as of a revision; see mvcc.Store.HashKV.
func (m *Machine) HashKV(rev mvcc.Revision) (mvcc.Hash, error) { return m.kv.HashKV(rev) }

// Hash hashes all pairs; see mvcc.Store.Hash.
func (m *Machine) Hash() (hash uint32, rev mvcc.Revision, err error) { return m.kv.Hash() }

// CompactStep removes a part of what has been put below the compaction floor; see mvcc.Store.CompactStep.
func (m *Machine) CompactStep(maxRecords int) (removed int, more bool, err error) {
	return m.kv.CompactStep(maxRecords)
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
