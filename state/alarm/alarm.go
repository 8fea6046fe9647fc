package alarm

import (
	"encoding/binary"
	"fmt"
	"slices"

	"keelson/storage"
)

// Type says what is wrong. The numbers are those of the v3 API's AlarmType.
type Type int32

// The alarms with a meaning. Others can be raised, and forbid nothing.
const (
	None    Type = 0 // never raised; asks for all types when listing
	NoSpace Type = 1 // nothing more may be stored
	Corrupt Type = 2 // members hold different data: nothing may change
)

// Alarm is one raised alarm.
type Alarm struct {
	Member uint64 // 0: not known which
	Type   Type
}

func compare(a, b Alarm) int {
	switch {
	case a.Member < b.Member:
		return -1
	case a.Member > b.Member:
		return 1
	}
	return int(int64(a.Type) - int64(b.Type))
}

// The key of an alarm is member id(8, big endian) | type(4, big endian); the value is empty.
func appendKey(dst []byte, a Alarm) []byte {
	dst = binary.BigEndian.AppendUint64(dst, a.Member)
	return binary.BigEndian.AppendUint32(dst, uint32(a.Type))
}

func decodeKey(key []byte) (Alarm, error) {
	if len(key) != 12 {
		return Alarm{}, fmt.Errorf("alarm: key %x is not 12 bytes long", key)
	}
	return Alarm{
		Member: binary.BigEndian.Uint64(key),
		Type:   Type(binary.BigEndian.Uint32(key[8:])),
	}, nil
}

// Set is what is raised at one moment. It is immutable; its zero value is empty.
type Set struct {
	list             []Alarm // by member, then type
	noSpace, corrupt bool
}

func newSet(list []Alarm) *Set {
	s := &Set{list: list}
	for _, a := range list {
		s.noSpace = s.noSpace || a.Type == NoSpace
		s.corrupt = s.corrupt || a.Type == Corrupt
	}
	return s
}

// NoSpace reports whether any member has run out of space.
func (s *Set) NoSpace() bool { return s.noSpace }

// Corrupt reports whether any member's data is in doubt.
func (s *Set) Corrupt() bool { return s.corrupt }

// List returns the alarms of one type (None: of all), by member and type.
func (s *Set) List(t Type) []Alarm {
	var list []Alarm
	for _, a := range s.list {
		if t == None || t == a.Type {
			list = append(list, a)
		}
	}
	return list
}

// Load reads what is raised.
func Load(r storage.Reader) (*Set, error) {
	it, err := r.Iter(storage.Alarms, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("alarm: load: %w", err)
	}
	var list []Alarm
	for ok := it.First(); ok; ok = it.Next() {
		a, err := decodeKey(it.Key())
		if err != nil {
			it.Close()
			return nil, err
		}
		list = append(list, a)
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("alarm: load: %w", err)
	}
	slices.SortFunc(list, compare) // types are signed, keys are not
	return newSet(list), nil
}

// Tx writes to one batch. It belongs to the goroutine that applies.
type Tx struct {
	b       *storage.Batch
	set     *Set
	changed bool
}

// Begin starts writing to a batch. s is what was published last.
func Begin(b *storage.Batch, s *Set) *Tx { return &Tx{b: b, set: s} }

// Set is what is raised with the changes so far.
func (tx *Tx) Set() *Set { return tx.set }

// Changed reports whether anything differs from what Begin was given.
func (tx *Tx) Changed() bool { return tx.changed }

// Raise raises an alarm; changed is false if it was raised already, or is of type None.
func (tx *Tx) Raise(a Alarm) (changed bool) {
	i, found := slices.BinarySearchFunc(tx.set.list, a, compare)
	if found || a.Type == None {
		return false
	}
	tx.b.Set(storage.Alarms, appendKey(nil, a), nil)
	tx.replace(slices.Insert(slices.Clone(tx.set.list), i, a))
	return true
}

// Clear ends an alarm; changed is false if it was not raised.
func (tx *Tx) Clear(a Alarm) (changed bool) {
	i, found := slices.BinarySearchFunc(tx.set.list, a, compare)
	if !found {
		return false
	}
	tx.b.Delete(storage.Alarms, appendKey(nil, a))
	tx.replace(slices.Delete(slices.Clone(tx.set.list), i, i+1))
	return true
}

// ClearOf ends all alarms of one member.
func (tx *Tx) ClearOf(member uint64) {
	for _, a := range tx.set.List(None) {
		if a.Member == member {
			tx.Clear(a)
		}
	}
}

func (tx *Tx) replace(list []Alarm) {
	tx.set = newSet(list)
	tx.changed = true
}
