package tree

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/storage"
)

// TestLoaderRefuses lists what can't be a part of a tree.
func TestLoaderRefuses(t *testing.T) {
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	file := func(path string) []byte { return appendNode(nil, &Node{Path: path, Created: 1, Modified: 1}) }
	for name, records := range map[string][][2]string{
		"no key":                       {{"", ""}},
		"an unknown key":               {{"?", ""}},
		"a damaged node":               {{string(nodeKey("/a")), "x"}},
		"a node without a directory":   {{string(nodeKey("/a/b")), string(file("/a/b"))}},
		"a node below a file":          {{string(nodeKey("/a")), string(file("/a"))}, {string(nodeKey("/a/b")), string(file("/a/b"))}},
		"the root":                     {{"n", string(file("/"))}},
		"a path with a dot":            {{string(nodeKey("/.")), string(file("/."))}},
		"a damaged event":              {{string(eventKey(7)), "x"}},
		"the event of another index":   {{string(eventKey(7)), string(appendEvent(nil, &Event{Action: ActionSet, Node: Node{Path: "/a", Modified: 8}}))}},
		"a damaged user":               {{"uname", "x"}},
		"a damaged role":               {{"rname", "x"}},
		"a damaged access":             {{"a", "x"}},
		"a damaged position":           {{"i", "x"}},
		"a deadline, which nodes have": {{string(deadlineKey(1, "/a")), ""}},
		"a directory that has been left": {
			{string(nodeKey("/a")), string(appendNode(nil, &Node{Path: "/a", Dir: true}))},
			{string(nodeKey("/b")), string(file("/b"))},
			{string(nodeKey("/a/c")), string(file("/a/c"))},
		},
	} {
		b := db.NewBatch()
		l := NewLoader(b)
		var err error
		for _, r := range records {
			if err != nil {
				t.Errorf("%s: %v too early", name, err)
			}
			err = l.Record([]byte(r[0]), []byte(r[1]))
		}
		if err == nil {
			t.Errorf("%s is taken", name)
		}
		b.Discard()
	}
	b := db.NewBatch()
	defer b.Discard()
	if err := NewLoader(b).Node(&Node{Path: "/a/b"}); !errors.Is(err, ErrOrder) {
		t.Errorf("%v", err)
	}
}
