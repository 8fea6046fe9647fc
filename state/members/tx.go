package members

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"keelson/storage"
)

// Refusals. Whatever meets one of them, or ErrConfiguration, changes nothing.
var (
	// ErrNotFound refuses a change of a member that there is not, or not any more, and to add one that was removed.
	ErrNotFound = errors.New("member not found")
	// ErrExists refuses to add a member under an id that is taken.
	ErrExists = errors.New("member id already exists")
	// ErrPeerURLExists refuses to give a member a peer URL that another one has.
	ErrPeerURLExists = errors.New("peer URLs already exist")
	// ErrTooManyLearners refuses to add a learner beyond the number that the proposer allows.
	ErrTooManyLearners = errors.New("too many learner members in cluster")
	// ErrNotLearner refuses to promote a voter.
	ErrNotLearner = errors.New("can only promote a learner member")
	// ErrLastVoter refuses to remove the only voter: nobody would be left to agree on anything.
	ErrLastVoter = errors.New("the last voting member can't be removed")
	// ErrDowngrading refuses to begin a downgrade while one is under way, ErrNotDowngrading to end one while none is.
	ErrDowngrading    = errors.New("cluster has a downgrade job in progress")
	ErrNotDowngrading = errors.New("no inflight downgrade job")
)

// Tx writes to one batch. It belongs to the goroutine that applies.
type Tx struct {
	b   *storage.Batch
	was *Set // what Begin was given
	set *Set
}

// Begin starts writing to a batch. s is the membership as published last.
func Begin(b *storage.Batch, s *Set) *Tx { return &Tx{b: b, was: s, set: s} }

// Set is the membership with the changes so far; each change makes another. It must not be used before the batch is
// committed, and the Tx not after.
func (tx *Tx) Set() *Set { return tx.set }

// Changed reports whether anything was written.
func (tx *Tx) Changed() bool { return tx.set != tx.was }

// copy returns a copy of the Set that may be changed. Its lists are replaced, never written to.
func (tx *Tx) copy() *Set {
	c := *tx.set
	return &c
}

// with returns a copy of the Set in which m takes the place at i of the member there.
func (tx *Tx) with(i int, m Member) *Set {
	s := tx.copy()
	s.list = slices.Clone(s.list)
	s.list[i] = m
	return s
}

// Add adds a member; conf is the configuration with it. Of m, ID, PeerURLs, IsLearner and AutoPromote count. A learner may
// be added while there are fewer than learnersMax.
//
// Refusals, the first that holds: ErrNotFound if the id was removed before, ErrExists, ErrPeerURLExists,
// ErrTooManyLearners, ErrConfiguration. Source: v3-api.md of the specification, MemberAdd.
func (tx *Tx) Add(m Member, learnersMax int64, conf []byte) error {
	i, taken := tx.set.find(m.ID)
	_, learners := tx.set.Counts()
	switch {
	case tx.set.Removed(m.ID):
		return ErrNotFound
	case taken || m.ID == 0: // 0 means nobody wherever an id stands, and so is always taken
		return ErrExists
	case tx.set.othersHave(m.ID, m.PeerURLs):
		return ErrPeerURLExists
	case m.IsLearner && int64(learners) >= learnersMax:
		return ErrTooManyLearners
	}
	added := Member{
		ID: m.ID, PeerURLs: slices.Sorted(slices.Values(m.PeerURLs)),
		IsLearner: m.IsLearner, AutoPromote: m.IsLearner && m.AutoPromote,
	}
	next := tx.copy()
	next.list = slices.Insert(slices.Clone(next.list), i, added)
	if err := tx.reconfigure(next, conf); err != nil {
		return err
	}
	tx.store(&added)
	return nil
}

// othersHave reports whether any of the URLs is a peer URL of another member than id.
func (s *Set) othersHave(id uint64, peerURLs []string) bool {
	for _, u := range peerURLs {
		if owner, ok := s.Owner(u); ok && owner != id {
			return true
		}
	}
	return false
}

