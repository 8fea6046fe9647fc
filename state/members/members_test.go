package members

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/storage"
)

var rewriteFlag = flag.Bool("rewrite", false, "write golden files anew")

func open(t *testing.T, fs vfs.FS) *storage.DB {
	db, err := storage.Open(storage.Options{FS: fs, Dir: "db", Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func write(t *testing.T, db *storage.DB, f func(*storage.Batch)) {
	b := db.NewBatch()
	f(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

func twoMembers() Identity {
	return Identity{
		ClusterID: 0xcdf818194e3a8c32,
		Members: []Member{
			{ID: 9, Name: "b", PeerURLs: []string{"http://b:2380", "http://a2:2380"}, IsLearner: true},
			{ID: 3, PeerURLs: []string{"http://a:2380"}},
		},
		ConfState: []byte{0x08, 0x03, 0x10, 0x09},
	}
}

// The numbers are etcd's, from its documentation and its tests.
func TestIdentities(t *testing.T) {
	for _, c := range []struct {
		urls    []string
		token   string
		member  uint64
		cluster uint64
	}{
		{[]string{"http://localhost:2380"}, "etcd-cluster", 0x8e9e05c52164694d, 0xcdf818194e3a8c32},
		{[]string{"http://localhost:20001"}, "new", 14578408409545168728, 238453183653593855},
	} {
		id := ID(c.urls, c.token, 0)
		if id != c.member {
			t.Errorf("%v, %s: member %x, want %x", c.urls, c.token, id, c.member)
		}
		if cluster := ClusterID([]uint64{id}); cluster != c.cluster {
			t.Errorf("%v, %s: cluster %x, want %x", c.urls, c.token, cluster, c.cluster)
		}
	}
}

func TestIdentityDoesNotDependOnOrder(t *testing.T) {
	a, b := []string{"http://x:1", "http://y:2"}, []string{"http://y:2", "http://x:1"}
	if ID(a, "t", 0) != ID(b, "t", 0) || b[0] != "http://y:2" {
		t.Errorf("urls: order counts, or the argument was sorted")
	}
	if ClusterID([]uint64{1, 2}) != ClusterID([]uint64{2, 1}) {
		t.Errorf("members: order counts")
	}
	if ID(a, "t", 0) == ID(a, "t", 1764000000) || ID(a, "", 1764000000) == ID(a, "", 1764000001) {
		t.Errorf("the time of addition does not count")
	}
	if ID(nil, "http://x:1http://y:2", 0) != ID(a, "", 0) || ID(a, "t1", 0) != ID(a, "t", 1) {
		t.Errorf("the parts are not simply concatenated")
	}
}

func TestBootstrapAndLoad(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	if _, err := Load(db); !errors.Is(err, ErrNone) {
		t.Fatalf("empty database: %v", err)
	}
	var made *Set
	write(t, db, func(b *storage.Batch) {
		var err error
		if made, err = Bootstrap(b, twoMembers()); err != nil {
			t.Fatal(err)
		}
	})
	s, err := Load(db)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.AppendTo(nil), made.AppendTo(nil)) {
		t.Errorf("loaded %+v, want %+v", s, made)
	}
	want := []Member{
		{ID: 3, PeerURLs: []string{"http://a:2380"}},
		{ID: 9, Name: "b", PeerURLs: []string{"http://a2:2380", "http://b:2380"}, IsLearner: true},
	}
	if !reflect.DeepEqual(s.List(), want) {
		t.Errorf("members %+v", s.List())
	}
	if s.ClusterID() != 0xcdf818194e3a8c32 || !bytes.Equal(s.ConfState(), twoMembers().ConfState) || s.Version() != "" {
		t.Errorf("cluster %x, conf state %x, version %q", s.ClusterID(), s.ConfState(), s.Version())
	}
	if m, ok := s.Get(9); !ok || m.Name != "b" {
		t.Errorf("get: %+v, %v", m, ok)
	}
	if _, ok := s.Get(4); ok {
		t.Errorf("get: found nobody")
	}
}

func TestBootstrapRefuses(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	for name, change := range map[string]func(*Identity){
		"no cluster id":     func(id *Identity) { id.ClusterID = 0 },
		"no member id":      func(id *Identity) { id.Members[0].ID = 0 },
		"the same id":       func(id *Identity) { id.Members[0].ID = id.Members[1].ID },
		"a shared URL":      func(id *Identity) { id.Members[0].PeerURLs[0] = id.Members[1].PeerURLs[0] },
		"a URL given twice": func(id *Identity) { id.Members[0].PeerURLs[0] = id.Members[0].PeerURLs[1] },
	} {
		id := twoMembers()
		change(&id)
		b := db.NewBatch()
		if _, err := Bootstrap(b, id); err == nil {
			t.Errorf("%s: no error", name)
		}
		b.Discard()
	}
}

// Publishing changes name and client URLs only; the Set that readers hold stays as it was (known bug M3).
func TestPublish(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	var before *Set
	write(t, db, func(b *storage.Batch) { before, _ = Bootstrap(b, twoMembers()) })
	old := before.AppendTo(nil)
	var after *Set
	write(t, db, func(b *storage.Batch) {
		tx := Begin(b, before)
		if err := tx.Publish(77, "x", nil); err != ErrNotFound || tx.Changed() {
			t.Errorf("unknown member: %v", err)
		}
		if err := tx.Publish(9, "renamed", []string{"http://c:1"}); err != nil || !tx.Changed() {
			t.Errorf("publish: %v", err)
		}
		tx.SetVersion("3.7.0")
		after = tx.Set()
	})
	if !bytes.Equal(before.AppendTo(nil), old) {
		t.Errorf("the old Set has changed: %+v", before)
	}
	want := Member{ID: 9, Name: "renamed", PeerURLs: []string{"http://a2:2380", "http://b:2380"}, ClientURLs: []string{"http://c:1"}, IsLearner: true}
	if m, _ := after.Get(9); !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v", m)
	}
	loaded, err := Load(db)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(loaded.AppendTo(nil), after.AppendTo(nil)) || loaded.Version() != "3.7.0" {
		t.Errorf("loaded %+v, want %+v", loaded, after)
	}
}

func goldenRecords() []byte {
	m := Member{ID: 3, Name: "infra", PeerURLs: []string{"http://a:2380", "http://b:2380"}, ClientURLs: []string{"http://a:2379"}, IsLearner: true}
	return appendMember(nil, &m)
}

func TestGoldenRecord(t *testing.T) {
	const path = "testdata/record.v1.hex"
	dump := hex.Dump(goldenRecords())
	if *rewriteFlag {
		if err := os.WriteFile(path, []byte(dump), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != dump {
		t.Errorf("the format has changed:\n%s", dump)
	}
	m, removed, err := decodeRecord(3, goldenRecords())
	if err != nil || removed || !bytes.Equal(appendMember(nil, &m), goldenRecords()) {
		t.Errorf("got %+v, %v, %v", m, removed, err)
	}
	if _, removed, err := decodeRecord(3, []byte{1, 3}); err != nil || !removed {
		t.Errorf("removed: %v, %v", removed, err)
	}
	// A learner that the leader is to promote has a state of its own.
	m.AutoPromote = true
	record := appendMember(nil, &m)
	if want := append([]byte{1, 4}, goldenRecords()[2:]...); !bytes.Equal(record, want) {
		t.Errorf("%x, want %x", record, want)
	}
	if got, _, err := decodeRecord(3, record); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRemovedIDsAreLoaded(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	write(t, db, func(b *storage.Batch) {
		if _, err := Bootstrap(b, twoMembers()); err != nil {
			t.Fatal(err)
		}
		b.Set(storage.Members, appendID(nil, 5), []byte{recordVersion, stateRemoved})
	})
	s, err := Load(db)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Removed(5) || s.Removed(3) || len(s.List()) != 2 {
		t.Errorf("%+v", s)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(goldenRecords())
	f.Add([]byte{1, 3})
	f.Add([]byte{1, 4, 0, 0, 0})
	f.Add([]byte{1, 5})
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, removed, err := decodeRecord(1, b)
		if err != nil || removed {
			return
		}
		encoded := appendMember(nil, &m)
		again, _, err := decodeRecord(1, encoded)
		if err != nil || !bytes.Equal(appendMember(nil, &again), encoded) {
			t.Fatalf("%x became %+v, then %+v, %v", b, m, again, err)
		}
	})
}
