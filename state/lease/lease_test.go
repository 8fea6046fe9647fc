package lease

import (
	"bytes"
	"encoding/hex"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/storage"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag  = flag.Int("rounds", 3000, "steps of random tests")
	rewriteFlag = flag.Bool("rewrite", false, "write golden files anew")
)

func open(t testing.TB, fs vfs.FS) *storage.DB {
	db, err := storage.Open(storage.Options{FS: fs, Dir: "db", Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// write runs f in one batch.
func write(t testing.TB, db *storage.DB, table *Table, f func(*Tx)) {
	b := db.NewBatch()
	f(table.Begin(b))
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

func keysOf(t testing.TB, r storage.Reader, id ID) []string {
	var keys []string
	if err := Keys(r, id, func(k []byte) bool { keys = append(keys, string(k)); return true }); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestGoldenRecord(t *testing.T) {
	l := Lease{ID: -2, TTLSeconds: 9_000_000_000, RemainingSeconds: 300, Grant: Grant{Index: 1 << 40, Ordinal: 77}}
	testGolden(t, "testdata/record.v1.hex", l)
	l.CheckpointIndex = 1<<40 + 1
	testGolden(t, "testdata/checkpointed.v1.hex", l)
}

func testGolden(t *testing.T, path string, l Lease) {
	dump := hex.Dump(appendID(nil, l.ID)) + hex.Dump(appendRecord(nil, l))
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
	got, err := decodeRecord(l.ID, appendRecord(nil, l))
	if err != nil || got != l {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(appendRecord(nil, Lease{TTLSeconds: 10}))
	f.Add(appendRecord(nil, Lease{TTLSeconds: 10, RemainingSeconds: 3, CheckpointIndex: 5}))
	f.Add(append(appendRecord(nil, Lease{TTLSeconds: 10}), make([]byte, 8)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeRecord(5, b)
		if err == nil && !bytes.Equal(appendRecord(nil, l), b) {
			t.Fatalf("%x became %+v", b, l)
		}
	})
}

// Ids of every sign and the ends of the range have their own records and keys (known bug A8).
func TestExtremeIDs(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	ids := []ID{math.MinInt64, math.MinInt64 + 1, -256, -2, -1, 1, 2, 255, 256, math.MaxInt64 - 1, math.MaxInt64}
	var table Table
	write(t, db, &table, func(tx *Tx) {
		for i, id := range ids {
			tx.Grant(Lease{ID: id, TTLSeconds: int64(i)})
			tx.Move([]byte{0}, 0, id)
			tx.Move([]byte{0xff, 0xff}, 0, id)
			tx.Move([]byte{byte(i)}, 0, id)
		}
	})
	for i, id := range ids {
		l, ok, err := Get(db, id)
		if err != nil || !ok || l.ID != id || l.TTLSeconds != int64(i) {
			t.Errorf("%d: %+v, %v, %v", id, l, ok, err)
		}
		want := []string{"\x00", string([]byte{byte(i)}), "\xff\xff"}
		if got := keysOf(t, db, id); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%d: keys %q", id, got)
		}
	}
	var listed []ID
	if err := All(db, func(l Lease) bool { listed = append(listed, l.ID); return true }); err != nil {
		t.Fatal(err)
	}
	sort.Slice(ids, func(i, j int) bool { return uint64(ids[i]) < uint64(ids[j]) })
	if !slices.Equal(listed, ids) {
		t.Errorf("listed %v", listed)
	}
}

func TestCheckpoint(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	var table Table
	write(t, db, &table, func(tx *Tx) {
		tx.Grant(Lease{ID: 1, TTLSeconds: 600, Grant: Grant{Index: 3}})
		tx.Grant(Lease{ID: 2, TTLSeconds: 600, Grant: Grant{Index: 3, Ordinal: 1}})
		l, ok, err := tx.Get(1)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		l.RemainingSeconds, l.CheckpointIndex = 17, 9
		tx.Checkpoint(l)
	})
	want := Lease{ID: 1, TTLSeconds: 600, RemainingSeconds: 17, Grant: Grant{Index: 3}, CheckpointIndex: 9}
	if l, _, _ := Get(db, 1); l != want {
		t.Errorf("got %+v", l)
	}
	if l, _, _ := Get(db, 2); l.RemainingSeconds != 0 || l.CheckpointIndex != 0 {
		t.Errorf("the other one: %+v", l)
	}
}

func TestListingsStopWhenTold(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	var table Table
	write(t, db, &table, func(tx *Tx) {
		for id := ID(1); id < 5; id++ {
			tx.Grant(Lease{ID: id})
			tx.Move([]byte{byte(id)}, 0, 1)
		}
	})
	n := 0
	if err := All(db, func(Lease) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("%d leases, %v", n, err)
	}
	n = 0
	if err := Keys(db, 1, func([]byte) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// What a Table remembers never differs from what is stored: against a model, over reopening and forgetting.
func TestTableAgainstModel(t *testing.T) {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	r := rand.New(rand.NewPCG(s, 0))
	fs := vfs.NewMem()
	db := open(t, fs)
	defer func() { db.Close() }()
	var table Table
	leases := map[ID]Lease{}
	attached := map[string]ID{}
	for step := range *roundsFlag {
		write(t, db, &table, func(tx *Tx) {
			for range 1 + r.IntN(3) {
				stepModel(t, r, tx, leases, attached, uint64(step))
			}
		})
		if r.IntN(200) == 0 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
			db.Close()
			db, table = open(t, fs), Table{}
		}
		if r.IntN(50) == 0 {
			table.known = nil // as when it is full
		}
		if r.IntN(20) == 0 {
			compareModel(t, db, leases, attached)
		}
	}
	compareModel(t, db, leases, attached)
}

func stepModel(t *testing.T, r *rand.Rand, tx *Tx, leases map[ID]Lease, attached map[string]ID, index uint64) {
	id := ID(1 + r.IntN(12))
	if r.IntN(2) == 0 {
		id = -id
	}
	exists, err := tx.Exists(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, want := leases[id]; exists != want {
		t.Fatalf("lease %d exists: %v, want %v", id, exists, want)
	}
	key := string(rune('a' + r.IntN(20)))
	switch n := r.IntN(10); {
	case !exists:
		l := Lease{ID: id, TTLSeconds: r.Int64N(100), Grant: Grant{Index: index}}
		tx.Grant(l)
		leases[id] = l
	case n < 5:
		tx.Move([]byte(key), attached[key], id)
		attached[key] = id
	case n < 7:
		tx.Move([]byte(key), attached[key], 0)
		delete(attached, key)
	case n < 8:
		l := leases[id]
		l.RemainingSeconds, l.CheckpointIndex = r.Int64N(50), index
		leases[id] = l
		tx.Checkpoint(l)
	default:
		keys, err := tx.Keys(id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range keys {
			got = append(got, string(k))
			tx.Move(k, id, 0)
			delete(attached, string(k))
		}
		if !slices.IsSorted(got) {
			t.Fatalf("keys of %d: %q", id, got)
		}
		tx.Revoke(id)
		delete(leases, id)
	}
}

func compareModel(t *testing.T, db *storage.DB, leases map[ID]Lease, attached map[string]ID) {
	got := map[ID]Lease{}
	if err := All(db, func(l Lease) bool { got[l.ID] = l; return true }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, leases) {
		t.Fatalf("leases\n%v, want\n%v", got, leases)
	}
	keys := map[string]ID{}
	for id := range leases {
		for _, k := range keysOf(t, db, id) {
			keys[k] = id
		}
	}
	if !reflect.DeepEqual(keys, attached) {
		t.Fatalf("keys\n%v, want\n%v", keys, attached)
	}
}

func TestDamagedRecordsAreErrors(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	b := db.NewBatch()
	b.Set(storage.Leases, appendID(nil, 1), []byte{9, 9})
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Get(db, 1); err == nil || !strings.Contains(err.Error(), "record of 1") {
		t.Errorf("get: %v", err)
	}
	if err := All(db, func(Lease) bool { return true }); err == nil {
		t.Errorf("list: no error")
	}
}
