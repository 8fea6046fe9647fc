package members

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"keelson/storage"
)

// ErrNotFound refuses a change of a member that there is not, or not any more.
var ErrNotFound = errors.New("member not found")

// Tx writes to one batch. It belongs to the goroutine that applies.
type Tx struct {
	b       *storage.Batch
	set     *Set
	changed bool // set is a private copy, newer than what Begin was given
}

// Begin starts writing to a batch. s is the membership as published last.
func Begin(b *storage.Batch, s *Set) *Tx { return &Tx{b: b, set: s} }

// Set is the membership with the changes so far. It must not be used before the batch is committed, and the Tx not after.
func (tx *Tx) Set() *Set { return tx.set }

// Changed reports whether anything differs from what Begin was given.
func (tx *Tx) Changed() bool { return tx.changed }

// edit makes the Set one that may be changed in place: lists are replaced, never written to.
func (tx *Tx) edit() *Set {
	if !tx.changed {
		c := *tx.set
		tx.set, tx.changed = &c, true
	}
	return tx.set
}

// Publish sets a member's name and client URLs, and nothing else about it. Refusal: ErrNotFound.
func (tx *Tx) Publish(id uint64, name string, clientURLs []string) error {
	i, ok := tx.set.find(id)
	if !ok {
		return ErrNotFound
	}
	m := tx.set.list[i].clone()
	m.Name = name
	m.ClientURLs = slices.Clone(clientURLs)
	s := tx.edit()
	s.list = slices.Clone(s.list)
	s.list[i] = m
	tx.store(&m)
	return nil
}

// SetVersion sets the version that all members agree to behave as.
func (tx *Tx) SetVersion(version string) {
	tx.edit().version = version
	tx.b.Set(storage.Meta, metaVersion, append([]byte{metaRecordVersion}, version...))
}

// SetConfState stores raft's configuration.
func (tx *Tx) SetConfState(encoded []byte) {
	v := append([]byte{metaRecordVersion}, encoded...)
	tx.edit().confState = v[1:]
	tx.b.Set(storage.Meta, metaConfState, v)
}

func (tx *Tx) store(m *Member) {
	tx.b.Set(storage.Members, appendID(nil, m.ID), appendMember(nil, m))
}

// Bootstrap stores what a cluster starts from in an empty database, and returns it.
func Bootstrap(b *storage.Batch, id Identity) (*Set, error) {
	list, err := checkIdentity(id)
	if err != nil {
		return nil, fmt.Errorf("members: bootstrap: %w", err)
	}
	tx := Begin(b, &Set{})
	s := tx.edit()
	s.clusterID = id.ClusterID
	s.list = list
	for i := range list {
		tx.store(&list[i])
	}
	cluster := binary.LittleEndian.AppendUint64([]byte{metaRecordVersion}, id.ClusterID)
	b.Set(storage.Meta, metaCluster, cluster)
	tx.SetConfState(id.ConfState)
	return tx.Set(), nil
}

// checkIdentity returns the members by id, with peer URLs sorted.
func checkIdentity(id Identity) ([]Member, error) {
	if id.ClusterID == 0 {
		return nil, errors.New("no cluster id")
	}
	var list []Member
	owner := map[string]uint64{}
	for i := range id.Members {
		m := id.Members[i].clone()
		slices.Sort(m.PeerURLs)
		for _, u := range m.PeerURLs {
			if other, ok := owner[u]; ok {
				return nil, fmt.Errorf("members %x and %x share the peer URL %s", other, m.ID, u)
			}
			owner[u] = m.ID
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	for i := range list {
		if list[i].ID == 0 || i > 0 && list[i].ID == list[i-1].ID {
			return nil, fmt.Errorf("member id %x is given twice, or zero", list[i].ID)
		}
	}
	return list, nil
}
