package state

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Entry is one committed entry of the log.
type Entry struct {
	Index, Term uint64
	// Data is a batch of commands (see package command). Empty: raft's own empty entry. It must not change any more:
	// what comes of it aliases it.
	Data []byte
	// ConfChange is set for a change of raft's configuration. Data is then the batch that the change carries, of one command
	// that adds, removes or promotes a member.
	ConfChange bool
	// ConfState is the configuration that the change leads to, encoded (raftpb.ConfState). Nil: raft can't carry it out, or
	// the entry is no such change.
	ConfState []byte
}

// AppendEntries appends committed entries as raft has them, which end in a conf change if there is one among them, and then
// conf is the configuration that it leads to.
func AppendEntries(dst []Entry, entries []*raftpb.Entry, conf *raftpb.ConfState) []Entry {
	for i, e := range entries {
		s := Entry{Index: e.GetIndex(), Term: e.GetTerm()}
		if e.GetType() == raftpb.EntryNormal {
			s.Data = e.GetData()
		} else if i == len(entries)-1 {
			s.ConfChange, s.Data, s.ConfState = true, changeContext(e), encodeConfState(conf)
		}
		dst = append(dst, s)
	}
	return dst
}

// changeContext is the batch that a conf change carries; nil if it can't be read, which Apply refuses.
func changeContext(e *raftpb.Entry) []byte {
	if e.GetType() == raftpb.EntryConfChange {
		var c raftpb.ConfChange
		if proto.Unmarshal(e.GetData(), &c) != nil {
			return nil
		}
		return c.GetContext()
	}
	var c raftpb.ConfChangeV2
	if proto.Unmarshal(e.GetData(), &c) != nil {
		return nil
	}
	return c.GetContext()
}

// encodeConfState is nil for nil.
func encodeConfState(conf *raftpb.ConfState) []byte {
	if conf == nil {
		return nil
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		panic("state: a configuration that can't be encoded: " + err.Error())
	}
	return b
}
