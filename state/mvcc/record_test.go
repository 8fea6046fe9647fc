package mvcc

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"keelson/storage"
)

// TestRecordFormat pins the bytes of every record: later code must still read them.
func TestRecordFormat(t *testing.T) {
	kv := KeyValue{Key: []byte("k"), Value: []byte("value"), CreateRevision: 300, ModRevision: 301, Version: 2, Lease: -1}
	records := map[string][]byte{
		"version_pair.v1":      append(appendPairHead(nil, &kv), kv.Value...),
		"version_tombstone.v1": tombstone,
		"change_put.v1":        appendChange(nil, change{kind: Put, key: []byte("k")}),
		"change_replace.v1":    appendChange(nil, change{kind: Put, replaced: storage.Version{Main: 300, Sub: 7}, key: []byte("k")}),
		"change_delete.v1":     appendChange(nil, change{kind: Delete, replaced: storage.Version{Main: 300}, key: []byte("k")}),
		"changes.v1": appendOneOfMany(appendOneOfMany([]byte{kindChanges},
			storage.Version{}, storage.Version{Main: 300}, change{kind: Put, key: []byte("k")}),
			storage.Version{Main: 300}, storage.Version{Main: 301, Sub: 7}, change{kind: Delete, replaced: storage.Version{Main: 300}, key: []byte("key")}),
		"change_key.v1": appendChangeKey(nil, storage.Version{Main: 300, Sub: 7}),
		"revisions.v1":  (&publication{revision: 300, floor: -1, live: 12}).append(nil),
		"removal.v1":    (&removal{done: -1, target: 300, next: storage.Version{Main: 5, Sub: 6}}).append(nil),
	}
	for name, got := range records {
		path := filepath.Join("testdata", "format", name)
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x, fixture %x", name, got, want)
		}
	}
	fixture := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "format", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	got := KeyValue{Key: kv.Key, ModRevision: kv.ModRevision}
	if err := decodeVersion(fixture("version_pair.v1"), &got); err != nil || !equalPair(&got, &kv) {
		t.Errorf("pair %+v %v", got, err)
	}
	if err := decodeVersion(fixture("version_tombstone.v1"), &got); err != nil || got.Version != 0 {
		t.Errorf("tombstone %+v %v", got, err)
	}
	c, err := decodeChange(fixture("change_replace.v1"))
	if err != nil || c.kind != Put || c.replaced != (storage.Version{Main: 300, Sub: 7}) || string(c.key) != "k" {
		t.Errorf("change %+v %v", c, err)
	}
	several := fixture("changes.v1")
	if len(several) == 0 || several[0] != kindChanges {
		t.Fatalf("several changes %x", several)
	}
	v, c, rest, ok := decodeOneOfMany(several[1:], storage.Version{})
	if !ok || v != (storage.Version{Main: 300}) || c.kind != Put || c.replaced.Main != 0 || string(c.key) != "k" {
		t.Errorf("first of several changes %v %+v %v", v, c, ok)
	}
	v, c, rest, ok = decodeOneOfMany(rest, v)
	if !ok || v != (storage.Version{Main: 301, Sub: 7}) || c.kind != Delete || c.replaced.Main != 300 || string(c.key) != "key" || len(rest) > 0 {
		t.Errorf("second of several changes %v %+v %v", v, c, ok)
	}
	if p, err := decodeRevisions(fixture("revisions.v1")); err != nil || p != (publication{revision: 300, floor: -1, live: 12}) {
		t.Errorf("revisions %+v %v", p, err)
	}
	if r, err := decodeRemoval(fixture("removal.v1")); err != nil || r != (removal{done: -1, target: 300, next: storage.Version{Main: 5, Sub: 6}}) {
		t.Errorf("removal %+v %v", r, err)
	}
}

