package etcddir

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestFound: what is made is read again, by the same package that reads what etcd leaves.
func TestFound(t *testing.T) {
	s := NewStore(2000)
	for _, n := range []StoreNode{
		{Path: "/1/a", Dir: true, Created: 4, Modified: 4}, {Path: "/1/a/b", Value: "1", Created: 4, Modified: 9, Deadline: 77e9},
		{Path: "/2/enabled", Value: "true", Created: 10, Modified: 10},
	} {
		if err := s.Put(n); err != nil {
			t.Fatal(err)
		}
	}
	// Of events, those of the last thousand indexes fit; between them, indexes without one are filled up.
	prev := StoreNode{Path: "/1/a/b", Value: "", Created: 4, Modified: 9}
	for _, i := range []uint64{9, 1000, 1001, 1500} {
		s.Events = append(s.Events, StoreEvent{Action: "set", Node: StoreNode{Path: fmt.Sprint("/1/", i), Value: "v", Created: i, Modified: i, Deadline: 99e9}, Time: 90e9, Prev: &prev})
	}
	s.Events = append(s.Events, StoreEvent{Action: "delete", Node: StoreNode{Path: "/1/a/b", Created: 4, Modified: 1999}, Time: 1})
	f := Founding{ClusterID: 7, LocalID: 1 << 63, Members: []FoundingMember{{ID: 5, PeerURLs: []string{"http://a:1"}}, {ID: 1 << 63, PeerURLs: []string{"http://b:1", "http://c:1"}}}}
	root := filepath.Join(t.TempDir(), "made")
	err := Found(root, f, s, func(path string, at Place, voters []uint64) error {
		if at != (Place{Index: 2, Term: 1}) || !reflect.DeepEqual(voters, []uint64{5, 1 << 63}) {
			t.Errorf("the database is at %v, of %v", at, voters)
		}
		return os.WriteFile(path, []byte("db"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(root, "")
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := d.Snapshot()
	if err != nil || snapshot.Place != (Place{Index: 2, Term: 1}) {
		t.Fatalf("snapshot at %v, %v", snapshot.Place, err)
	}
	log, err := d.Log(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if log.MemberID != f.LocalID || log.ClusterID != 7 || log.Commit != 2 || log.Term != 1 || log.Torn || len(log.Entries) != 2 {
		t.Errorf("log %+v", log)
	}
	for i, e := range log.Entries {
		if e.GetType() != raftpb.EntryType_EntryConfChange || e.GetIndex() != uint64(i+1) || e.GetTerm() != 1 {
			t.Errorf("entry %v", e)
		}
	}
	again, err := DecodeStore(snapshot.Store)
	if err != nil {
		t.Fatal(err)
	}
	if again.Index != 2000 || again.Floor != 1001 || len(again.Events) != historyCapacity {
		t.Errorf("index %d, floor %d, %d events", again.Index, again.Floor, len(again.Events))
	}
	var told []StoreEvent
	for i, e := range again.Events {
		if e.Node.Modified != uint64(1001+i) {
			t.Fatalf("event %d is of index %d", i, e.Node.Modified)
		}
		if e.Node.Path != StoreAccess {
			told = append(told, e)
		}
	}
	want := s.Events[2:]
	for i := range want {
		if want[i].Node.Deadline == 0 {
			want[i].Time = 0 // nothing counts from it
		}
	}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("events\n%+v\nwant\n%+v", told, want)
	}
	var paths []string
	if err := again.Nodes(func(n StoreNode) error {
		paths = append(paths, n.Path)
		if n.Path == "/1/a/b" && n != (StoreNode{Path: "/1/a/b", Value: "1", Created: 4, Modified: 9, Deadline: 77e9}) {
			t.Errorf("node %+v", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"/0", "/0/members", "/0/members/5", "/0/members/5/raftAttributes", "/0/members/8000000000000000",
		"/0/members/8000000000000000/raftAttributes", "/1", "/1/a", "/1/a/b", "/2", "/2/enabled"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("nodes %v", paths)
	}
	if err := Found(root, f, s, func(string, Place, []uint64) error { return nil }); err == nil {
		t.Error("a directory that is there is written over")
	}
}

func TestPutRefuses(t *testing.T) {
	s := NewStore(1)
	if err := s.Put(StoreNode{Path: "/f", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(StoreNode{Path: "/d/e", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []StoreNode{{}, {Path: "/"}, {Path: "a"}, {Path: "/a//b"}, {Path: "/f/x"}, {Path: "/d"}} {
		if err := s.Put(n); err == nil {
			t.Errorf("%q is taken", n.Path)
		}
	}
}
