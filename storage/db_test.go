package storage

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests (0: a new one)")
	roundsFlag = flag.Int("rounds", 15, "rounds of random tests")
)

func openTest(t testing.TB, fs vfs.FS, o Options) *DB {
	t.Helper()
	o.FS, o.Dir = fs, "db"
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closeTest(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, db *DB, f func(b *Batch)) {
	t.Helper()
	b := db.NewBatch()
	f(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

// list walks over an iterator.
func list(t testing.TB, it *Iter, err error) (found []string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		found = append(found, entry(t, it))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return found
}

func entry(t testing.TB, it *Iter) string {
	t.Helper()
	k, v := it.KeyVersion()
	b, err := it.Value()
	if err != nil {
		t.Fatal(err)
	}
	if string(k) != string(it.Key()) {
		t.Fatalf("key %q and %q", it.Key(), k)
	}
	if v == (Version{}) {
		return fmt.Sprintf("%s=%s", k, b)
	}
	return fmt.Sprintf("%s@%d.%d=%s", k, v.Main, v.Sub, b)
}

func expect(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestSpacesAreApart: equal keys in different spaces do not meet, and a range ends with its space.
func TestSpacesAreApart(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	defer closeTest(t, db)
	spaces := []Space{Alarms, Auth, Changes, LeaseKeys, Leases, Members, Meta, Tree, Versions}
	slices.Sort(spaces)
	if len(slices.Compact(slices.Clone(spaces))) != len(spaces) {
		t.Fatal("two spaces share a letter")
	}
	commit(t, db, func(b *Batch) {
		for _, s := range spaces {
			for _, k := range []string{"", "k", "\xff\xff"} {
				b.Set(s, []byte(k), []byte{byte(s)})
			}
		}
	})
	commit(t, db, func(b *Batch) { b.DeleteRange(Meta, nil, nil); b.DeleteRange(Tree, []byte("k"), nil) })
	for _, s := range spaces {
		it, err := db.Iter(s, nil, nil)
		got := list(t, it, err)
		l := string(rune(s))
		switch s {
		case Meta:
			expect(t, l, got)
		case Tree:
			expect(t, l, got, "="+l)
		default:
			expect(t, l, got, "="+l, "k="+l, "\xff\xff="+l)
		}
	}
}

// TestIter walks in all the ways there are.
func TestIter(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	defer closeTest(t, db)
	commit(t, db, func(b *Batch) {
		for _, k := range []string{"a", "b", "c"} {
			for _, v := range []Version{{1, 0}, {2, 0}, {2, 1}, {5, 3}} {
				b.SetVersion(Versions, []byte(k), v, []byte("x"), nil, []byte("y"))
			}
		}
	})
	for _, flushed := range []bool{false, true} {
		if flushed {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		it, err := db.Iter(Versions, []byte("b"), []byte("c"))
		expect(t, "bounded", list(t, it, err), "b@5.3=xy", "b@2.1=xy", "b@2.0=xy", "b@1.0=xy")
		it, err = db.Iter(Versions, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := func(what string, ok bool, want string) {
			t.Helper()
			if ok != it.Valid() || ok != (want != "") || ok && entry(t, it) != want {
				t.Errorf("%s: %v %v", what, ok, want)
			}
		}
		at("last", it.Last(), "c@1.0=xy")
		at("prev", it.Prev(), "c@2.0=xy")
		at("seek", it.SeekGE([]byte("aa")), "b@5.3=xy")
		at("next key", it.NextKey(), "c@5.3=xy")
		at("next key at the end", it.NextKey(), "")
		at("seek back", it.SeekLT([]byte("b")), "a@1.0=xy")
		at("version", it.SeekVersion([]byte("b"), Version{2, 9}), "b@2.1=xy")
		at("exact version", it.SeekVersion([]byte("b"), Version{2, 0}), "b@2.0=xy")
		at("older than all", it.SeekVersion([]byte("b"), Version{Main: 1, Sub: 0}), "b@1.0=xy")
		at("next in key", it.Next(), "c@5.3=xy")
		at("newest", it.SeekVersion([]byte("b"), VersionMax), "b@5.3=xy")
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		if it, err = db.PointIter(Versions); err != nil {
			t.Fatal(err)
		}
		at("point", it.SeekVersionOf([]byte("b"), Version{4, 0}), "b@2.1=xy")
		at("point: next", it.Next(), "b@2.0=xy")
		at("point: no such key", it.SeekVersionOf([]byte("bb"), VersionMax), "")
		at("point: key in front", it.SeekVersionOf([]byte("a"), VersionMax), "a@5.3=xy")
		at("point: empty key", it.SeekVersionOf(nil, VersionMax), "")
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBatchReadsItself: a batch sees its own writes, an iterator those from before it was made, the database none.
func TestBatchReadsItself(t *testing.T) {
	db := openTest(t, vfs.NewMem(), Options{})
	defer closeTest(t, db)
	commit(t, db, func(b *Batch) {
		b.Set(Meta, []byte("a"), []byte("old"))
		b.SetVersion(Versions, []byte("k"), Version{Main: 1}, []byte("1"))
	})
	b := db.NewBatch()
	b.Set(Meta, []byte("b"), []byte("new"))
	b.Delete(Meta, []byte("a"))
	b.SetVersion(Versions, []byte("k"), Version{Main: 2}, []byte("2"))
	it, err := b.Iter(Versions, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !it.First() || entry(t, it) != "k@2.0=2" {
		t.Error("the batch does not see its own version")
	}
	for i := range 100 { // grows the batch under the iterator
		b.SetVersion(Versions, fmt.Appendf(nil, "k%d", i), Version{Main: 3}, make([]byte, 100))
	}
	b.DeleteVersion(Versions, []byte("k"), Version{Main: 1})
	if !it.Next() || entry(t, it) != "k@1.0=1" || it.Next() {
		t.Error("an iterator sees writes that came after it")
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if it, err = b.PointIter(Versions); err != nil || !it.SeekVersionOf([]byte("k"), VersionMax) || entry(t, it) != "k@2.0=2" || it.Next() {
		t.Error("a point iterator of the batch does not see the batch")
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := b.Get(Meta, []byte("b")); string(v) != "new" || !ok || err != nil {
		t.Error(v, ok, err)
	}
	if _, ok, _ := b.Get(Meta, []byte("a")); ok {
		t.Error("a deleted key is still there")
	}
	if v, ok, err := db.Get(Meta, []byte("a")); string(v) != "old" || !ok || err != nil {
		t.Error("the database sees a batch before its commit")
	}
	b.Discard()
	if _, ok, _ := db.Get(Meta, []byte("b")); ok {
		t.Error("a discarded batch left a trace")
	}
}

// TestDurable reads only what was flushed.
func TestDurable(t *testing.T) {
	flushes := atomic.Int64{}
	db := openTest(t, vfs.NewMem(), Options{Flushed: func() { flushes.Add(1) }})
	defer closeTest(t, db)
	commit(t, db, func(b *Batch) { b.Set(Meta, []byte("a"), []byte("1")); b.Set(Meta, []byte("ab"), []byte("x")) })
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if flushes.Load() == 0 {
		t.Error("nobody was told of the flush")
	}
	commit(t, db, func(b *Batch) { b.Set(Meta, []byte("a"), []byte("2")); b.Set(Meta, []byte("b"), []byte("2")) })
	d := db.Durable()
	for key, want := range map[string]string{"a": "1", "ab": "x", "b": "", "": ""} {
		v, ok, err := d.Get(Meta, []byte(key))
		if string(v) != want || ok != (want != "") || err != nil {
			t.Errorf("%q: %q %v %v, want %q", key, v, ok, err, want)
		}
	}
	it, err := d.Iter(Meta, nil, nil)
	expect(t, "durable", list(t, it, err), "a=1", "ab=x")
}

// TestCheckpoint: a checkpoint opens as a database of its own.
func TestCheckpoint(t *testing.T) {
	fs := vfs.NewMem()
	db := openTest(t, fs, Options{})
	commit(t, db, func(b *Batch) { b.Set(Meta, []byte("a"), []byte("1")) })
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	commit(t, db, func(b *Batch) { b.Set(Meta, []byte("a"), []byte("2")) })
	if s := db.Sizes(); s.DiskBytes == 0 || s.LiveBytes == 0 || s.UnflushedBytes == 0 {
		t.Errorf("sizes %+v", s)
	}
	if err := db.Checkpoint("copy"); err == nil || !strings.HasPrefix(err.Error(), "storage: checkpoint to copy: ") {
		t.Errorf("a checkpoint over another: %v", err)
	}
	closeTest(t, db)
	copied, err := Open(Options{FS: fs, Dir: "copy", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTest(t, copied)
	if v, ok, err := copied.Get(Meta, []byte("a")); string(v) != "1" || !ok || err != nil {
		t.Errorf("copy has %q %v %v", v, ok, err)
	}
}

// TestOpenFails names what can't be opened.
func TestOpenFails(t *testing.T) {
	_, err := Open(Options{FS: vfs.NewMem(), Dir: "missing", ReadOnly: true})
	if err == nil || !strings.HasPrefix(err.Error(), "storage: open missing: ") {
		t.Error(err)
	}
}

// TestCrashLeavesPrefix is the promise that everything above rests on, for a Pebble without its own log: two goroutines
// commit batches, the power fails at a random moment, and what is left is a prefix of the batches in the order of
// their commits, whole batches only, no shorter than what was flushed.
func TestCrashLeavesPrefix(t *testing.T) {
	first := *seedFlag
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for round := range *roundsFlag {
		seed := first + uint64(round)
		crashRound(t, rand.New(rand.NewPCG(seed, seed)))
		if t.Failed() {
			t.Fatalf("repeat with -run '^%s$' -seed=%d -rounds=1", t.Name(), seed)
		}
	}
	t.Logf("seeds from %d", first)
}

func crashRound(t *testing.T, r *rand.Rand) {
	fs := vfs.NewCrashableMem()
	o := Options{MemtableBytes: 16 << 10, Manual: r.IntN(3) == 0}
	db := openTest(t, fs, o)
	flushed := uint64(0)
	batches := uint64(20 + r.IntN(200))
	side := uint64(0)
	var wait chan error
	for n := uint64(1); n <= batches; n++ {
		// A side batch, as the removal of old versions makes them, says how far the main ones had come.
		if wait == nil && r.IntN(4) == 0 {
			side++
			wait = make(chan error, 1)
			go func(side, seen uint64) {
				b := db.NewBatch()
				b.Set(Meta, []byte("side"), binary.BigEndian.AppendUint64(nil, side))
				b.Set(Meta, []byte("seen"), binary.BigEndian.AppendUint64(nil, seen))
				wait <- b.Commit()
			}(side, n-1)
		}
		size := r.IntN(60)
		if r.IntN(20) == 0 {
			size = 5000 // larger than a memtable can take in
		}
		commit(t, db, func(b *Batch) {
			number := binary.BigEndian.AppendUint64(nil, n)
			b.Set(Meta, []byte("first"), number)
			b.SetVersion(Versions, []byte("k"), Version{Main: int64(n)}, make([]byte, size))
			b.Set(Changes, number, make([]byte, size))
			if n > 10 {
				b.DeleteVersion(Versions, []byte("k"), Version{Main: int64(n - 10)})
				b.DeleteRange(Changes, nil, binary.BigEndian.AppendUint64(nil, n-9))
			}
			b.Set(Tree, []byte("last"), number)
		})
		if wait != nil && r.IntN(2) == 0 {
			if err := <-wait; err != nil {
				t.Fatal(err)
			}
			wait = nil
		}
		if r.IntN(30) == 0 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
			flushed = n
		}
	}
	if wait != nil {
		if err := <-wait; err != nil {
			t.Fatal(err)
		}
	}
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
	closeTest(t, db)
	db = openTest(t, clone, o)
	checkPrefix(t, db, flushed, batches)
	closeTest(t, db)
}

func checkPrefix(t *testing.T, db *DB, flushed, batches uint64) {
	number := func(s Space, key string) uint64 {
		v, ok, err := db.Get(s, []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return 0
		}
		return binary.BigEndian.Uint64(v)
	}
	n := number(Meta, "first")
	if last := number(Tree, "last"); last != n || n < flushed || n > batches {
		t.Fatalf("begins at %d, ends at %d; flushed %d of %d", n, last, flushed, batches)
	}
	if seen := number(Meta, "seen"); seen > n {
		t.Fatalf("a side batch that came after %d is there, but only %d batches are", seen, n)
	}
	var versions, changes []string
	for i := uint64(1); i <= n; i++ {
		if i+10 > n {
			versions = append(versions, fmt.Sprintf("k@%d", i))
			changes = append(changes, fmt.Sprint(i))
		}
	}
	slices.Reverse(versions)
	it, err := db.Iter(Versions, nil, nil)
	var got []string
	for _, e := range list(t, it, err) {
		got = append(got, e[:strings.Index(e, ".")])
	}
	expect(t, "versions", got, versions...)
	got = nil
	it, err = db.Iter(Changes, nil, nil)
	for _, e := range list(t, it, err) {
		got = append(got, fmt.Sprint(binary.BigEndian.Uint64([]byte(e[:8]))))
	}
	expect(t, "changes", got, changes...)
}

// A database that was opened again has a log file, empty as it is; a checkpoint of it has none.
func TestCheckpointOfAReopenedDatabase(t *testing.T) {
	fs := vfs.NewMem()
	for range 3 {
		db, err := Open(Options{FS: fs, Dir: "db"})
		if err != nil {
			t.Fatal(err)
		}
		b := db.NewBatch()
		b.Set(Meta, []byte("a"), []byte("1"))
		if err := errors.Join(b.Commit(), db.Flush(), fs.RemoveAll("copy"), db.Checkpoint("copy")); err != nil {
			t.Fatal(err)
		}
		names, err := fs.List("copy")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !IsCheckpointFile(name) {
				t.Errorf("the checkpoint holds %s", name)
			}
		}
		c, err := Open(Options{FS: fs, Dir: "copy"})
		if err != nil {
			t.Fatal(err)
		}
		if v, ok, err := c.Get(Meta, []byte("a")); err != nil || !ok || string(v) != "1" {
			t.Errorf("the copy holds %q, %v, %v", v, ok, err)
		}
		if err := errors.Join(c.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailedReadEndsTheProcess: F2, F5.
func TestFailedReadEndsTheProcess(t *testing.T) {
	mem := vfs.NewMem()
	db := openTest(t, mem, Options{})
	commit(t, db, func(b *Batch) {
		b.Set(Meta, []byte("a"), []byte("1"))
		b.SetVersion(Versions, []byte("k"), Version{Main: 1}, []byte("v"))
	})
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	closeTest(t, db)
	var armed atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	}))
	for what, read := range map[string]func(*DB) error{
		"get":       func(db *DB) error { _, _, err := db.Get(Meta, []byte("a")); return err },
		"batch get": func(db *DB) error { _, _, err := db.NewBatch().Get(Meta, []byte("a")); return err },
		"durable":   func(db *DB) error { _, _, err := db.Durable().Get(Meta, []byte("a")); return err },
		"iterate": func(db *DB) error {
			it, err := db.Iter(Versions, nil, nil)
			if err != nil {
				return err
			}
			defer it.Close()
			it.First()
			return it.Error()
		},
		"look up": func(db *DB) error {
			it, err := db.PointIter(Versions)
			if err != nil {
				return err
			}
			defer it.Close()
			it.SeekVersionOf([]byte("k"), Version{Main: 1})
			return it.Error()
		},
	} {
		var reasons atomic.Int64
		db := openTest(t, fs, Options{CacheBytes: 1, Manual: true, Fatal: func(reason string) {
			if reasons.Add(1); !strings.Contains(reason, "input/output error") {
				t.Errorf("%s: the reason is %q", what, reason)
			}
		}})
		armed.Store(true)
		err := read(db)
		armed.Store(false)
		if !errors.Is(err, syscall.EIO) || reasons.Load() == 0 {
			t.Errorf("%s: %v, and %d reasons to end", what, err, reasons.Load())
		}
		_ = db.Close()
	}
}
