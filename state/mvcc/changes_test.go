package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"keelson/storage"
)

// listedChange is a change with its version.
type listedChange struct {
	at storage.Version
	change
	record int // in which it was written
}

func (c listedChange) String() string {
	return fmt.Sprintf("%d.%d %v %.20q (%d) replaced %v", c.at.Main, c.at.Sub, c.kind, c.key, len(c.key), c.replaced)
}

// TestChangesShareRecords writes changes in random entries and reads them back from and to random places, before and after some
// are dropped.
func TestChangesShareRecords(t *testing.T) {
	seeds(t, 30, func(t *testing.T, r *rand.Rand) {
		m := newMachine(t, storage.Options{}, Options{})
		list := writeChanges(t, r, m.db)
		first := Revision(1)
		for range 8 {
			records := map[int]bool{}
			for _, c := range list {
				records[c.record] = true
			}
			if n := countRecords(t, m.db); n != len(records) || n > 10 && n >= len(list) {
				t.Fatalf("%d records of %d changes from %d on, want %d", n, len(list), first, len(records))
			}
			for range 20 {
				from := storage.Version{Main: first + r.Int64N(40), Sub: uint32(r.IntN(4))}
				checkChanges(t, m.db, list, from, from.Main+r.Int64N(40)-2)
			}
			checkChanges(t, m.db, list, storage.Version{}, math.MaxInt64)
			first += r.Int64N(10)
			list = slices.DeleteFunc(list, func(c listedChange) bool { return c.at.Main < first })
			b := m.db.NewBatch()
			if err := dropChanges(m.db, b, first); err != nil {
				t.Fatal(err)
			}
			if err := b.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		checkChanges(t, m.db, list, storage.Version{}, math.MaxInt64)
	})
}

// writeChanges writes some 100 revisions of changes and returns them.
func writeChanges(t *testing.T, r *rand.Rand, db *storage.DB) (list []listedChange) {
	var w changeWriter
	b, size, records := db.NewBatch(), 0, 0
	for main := Revision(1); main < 100; main += 1 + r.Int64N(2) {
		for sub := range uint32(1 + r.IntN(4)) {
			if r.IntN(4) == 0 {
				continue // compacted away where these changes are from
			}
			c := listedChange{at: storage.Version{Main: main, Sub: sub}, change: change{kind: Put, key: make([]byte, r.IntN(30))}}
			if r.IntN(12) == 0 {
				c.key = make([]byte, r.IntN(2*changesBytesMax))
			}
			for i := range c.key {
				c.key[i] = byte(r.Uint32())
			}
			if r.IntN(2) == 0 {
				c.kind, c.replaced = Delete, storage.Version{Main: 1 + r.Int64N(math.MaxInt64), Sub: r.Uint32()}
			}
			if size > 0 && size+len(c.key) > changesBytesMax {
				records, size = records+1, 0
			}
			before := storage.Version{}
			if size == 0 {
				size = 1
			} else {
				before = list[len(list)-1].at
			}
			size += len(appendOneOfMany(nil, before, c.at, c.change))
			given := c.change
			given.key = bytes.Clone(c.key)
			w.add(b, c.at, given)
			clear(given.key) // it may not be kept
			c.record = records
			list = append(list, c)
		}
		if r.IntN(8) == 0 {
			w.flush(b)
			if size > 0 {
				records, size = records+1, 0
			}
		}
	}
	w.flush(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	return list
}

func countRecords(t testing.TB, db *storage.DB) (n int) {
	it, err := db.Iter(storage.Changes, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func checkChanges(t *testing.T, db *storage.DB, all []listedChange, from storage.Version, to Revision) {
	t.Helper()
	it, err := openChanges(db, from, to)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for it.next() {
		got = append(got, listedChange{at: it.at, change: it.change}.String())
	}
	if err := it.close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if !c.at.Less(from) && c.at.Main <= to {
			want = append(want, c.String())
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("from %v to %d: %d changes\n%v\nwant %d\n%v", from, to, len(got), got, len(want), want)
	}
}

// TestOldChanges: a store in which each change has a record of its own reads like one in which they share records.
func TestOldChanges(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.run(func(tx *Tx) {
		for i := range 40 {
			if _, err := tx.Put(fmt.Appendf(nil, "k%d", i%7), fmt.Appendf(nil, "%d", i), 0, false, false); err != nil {
				t.Fatal(err)
			}
			tx.EndCommand()
		}
	})
	before, err := m.history(1, 41, nil, nil, 0)
	if err != nil || len(before) != 40 || countRecords(t, m.db) != 1 {
		t.Fatal(len(before), countRecords(t, m.db), err)
	}
	it, err := openChanges(m.db, storage.Version{}, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	b := m.db.NewBatch()
	b.DeleteRange(storage.Changes, nil, nil)
	for it.next() {
		b.Set(storage.Changes, appendChangeKey(nil, it.at), appendChange(nil, it.change))
	}
	if err := it.close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	after, err := m.history(1, 41, nil, nil, 0)
	if err != nil || countRecords(t, m.db) != 40 || !slices.EqualFunc(before, after, func(a, b Event) bool { return equalEvent(&a, &b) }) {
		t.Fatal(len(after), countRecords(t, m.db), err)
	}
	m.run(func(tx *Tx) {
		if err := tx.Compact(20); err != nil {
			t.Fatal(err)
		}
		tx.EndCommand()
	})
	m.removeAll()
	if n := countRecords(t, m.db); n != 41-20+1 {
		t.Fatalf("%d records are left", n)
	}
}

// TestDamagedChanges: whoever reads a damaged record of several changes is told, and nothing is removed by one.
func TestDamagedChanges(t *testing.T) {
	one := func(before, v storage.Version) []byte {
		return appendOneOfMany(nil, before, v, change{kind: Put, key: []byte("k")})
	}
	v := func(main Revision, sub uint32) storage.Version { return storage.Version{Main: main, Sub: sub} }
	several := func(changes ...[]byte) []byte { return slices.Concat(append([][]byte{{kindChanges}}, changes...)...) }
	// numbered is a change with any numbers in front.
	numbered := func(step, sub uint64) []byte {
		b := binary.AppendUvarint(binary.AppendUvarint(nil, step), sub)
		return append(b, kindChangePut, 0, 1, 'k')
	}
	two := slices.Concat(one(v(0, 0), v(2, 0)), one(v(2, 0), v(3, 0)))
	for name, record := range map[string][]byte{ // all of revision 3
		"nothing":               nil,
		"unknown kind":          {9, 1, 'k'},
		"no change":             several(),
		"half a change":         several(two[:len(two)-1]),
		"more than changes":     several(two, []byte{0}),
		"twice the same":        several(one(v(0, 0), v(2, 0)), numbered(0, 0), numbered(1, 0)),
		"backwards":             several(one(v(0, 0), v(2, 1)), numbered(0, 0), numbered(1, 0)),
		"too early":             several(one(v(0, 0), v(2, 0))),
		"too late":              several(two, one(v(3, 0), v(4, 0))),
		"no revision":           several(numbered(0, 1), numbered(3, 0)),
		"revision out of range": several(one(v(0, 0), v(2, 0)), numbered(math.MaxUint64, 5), numbered(2, 0)),
		"sub out of range":      several(numbered(3, 1<<32)),
		"long key":              {kindChanges, 3, 0, kindChangePut, 0, 2, 'k'},
		"unknown kind within":   {kindChanges, 3, 0, kindChanges, 0, 1, 'k'},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, storage.Options{}, Options{})
			m.put("k", "1")
			m.put("k", "2")
			b := m.db.NewBatch()
			b.DeleteRange(storage.Changes, nil, nil)
			b.Set(storage.Changes, appendChangeKey(nil, v(3, 0)), record)
			if err := b.Commit(); err != nil {
				t.Fatal(err)
			}
			if _, err := m.history(0, 3, nil, nil, 0); !errors.Is(err, errDamaged) {
				t.Fatalf("history: %v", err)
			}
			m.run(func(tx *Tx) {
				if err := tx.Compact(3); err != nil {
					t.Fatal(err)
				}
				tx.EndCommand()
			})
			if removed, _, err := m.s.CompactStep(100); !errors.Is(err, errDamaged) || removed != 0 {
				t.Fatalf("removal: %d, %v", removed, err)
			}
		})
	}
}

// TestChangeWithoutRevision: the key of a record of changes may be damaged, too.
func TestChangeWithoutRevision(t *testing.T) {
	for _, main := range []Revision{0, math.MinInt64, -1} {
		m := newMachine(t, storage.Options{}, Options{})
		m.put("k", "1")
		b := m.db.NewBatch()
		b.Set(storage.Changes, appendChangeKey(nil, storage.Version{Main: main}), appendChange(nil, change{kind: Put, key: []byte("k")}))
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		it, err := openChanges(m.db, storage.Version{}, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		for it.next() {
		}
		if err := it.close(); !errors.Is(err, errDamaged) {
			t.Fatalf("%d: %v", main, err)
		}
	}
}

func FuzzOneOfMany(f *testing.F) {
	at := storage.Version{Main: 300, Sub: 7}
	f.Add(int64(0), uint32(0), appendOneOfMany(nil, storage.Version{}, at, change{kind: Put, key: []byte("k")}))
	f.Add(int64(300), uint32(6), appendOneOfMany(nil, storage.Version{Main: 300, Sub: 6}, at, change{kind: Delete, replaced: storage.Version{Main: 1}}))
	f.Add(int64(300), uint32(7), appendOneOfMany(nil, at, at, change{kind: Put}))
	f.Add(int64(300), uint32(8), appendOneOfMany(nil, at, at, change{kind: Put}))
	f.Add(int64(math.MaxInt64), uint32(0), appendOneOfMany(nil, storage.Version{}, at, change{kind: Put}))
	f.Fuzz(func(t *testing.T, main int64, sub uint32, b []byte) {
		before := storage.Version{Main: max(main, 0), Sub: sub}
		v, c, rest, ok := decodeOneOfMany(b, before)
		if !ok {
			return
		}
		if !before.Less(v) {
			t.Fatalf("%v follows %v", v, before)
		}
		encoded := appendOneOfMany(nil, before, v, c)
		if len(encoded) > len(b)-len(rest) {
			t.Fatalf("%x grows to %x", b, encoded)
		}
		again, d, rest, ok := decodeOneOfMany(encoded, before)
		if !ok || len(rest) > 0 || again != v || d.kind != c.kind || d.replaced != c.replaced || !bytes.Equal(d.key, c.key) {
			t.Fatalf("%x: %v %+v, again %v %+v %x %v", b, v, c, again, d, rest, ok)
		}
	})
}