// Remove removes a member for ever; conf is the configuration without it. Refusals, the first that holds: ErrNotFound,
// ErrLastVoter, ErrConfiguration.
func (tx *Tx) Remove(id uint64, conf []byte) error {
	i, ok := tx.set.find(id)
	if !ok {
		return ErrNotFound
	}
	if voters, _ := tx.set.Counts(); voters == 1 && !tx.set.list[i].IsLearner {
		return ErrLastVoter
	}
	next := tx.copy()
	next.list = slices.Delete(slices.Clone(next.list), i, i+1)
	at, _ := slices.BinarySearch(next.removed, id)
	next.removed = slices.Insert(slices.Clone(next.removed), at, id)
	if err := tx.reconfigure(next, conf); err != nil {
		return err
	}
	tx.b.Set(storage.Members, appendID(nil, id), []byte{recordVersion, stateRemoved})
	return nil
}

// Promote makes a learner a voter; conf is the configuration with it as one. Refusals, the first that holds: ErrNotFound,
// ErrNotLearner, ErrConfiguration.
func (tx *Tx) Promote(id uint64, conf []byte) error {
	i, ok := tx.set.find(id)
	if !ok {
		return ErrNotFound
	}
	m := tx.set.list[i].clone()
	if !m.IsLearner {
		return ErrNotLearner
	}
	m.IsLearner, m.AutoPromote = false, false
	if err := tx.reconfigure(tx.with(i, m), conf); err != nil {
		return err
	}
	tx.store(&m)
	return nil
}

// Update sets a member's peer URLs, and nothing else about it. Refusals, the first that holds: ErrNotFound,
// ErrPeerURLExists.
func (tx *Tx) Update(id uint64, peerURLs []string) error {
	i, ok := tx.set.find(id)
	if !ok {
		return ErrNotFound
	}
	if tx.set.othersHave(id, peerURLs) {
		return ErrPeerURLExists
	}
	m := tx.set.list[i].clone()
	m.PeerURLs = slices.Sorted(slices.Values(peerURLs))
	tx.set = tx.with(i, m)
	tx.store(&m)
	return nil
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
	tx.set = tx.with(i, m)
	tx.store(&m)
	return nil
}

// SetVersion sets the version that all members agree to behave as.
func (tx *Tx) SetVersion(version string) {
	tx.set = tx.copy()
	tx.set.version = version
	tx.b.Set(storage.Meta, metaVersion, append([]byte{metaRecordVersion}, version...))
}

// SetDowngrade records the earlier version that the cluster is on its way to; empty: to none any more.
//
// Refusals: ErrDowngrading if it is on its way already, ErrNotDowngrading if it is not.
func (tx *Tx) SetDowngrade(target string) error {
	switch isUnderWay := tx.set.downgrade != ""; {
	case target != "" && isUnderWay:
		return ErrDowngrading
	case target == "" && !isUnderWay:
		return ErrNotDowngrading
	}
	tx.set = tx.copy()
	tx.set.downgrade = target
	if target == "" {
		tx.b.Delete(storage.Meta, metaDowngrade)
	} else {
		tx.b.Set(storage.Meta, metaDowngrade, append([]byte{metaRecordVersion}, target...))
	}
	return nil
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
	s := &Set{clusterID: id.ClusterID, list: list}
	if err := s.agreesWith(id.ConfState); err != nil {
		return nil, fmt.Errorf("members: bootstrap: %w", err)
	}
	tx := Begin(b, s)
	for i := range list {
		tx.store(&list[i])
	}
	cluster := binary.LittleEndian.AppendUint64([]byte{metaRecordVersion}, id.ClusterID)
	b.Set(storage.Meta, metaCluster, cluster)
	tx.storeConfState()
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
		m.AutoPromote = m.IsLearner && m.AutoPromote
		slices.Sort(m.PeerURLs)
		for _, u := range m.PeerURLs {
			if other, ok := owner[u]; ok {
				return nil, fmt.Errorf("members %x and %x share the peer URL %s", other, m.ID, u)
			}
			owner[u] = m.ID
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for i := range list {
		if list[i].ID == 0 || i > 0 && list[i].ID == list[i-1].ID {
			return nil, fmt.Errorf("member id %x is given twice, or zero", list[i].ID)
		}
	}
	return list, nil
}
