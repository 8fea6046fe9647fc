package members

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Member is one member of the cluster.
type Member struct {
	ID uint64
	// Name is empty until the member has started and published itself.
	Name string
	// PeerURLs is sorted.
	PeerURLs []string
	// ClientURLs is empty until the member has started and published itself.
	ClientURLs []string
	IsLearner  bool
	// AutoPromote asks the leader to promote the member by itself as soon as it has caught up. Only a learner has it, and
	// no API shows it.
	AutoPromote bool
}

// The record of an id, under the id in big endian:
//
//	version(1) = 1 | state(1): 1 voter, 2 learner, 3 removed, 4 learner to be promoted by the leader
//	and, unless removed:
//	name | peer URL count(uvarint) | peer URL... | client URL count(uvarint) | client URL...
//
// where a name or URL is length(uvarint) | bytes.
const (
	recordVersion = 1

	stateVoter       = 1
	stateLearner     = 2
	stateRemoved     = 3
	stateAutoPromote = 4
)

func appendID(dst []byte, id uint64) []byte { return binary.BigEndian.AppendUint64(dst, id) }

func decodeID(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("members: key %x is no id", key)
	}
	return binary.BigEndian.Uint64(key), nil
}

func appendMember(dst []byte, m *Member) []byte {
	state := byte(stateVoter)
	if m.IsLearner {
		state = stateLearner
		if m.AutoPromote {
			state = stateAutoPromote
		}
	}
	dst = append(dst, recordVersion, state)
	dst = appendString(dst, m.Name)
	dst = appendStrings(dst, m.PeerURLs)
	return appendStrings(dst, m.ClientURLs)
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendString(dst, s)
	}
	return dst
}

// decodeRecord reads the record of an id; removed means that there is nothing but the id.
func decodeRecord(id uint64, b []byte) (m Member, removed bool, err error) {
	d := decoder{rest: b}
	version, state := d.byte(), d.byte()
	if d.bad || version != recordVersion || state < stateVoter || state > stateAutoPromote {
		return Member{}, false, fmt.Errorf("members: record of %x is not one of version %d: %x", id, recordVersion, b)
	}
	m.ID = id
	if state != stateRemoved {
		m.IsLearner = state != stateVoter
		m.AutoPromote = state == stateAutoPromote
		m.Name = d.string()
		m.PeerURLs = d.strings()
		m.ClientURLs = d.strings()
	}
	if d.bad || len(d.rest) > 0 {
		return Member{}, false, fmt.Errorf("members: record of %x is damaged: %x", id, b)
	}
	return m, state == stateRemoved, nil
}

// decoder takes a record apart. Once bad, everything it gives is empty.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	b := d.take(1)
	if d.bad {
		return 0
	}
	return b[0]
}

func (d *decoder) uvarint() uint64 {
	n, k := binary.Uvarint(d.rest)
	if d.bad || k <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[k:]
	return n
}

func (d *decoder) string() string { return string(d.take(d.uvarint())) }

func (d *decoder) strings() []string {
	n := d.uvarint()
	if d.bad || n > uint64(len(d.rest)) { // each takes a byte at least
		d.bad = true
		return nil
	}
	var list []string
	for range n {
		list = append(list, d.string())
	}
	return list
}

// clone copies what a caller could change.
func (m *Member) clone() Member {
	c := *m
	c.PeerURLs = slices.Clone(m.PeerURLs)
	c.ClientURLs = slices.Clone(m.ClientURLs)
	return c
}
