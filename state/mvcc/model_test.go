package mvcc

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// model is the store as naive as can be: every version of everything, and nothing else.
type model struct {
	versions []modelVersion // in order of revision and sub-revision
	rev      Revision
	floor    Revision
	sub      uint32 // of the command under way
}

type modelVersion struct {
	KeyValue // of a tombstone: Key and ModRevision
	sub      uint32
	deleted  bool
}

func newModel() *model { return &model{rev: 1, floor: -1} }

func (m *model) now() Revision {
	if m.sub > 0 {
		return m.rev + 1
	}
	return m.rev
}

// version is the version of key that counts at rev, nil if there is none.
func (m *model) version(key string, rev Revision) *modelVersion {
	for i := len(m.versions) - 1; i >= 0; i-- {
		if v := &m.versions[i]; string(v.Key) == key && v.ModRevision <= rev {
			return v
		}
	}
	return nil
}

func (m *model) get(key string, rev Revision) *KeyValue {
	if v := m.version(key, rev); v != nil && !v.deleted {
		return &v.KeyValue
	}
	return nil
}

// keys are all keys ever written, sorted.
func (m *model) keys() (keys []string) {
	for _, v := range m.versions {
		keys = append(keys, string(v.Key))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (m *model) selected(key, end string) (keys []string) {
	for _, k := range m.keys() {
		switch {
		case end == "" && k == key, end == "\x00" && k >= key, end > "\x00" && k >= key && k < end:
			keys = append(keys, k)
		}
	}
	return keys
}

func (m *model) put(key, value string, lease int64, ignoreValue, ignoreLease bool) (*KeyValue, error) {
	old := m.get(key, m.now())
	if old == nil && (ignoreValue || ignoreLease) {
		return nil, ErrKeyNotFound
	}
	kv := KeyValue{Key: []byte(key), Value: []byte(value), Lease: lease, ModRevision: m.rev + 1, CreateRevision: m.rev + 1, Version: 1}
	if old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
		if ignoreValue {
			kv.Value = old.Value
		}
		if ignoreLease {
			kv.Lease = old.Lease
		}
		c := *old
		old = &c
	}
	m.versions = append(m.versions, modelVersion{KeyValue: kv, sub: m.sub})
	m.sub++
	return old, nil
}

func (m *model) del(key, end string) (prevs []KeyValue) {
	for _, k := range m.selected(key, end) {
		if old := m.get(k, m.now()); old != nil {
			prevs = append(prevs, *old)
			m.versions = append(m.versions, modelVersion{
				KeyValue: KeyValue{Key: []byte(k), ModRevision: m.rev + 1}, sub: m.sub, deleted: true,
			})
			m.sub++
		}
	}
	return prevs
}

func (m *model) end() {
	if m.sub > 0 {
		m.rev, m.sub = m.rev+1, 0
	}
}

func (m *model) compact(rev Revision) error {
	if rev <= m.floor {
		return ErrCompacted
	}
	if rev > m.rev {
		return ErrFuture
	}
	m.floor = rev
	return nil
}

func (m *model) live(rev Revision) (n int64) {
	for _, k := range m.keys() {
		if m.get(k, rev) != nil {
			n++
		}
	}
	return n
}

// check is whether rev can be read when floor and newest are what they are.
func (m *model) check(rev Revision) error {
	if rev > m.now() {
		return ErrFuture
	}
	if rev > 0 && rev < m.floor {
		return ErrCompacted
	}
	return nil
}

func (m *model) query(q Query) (pairs []KeyValue, sum Summary, err error) {
	if err := m.check(q.Revision); err != nil {
		return nil, Summary{}, err
	}
	rev := q.Revision
	if rev <= 0 {
		rev = m.now()
	}
	for _, k := range m.selected(string(q.Key), string(q.End)) {
		if kv := m.get(k, rev); kv != nil {
			pairs = append(pairs, *kv)
		}
	}
	sum.Count = int64(len(pairs))
	if q.CountOnly {
		return nil, sum, nil
	}
	filtered := q.ModRevisionMax != 0 || q.ModRevisionMin != 0 || q.CreateRevisionMax != 0 || q.CreateRevisionMin != 0
	pairs = slices.DeleteFunc(pairs, func(kv KeyValue) bool {
		return q.ModRevisionMax != 0 && kv.ModRevision > q.ModRevisionMax ||
			q.ModRevisionMin != 0 && kv.ModRevision < q.ModRevisionMin ||
			q.CreateRevisionMax != 0 && kv.CreateRevision > q.CreateRevisionMax ||
			q.CreateRevisionMin != 0 && kv.CreateRevision < q.CreateRevisionMin
	})
	target := q.SortTarget
	if target < 0 || target > 4 {
		target = 0
	}
	if q.SortOrder == 0 && target != 0 && !filtered && q.Limit > 0 && int64(len(pairs))-1 > q.Limit {
		pairs = pairs[:q.Limit+1]
	}
	slices.SortStableFunc(pairs, func(a, b KeyValue) int {
		var c int
		switch target {
		case 0:
			c = bytes.Compare(a.Key, b.Key)
		case 1:
			c = int(a.Version - b.Version)
		case 2:
			c = int(a.CreateRevision - b.CreateRevision)
		case 3:
			c = int(a.ModRevision - b.ModRevision)
		case 4:
			c = bytes.Compare(a.Value, b.Value)
		}
		if q.SortOrder == 2 {
			c = -c
		}
		return c
	})
	if q.Limit > 0 && int64(len(pairs)) > q.Limit {
		pairs, sum.More = pairs[:q.Limit], true
	}
	if q.KeysOnly {
		for i := range pairs {
			pairs[i].Value = nil
		}
	}
	return pairs, sum, nil
}

// events are the events of some revisions under a floor.
func (m *model) events(from, to, floor Revision, lower, upper []byte) (events []Event) {
	for _, v := range m.versions {
		if v.ModRevision < from || v.ModRevision > to || bytes.Compare(v.Key, lower) < 0 || upper != nil && bytes.Compare(v.Key, upper) >= 0 {
			continue
		}
		ev := Event{Kind: Put, Sub: v.sub, KV: v.KeyValue}
		if v.deleted {
			ev.Kind = Delete
		}
		if v.CreateRevision != v.ModRevision && v.ModRevision > floor {
			ev.Prev = m.get(string(v.Key), v.ModRevision-1)
		}
		events = append(events, ev)
	}
	return events
}

// hashKV follows the description of etcd's hash word by word.
func (m *model) hashKV(rev Revision) uint32 {
	if rev == 0 {
		rev = m.rev
	}
	keepAt := rev
	if m.live(rev) == 0 {
		keepAt = m.floor
	}
	var b []byte
	b = append(b, "key"...)
	for i := range m.versions {
		v := &m.versions[i]
		kept := m.version(string(v.Key), keepAt) == v && !v.deleted
		if v.ModRevision > rev || v.ModRevision <= m.floor && !kept {
			continue
		}
		b = binary.BigEndian.AppendUint64(b, uint64(v.ModRevision))
		b = append(b, '_')
		b = binary.BigEndian.AppendUint64(b, uint64(v.sub))
		p := &mvccpb.KeyValue{Key: v.Key}
		if v.deleted {
			b = append(b, 't')
		} else {
			p.CreateRevision, p.ModRevision, p.Version, p.Lease, p.Value = v.CreateRevision, v.ModRevision, v.Version, v.Lease, v.Value
		}
		b, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, p)
	}
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

func (m *model) String() string {
	var b strings.Builder
	for _, v := range m.versions {
		b.WriteString(formatVersion(&v.KeyValue, v.sub))
		b.WriteByte('\n')
	}
	return b.String()
}
