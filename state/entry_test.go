package state

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestAppendEntries(t *testing.T) {
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	conf := &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}}
	v1 := marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(2), Context: []byte("old")})
	v2 := marshal(&raftpb.ConfChangeV2{Context: []byte("batch")})
	for _, c := range []struct {
		name string
		last *raftpb.Entry
		conf *raftpb.ConfState
		want Entry
	}{
		{"no change", &raftpb.Entry{Data: []byte("x")}, nil, Entry{Data: []byte("x")}},
		{"empty", &raftpb.Entry{}, nil, Entry{}},
		{"a change", &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: v2}, conf, Entry{ConfChange: true, Data: []byte("batch"), ConfState: marshal(conf)}},
		{"one of the older kind", &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Data: v1}, conf, Entry{ConfChange: true, Data: []byte("old"), ConfState: marshal(conf)}},
		{"one that leads nowhere", &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: v2}, nil, Entry{ConfChange: true, Data: []byte("batch")}},
		{"one that can't be read", &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{0xff}}, nil, Entry{ConfChange: true}},
		{"nor this one", &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}}, nil, Entry{ConfChange: true}},
	} {
		c.last.Index, c.last.Term = new(uint64(8)), new(uint64(3))
		c.want.Index, c.want.Term = 8, 3
		got := AppendEntries([]Entry{{Index: 6}}, []*raftpb.Entry{{Index: new(uint64(7)), Term: new(uint64(2)), Data: []byte("before")}, c.last}, c.conf)
		if len(got) != 3 || got[0].Index != 6 || got[1].Index != 7 || got[1].Term != 2 || string(got[1].Data) != "before" || got[1].ConfChange {
			t.Fatalf("%s: %+v", c.name, got)
		}
		g := got[2]
		if g.Index != 8 || g.Term != 3 || g.ConfChange != c.want.ConfChange || !bytes.Equal(g.Data, c.want.Data) ||
			!bytes.Equal(g.ConfState, c.want.ConfState) || (g.ConfState == nil) != (c.want.ConfState == nil) {
			t.Errorf("%s: %+v, want %+v", c.name, g, c.want)
		}
	}
}
