package state

import (
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/snapshot/etcddir"
	"keelson/snapshot/etcdfile"
)

// TestDamagedStoreIsRefused: nothing of a v2 store that can't be read is taken over in silence.
func TestDamagedStoreIsRefused(t *testing.T) {
	w, err := etcdfile.Create(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	if err := errors.Join(image.Save(saved), image.Close()); err != nil {
		t.Fatal(err)
	}
	from := openFile(t, saved)
	entry := func(data string) []*raftpb.Entry { return []*raftpb.Entry{{Index: new(uint64(1)), Data: []byte(data)}} }
	for name, s := range map[string]TreeSource{
		"a store that is no JSON":  {Store: []byte("{")},
		"a store without a root":   {Store: []byte("{}")},
		"a node that is null":      {Store: []byte(`{"Root":{"Children":{"1":null}}}`)},
		"a name with a slash":      {Store: []byte(`{"Root":{"Children":{"1/2":{"Children":{}}}}}`)},
		"a user that is no JSON":   {Store: []byte(`{"Root":{"Children":{"2":{"Children":{"users":{"Children":{"root":{"Value":"x"}}}}}}}}`)},
		"an entry that is nothing": {Log: entry("\xff")},
	} {
		if _, _, err := TreeNodes(from, s); !errors.Is(err, etcdfile.ErrDamaged) && !errors.Is(err, etcddir.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	nodes, access, err := TreeNodes(from, TreeSource{
		Store: []byte(`{"Root":{"Children":{"1":{"Children":{"a":{"Children":{"b":{"Value":"x","CreatedIndex":4,"ModifiedIndex":4}}}}},` +
			`"2":{"Children":{"users":{"Children":{"root":{"Value":"{}"}}}}}}},"CurrentIndex":9}`),
	})
	if nodes != 2 || access != 1 || err != nil {
		t.Errorf("%d nodes, %d users and roles, %v", nodes, access, err)
	}
}
