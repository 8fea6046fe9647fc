package members

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/storage"
)

// agreesWith returns an error unless an encoded configuration has the voters and learners of the Set and is not a joint
// one. The empty configuration agrees with no members.
func (s *Set) agreesWith(encoded []byte) error {
	var conf raftpb.ConfState
	if err := proto.Unmarshal(encoded, &conf); err != nil {
		return fmt.Errorf("configuration %x: %w", encoded, err)
	}
	if len(conf.GetVotersOutgoing()) > 0 || len(conf.GetLearnersNext()) > 0 || conf.GetAutoLeave() {
		return fmt.Errorf("configuration %v is a joint one", &conf)
	}
	voters, learners := slices.Sorted(slices.Values(conf.GetVoters())), slices.Sorted(slices.Values(conf.GetLearners()))
	if !slices.Equal(voters, s.Voters()) || !slices.Equal(learners, s.Learners()) {
		return fmt.Errorf("configuration with voters %x and learners %x, members are %x and %x",
			voters, learners, s.Voters(), s.Learners())
	}
	return nil
}

// ErrConfiguration refuses a change of members that raft's configuration does not follow: it leads nowhere, or elsewhere.
var ErrConfiguration = errors.New("membership change does not fit the configuration change it came with")

// reconfigure takes over a Set with the configuration that goes with it, in place of the present one. Refusal:
// ErrConfiguration, also if encoded is nil.
func (tx *Tx) reconfigure(next *Set, encoded []byte) error {
	if err := tx.set.agreesWith(tx.set.confState); err != nil {
		panic("members: before a change: " + err.Error())
	}
	if encoded == nil || next.agreesWith(encoded) != nil {
		return ErrConfiguration
	}
	tx.set = next
	tx.storeConfState()
	return nil
}

// storeConfState stores the configuration of the Set, which is this Tx's own. It is written in one way, whatever raft's
// library wrote: members of different versions must hold the same bytes.
func (tx *Tx) storeConfState() {
	v := appendConfState([]byte{metaRecordVersion}, tx.set)
	tx.set.confState = v[1:]
	tx.b.Set(storage.Meta, metaConfState, v)
}

// appendConfState writes a raftpb.ConfState: the voters as field 1, the learners as field 2, each a varint.
func appendConfState(dst []byte, s *Set) []byte {
	for _, id := range s.Voters() {
		dst = binary.AppendUvarint(append(dst, 1<<3), id)
	}
	for _, id := range s.Learners() {
		dst = binary.AppendUvarint(append(dst, 2<<3), id)
	}
	return dst
}