func TestDamagedRecords(t *testing.T) {
	var kv KeyValue
	for _, b := range [][]byte{nil, {0}, {3}, {kindPair}, {kindPair, 1}, {kindPair, 1, 1}, {kindPair, 0, 1, 0}, {kindPair, 1, 0, 0},
		{kindTombstone, 0}, append([]byte{kindPair}, bytes.Repeat([]byte{0xff}, 11)...)} {
		if err := decodeVersion(b, &kv); !errors.Is(err, errDamaged) {
			t.Errorf("version %x: %v", b, err)
		}
	}
	for _, b := range [][]byte{nil, {0}, {3, 0}, {kindChangePut}, {kindChangePut, 1}, {kindChangeDelete, 0}, {kindChangeDelete, 1},
		append([]byte{kindChangePut}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)} {
		if _, err := decodeChange(b); !errors.Is(err, errDamaged) {
			t.Errorf("change %x: %v", b, err)
		}
	}
	for _, b := range [][]byte{nil, {1}, make([]byte, revisionsSize), make([]byte, removalSize)} {
		if _, err := decodeRevisions(b); !errors.Is(err, errDamaged) {
			t.Errorf("revisions %x: %v", b, err)
		}
		if _, err := decodeRemoval(b); !errors.Is(err, errDamaged) {
			t.Errorf("removal %x: %v", b, err)
		}
	}
}

func FuzzVersionRecord(f *testing.F) {
	f.Add([]byte{kindTombstone})
	f.Add(appendPairHead(nil, &KeyValue{CreateRevision: 1, Version: 1}))
	f.Add(append(appendPairHead(nil, &KeyValue{CreateRevision: math.MaxInt64, Version: math.MaxInt64, Lease: math.MinInt64}), "value"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var kv, again KeyValue
		if err := decodeVersion(b, &kv); err != nil {
			return
		}
		if kv.Version == 0 {
			if !bytes.Equal(b, tombstone) {
				t.Fatalf("%x is a tombstone", b)
			}
			return
		}
		encoded := append(appendPairHead(nil, &kv), kv.Value...)
		if len(encoded) > len(b) {
			t.Fatalf("%x grows to %x", b, encoded)
		}
		if err := decodeVersion(encoded, &again); err != nil || !equalPair(&kv, &again) {
			t.Fatalf("%x: %+v, again %+v %v", b, kv, again, err)
		}
	})
}

func FuzzChangeRecord(f *testing.F) {
	f.Add(appendChange(nil, change{kind: Put, key: []byte("k")}))
	f.Add(appendChange(nil, change{kind: Delete, replaced: storage.Version{Main: math.MaxInt64, Sub: math.MaxUint32}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeChange(b)
		if err != nil {
			return
		}
		encoded := appendChange(nil, c)
		again, err := decodeChange(encoded)
		if err != nil || again.kind != c.kind || again.replaced != c.replaced || !bytes.Equal(again.key, c.key) {
			t.Fatalf("%x: %+v, again %+v %v", b, c, again, err)
		}
	})
}

// FuzzMetaRecords: whatever the decoders take they give back byte for byte.
func FuzzMetaRecords(f *testing.F) {
	f.Add((&publication{revision: 1, floor: -1}).append(nil))
	f.Add((&removal{done: -1}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodeRevisions(b); err == nil && !bytes.Equal(p.append(nil), b) {
			t.Fatalf("revisions %x: %+v", b, p)
		}
		if r, err := decodeRemoval(b); err == nil && !bytes.Equal(r.append(nil), b) {
			t.Fatalf("removal %x: %+v", b, r)
		}
		if v, err := decodeChangeKey(b); err == nil && !bytes.Equal(appendChangeKey(nil, v), b) {
			t.Fatalf("change key %x: %+v", b, v)
		}
	})
}

// TestMissingVersion: a change whose version is gone is a failure, not a silent gap.
func TestMissingVersion(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "1")
	m.put("k", "2")
	b := m.db.NewBatch()
	b.DeleteVersion(storage.Versions, []byte("k"), storage.Version{Main: 2})
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.history(1, 3, nil, nil, 0); !errors.Is(err, errDamaged) {
		t.Fatal(err)
	}
}

// TestChangesStops: an error of the caller's comes back as it is.
func TestChangesStops(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "1")
	want := errors.New("enough")
	if _, err := m.s.Changes(1, 9, nil, nil, 0, func(*Event) error { return want }); err != want {
		t.Fatal(err)
	}
}
