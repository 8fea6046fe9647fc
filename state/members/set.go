package members

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"keelson/storage"
)

// Set is the membership at one moment. It is immutable; what it returns must not be changed.
type Set struct {
	clusterID uint64
	version   string
	downgrade string
	confState []byte
	list      []Member // by id
	removed   []uint64 // ascending
}

// ClusterID names the cluster.
func (s *Set) ClusterID() uint64 { return s.clusterID }

// Version is the version that all members agree to behave as, "major.minor.patch"; empty: not agreed yet.
func (s *Set) Version() string { return s.version }

// Downgrade is the earlier version that the cluster is on its way to, "major.minor.patch"; empty: to none.
func (s *Set) Downgrade() string { return s.downgrade }

// ConfState is raft's configuration, encoded (raftpb.ConfState); empty if there are no members.
func (s *Set) ConfState() []byte { return s.confState }

// List returns all members, by id.
func (s *Set) List() []Member { return s.list }

// Voters returns the ids of the members that count for a quorum, ascending.
func (s *Set) Voters() []uint64 { return s.ids(false) }

// Learners returns the ids of the learners, ascending.
func (s *Set) Learners() []uint64 { return s.ids(true) }

func (s *Set) ids(learners bool) []uint64 {
	var ids []uint64
	for i := range s.list {
		if s.list[i].IsLearner == learners {
			ids = append(ids, s.list[i].ID)
		}
	}
	return ids
}

// Counts returns how many voters and how many learners there are.
func (s *Set) Counts() (voters, learners int) {
	for i := range s.list {
		if s.list[i].IsLearner {
			learners++
		}
	}
	return len(s.list) - learners, learners
}

// Owner returns the member that has a peer URL.
func (s *Set) Owner(peerURL string) (id uint64, ok bool) {
	for i := range s.list {
		if slices.Contains(s.list[i].PeerURLs, peerURL) {
			return s.list[i].ID, true
		}
	}
	return 0, false
}

// AppendTo appends bytes that are equal exactly for equal Sets.
func (s *Set) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, s.clusterID)
	dst = appendString(dst, s.version)
	dst = appendString(dst, string(s.confState))
	dst = binary.AppendUvarint(dst, uint64(len(s.list)))
	for i := range s.list {
		dst = appendMember(appendID(dst, s.list[i].ID), &s.list[i])
	}
	for _, id := range s.removed {
		dst = appendID(dst, id)
	}
	if s.downgrade != "" {
		dst = appendString(dst, s.downgrade)
	}
	return dst
}

// Get returns one member.
func (s *Set) Get(id uint64) (Member, bool) {
	if i, ok := s.find(id); ok {
		return s.list[i], true
	}
	return Member{}, false
}

// Removed reports whether id once was a member and is for ever gone.
func (s *Set) Removed(id uint64) bool {
	_, ok := slices.BinarySearch(s.removed, id)
	return ok
}

// RemovedIDs returns the ids that once were members, ascending.
func (s *Set) RemovedIDs() []uint64 { return s.removed }

func (s *Set) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(s.list, id, func(m Member, id uint64) int { return cmp.Compare(m.ID, id) })
}

// Identity is what a cluster starts from.
type Identity struct {
	ClusterID uint64
	Members   []Member
	ConfState []byte // raft's configuration, encoded
}

// Names in storage.Meta. Cluster is version(1) = 1 | cluster id(8, little endian) and the mark of a database that holds
// a state; the others hold the bytes themselves after a version byte.
var (
	metaCluster   = []byte("cluster")
	metaVersion   = []byte("cluster-version")
	metaDowngrade = []byte("downgrade")
	metaConfState = []byte("conf-state")
)

const metaRecordVersion = 1

// ErrNone is in the error of Load when the database knows of no cluster.
var ErrNone = errors.New("no cluster in this database")

// Load reads the membership.
func Load(r storage.Reader) (*Set, error) {
	cluster, err := meta(r, metaCluster)
	if err != nil {
		return nil, err
	}
	if cluster == nil {
		return nil, fmt.Errorf("members: load: %w", ErrNone)
	}
	if len(cluster) != 8 {
		return nil, fmt.Errorf("members: load: cluster id of %d bytes", len(cluster))
	}
	s := &Set{clusterID: binary.LittleEndian.Uint64(cluster)}
	version, err := meta(r, metaVersion)
	if err != nil {
		return nil, err
	}
	s.version = string(version)
	downgrade, err := meta(r, metaDowngrade)
	if err != nil {
		return nil, err
	}
	s.downgrade = string(downgrade)
	if s.confState, err = meta(r, metaConfState); err != nil {
		return nil, err
	}
	if err := s.loadMembers(r); err != nil {
		return nil, fmt.Errorf("members: load: %w", err)
	}
	if err := s.agreesWith(s.confState); err != nil {
		return nil, fmt.Errorf("members: load: %w", err)
	}
	return s, nil
}

// meta reads one of our names in Meta, without its version byte; nil if there is none.
func meta(r storage.Reader, name []byte) ([]byte, error) {
	v, ok, err := r.Get(storage.Meta, name)
	if err != nil {
		return nil, fmt.Errorf("members: load %s: %w", name, err)
	}
	if !ok {
		return nil, nil
	}
	if len(v) == 0 || v[0] != metaRecordVersion {
		return nil, fmt.Errorf("members: load %s: not of version %d: %x", name, metaRecordVersion, v)
	}
	return v[1:], nil
}

func (s *Set) loadMembers(r storage.Reader) error {
	it, err := r.Iter(storage.Members, nil, nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := s.loadMember(it); err != nil {
			it.Close()
			return err
		}
	}
	return it.Close()
}

func (s *Set) loadMember(it *storage.Iter) error {
	id, err := decodeID(it.Key())
	if err != nil {
		return err
	}
	v, err := it.Value()
	if err != nil {
		return err
	}
	m, removed, err := decodeRecord(id, v)
	if err != nil {
		return err
	}
	if removed {
		s.removed = append(s.removed, id)
	} else {
		s.list = append(s.list, m)
	}
	return nil
}
