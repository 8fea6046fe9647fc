package etcddir

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Founding is a cluster to be founded, and the member of it that a directory is made for.
type Founding struct {
	ClusterID, LocalID uint64
	Members            []FoundingMember
}

// FoundingMember is a member of a cluster to be founded.
type FoundingMember struct {
	ID       uint64
	PeerURLs []string
}

// foundingTerm is the term of what every member agrees on before there was any election.
const foundingTerm = 1

// Found makes the data directory of a member that has just been founded, and that an etcd up to 3.5 starts on: the log with the
// members, which are all committed, and a snapshot right behind them, with a store. database makes the database at a path, as of
// the snapshot's place. Found adds the members to the store. root must not exist; what is there after an error is for the caller
// to remove.
func Found(root string, f Founding, s *Store, database func(path string, at Place, voters []uint64) error) error {
	snap, wal := filepath.Join(root, "member", "snap"), filepath.Join(root, "member", "wal")
	for _, dir := range []string{snap, wal} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var voters []uint64
	var entries []*raftpb.Entry
	for i, m := range f.Members {
		voters = append(voters, m.ID)
		e, err := m.entry(uint64(i + 1))
		if err == nil {
			entries, err = append(entries, e), m.putTo(s)
		}
		if err != nil {
			return err
		}
	}
	for _, dir := range []string{StoreKeys, StoreAccess} { // etcd expects the first
		if s.root.Children[dir[1:]] == nil {
			if err := s.Put(StoreNode{Path: dir, Dir: true}); err != nil {
				return err
			}
		}
	}
	at := Place{Index: uint64(len(entries)), Term: foundingTerm}
	log, err := f.log(entries, at)
	if err != nil {
		return err
	}
	snapshot, err := encodeSnapshot(s, at, voters)
	if err != nil {
		return err
	}
	if err := database(filepath.Join(snap, "db"), at, voters); err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(snap, fmt.Sprintf("%016x-%016x.snap", at.Term, at.Index)), snapshot); err != nil {
		return err
	}
	return writeSynced(filepath.Join(wal, fmt.Sprintf("%016x-%016x.wal", 0, 0)), log)
}

// raftAttributes are what a store says of a member first.
type raftAttributes struct {
	ID       uint64   `json:"id,omitempty"`
	PeerURLs []string `json:"peerURLs"`
}

// entry is the entry of the log that makes a member one.
func (m *FoundingMember) entry(index uint64) (*raftpb.Entry, error) {
	text, err := json.Marshal(raftAttributes{m.ID, m.PeerURLs})
	if err != nil {
		return nil, err
	}
	change, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeType_ConfChangeAddNode.Enum(), NodeId: proto.Uint64(m.ID), Context: text})
	return &raftpb.Entry{Type: raftpb.EntryType_EntryConfChange.Enum(), Term: proto.Uint64(foundingTerm), Index: proto.Uint64(index), Data: change}, err
}

// putTo writes down a member in a store.
func (m *FoundingMember) putTo(s *Store) error {
	text, err := json.Marshal(raftAttributes{PeerURLs: m.PeerURLs})
	if err != nil {
		return err
	}
	return s.Put(StoreNode{Path: StoreCluster + "/members/" + strconv.FormatUint(m.ID, 16) + "/raftAttributes", Value: string(text)})
}

// log is the log of a member that was founded, up to its snapshot.
func (f *Founding) log(entries []*raftpb.Entry, at Place) ([]byte, error) {
	var w logWriter
	w.put(kindSum, nil)
	w.put(kindMetadata, appendNumbers(nil, f.LocalID, f.ClusterID))
	w.put(kindSnapshot, appendNumbers(nil, 0, 0)) // where the log begins
	for _, e := range entries {
		b, err := proto.Marshal(e)
		if err != nil {
			return nil, err
		}
		w.put(kindEntry, b)
	}
	state, err := proto.Marshal(&raftpb.HardState{Term: proto.Uint64(at.Term), Vote: proto.Uint64(f.Members[0].ID), Commit: proto.Uint64(at.Index)})
	if err != nil {
		return nil, err
	}
	w.put(kindState, state)
	w.put(kindSnapshot, appendNumbers(nil, at.Index, at.Term))
	return w.Bytes(), nil
}

// appendNumbers appends a message with two numbers, as fields 1 and 2.
func appendNumbers(b []byte, first, second uint64) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), first)
	return protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), second)
}

// logWriter writes records one behind the other, see record.
type logWriter struct {
	bytes.Buffer
	sum uint32
}

func (w *logWriter) put(k kind, data []byte) {
	w.sum = crc32.Update(w.sum, castagnoli, data)
	var b []byte
	b = protowire.AppendVarint(protowire.AppendTag(b, recordFieldKind, protowire.VarintType), uint64(k))
	b = protowire.AppendVarint(protowire.AppendTag(b, recordFieldSum, protowire.VarintType), uint64(w.sum))
	if data != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, recordFieldData, protowire.BytesType), data)
	}
	word, padding := uint64(len(b)), (frameBytes-len(b)%frameBytes)%frameBytes
	if padding > 0 {
		word |= uint64(0x80|padding) << sizeBits
	}
	w.Write(binary.LittleEndian.AppendUint64(nil, word))
	w.Write(b)
	w.Write(make([]byte, padding))
}

// encodeSnapshot is the file of a snapshot, as readSnapshot reads it.
func encodeSnapshot(s *Store, at Place, voters []uint64) ([]byte, error) {
	text, err := s.Encode()
	if err != nil {
		return nil, err
	}
	data, err := proto.Marshal(&raftpb.Snapshot{Data: text, Metadata: &raftpb.SnapshotMetadata{
		ConfState: &raftpb.ConfState{Voters: voters}, Index: proto.Uint64(at.Index), Term: proto.Uint64(at.Term),
	}})
	if err != nil {
		return nil, err
	}
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(crc32.Checksum(data, castagnoli)))
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), data), nil
}

// writeSynced writes a file that must not exist.
func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
