package alarm

import (
	"encoding/hex"
	"flag"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/storage"
)

var rewriteFlag = flag.Bool("rewrite", false, "write golden files anew")

func TestRaiseAndClear(t *testing.T) {
	fs := vfs.NewMem()
	db, err := storage.Open(storage.Options{FS: fs, Dir: "db", Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	set, err := Load(db)
	if err != nil || len(set.List(None)) != 0 {
		t.Fatalf("%+v, %v", set, err)
	}
	steps := []struct {
		raise            bool
		alarm            Alarm
		changed          bool
		list             []Alarm
		noSpace, corrupt bool
	}{
		{true, Alarm{5, NoSpace}, true, []Alarm{{5, NoSpace}}, true, false},
		{true, Alarm{5, NoSpace}, false, []Alarm{{5, NoSpace}}, true, false},
		{true, Alarm{0, Corrupt}, true, []Alarm{{0, Corrupt}, {5, NoSpace}}, true, true},
		{true, Alarm{5, None}, false, []Alarm{{0, Corrupt}, {5, NoSpace}}, true, true},
		{true, Alarm{math.MaxUint64, NoSpace}, true, []Alarm{{0, Corrupt}, {5, NoSpace}, {math.MaxUint64, NoSpace}}, true, true},
		{false, Alarm{5, Corrupt}, false, []Alarm{{0, Corrupt}, {5, NoSpace}, {math.MaxUint64, NoSpace}}, true, true},
		{false, Alarm{5, NoSpace}, true, []Alarm{{0, Corrupt}, {math.MaxUint64, NoSpace}}, true, true},
		{false, Alarm{math.MaxUint64, NoSpace}, true, []Alarm{{0, Corrupt}}, false, true},
		{true, Alarm{0, -7}, true, []Alarm{{0, -7}, {0, Corrupt}}, false, true},
		{false, Alarm{0, Corrupt}, true, []Alarm{{0, -7}}, false, false},
	}
	for i, s := range steps {
		before := set.List(None)
		b := db.NewBatch()
		tx := Begin(b, set)
		change := tx.Clear
		if s.raise {
			change = tx.Raise
		}
		if changed := change(s.alarm); changed != s.changed || tx.Changed() != s.changed {
			t.Errorf("step %d: changed %v", i, changed)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(set.List(None), before) {
			t.Errorf("step %d: the old Set has changed", i)
		}
		set = tx.Set()
		loaded, err := Load(db)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []*Set{set, loaded} {
			if !slices.Equal(got.List(None), s.list) || got.NoSpace() != s.noSpace || got.Corrupt() != s.corrupt {
				t.Errorf("step %d: got %+v", i, got)
			}
		}
	}
	if got := set.List(Corrupt); len(got) != 0 {
		t.Errorf("of one type: %v", got)
	}
	if got := set.List(-7); len(got) != 1 {
		t.Errorf("of one type: %v", got)
	}
}

func TestGoldenKey(t *testing.T) {
	const path = "testdata/key.v1.hex"
	a := Alarm{Member: 0x8e9e05c52164694d, Type: Corrupt}
	dump := hex.Dump(appendKey(nil, a))
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
	if got, err := decodeKey(appendKey(nil, a)); got != a || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := decodeKey([]byte("short")); err == nil {
		t.Errorf("no error for a key that is too short")
	}
}
