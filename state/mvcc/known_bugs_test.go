package mvcc

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"keelson/storage"
)

// The tests here are named after bugs that systems of this kind have had.

// TestA8NegativeLease: a lease id is any 64 bits, and comes back as it was given.
func TestA8NegativeLease(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{NewestCacheBytes: -1})
	for i, lease := range []int64{-1, math.MinInt64, math.MaxInt64, 0, 1} {
		m.run(func(tx *Tx) {
			if _, err := tx.Put([]byte("k"), nil, lease, false, false); err != nil {
				t.Fatal(err)
			}
			tx.EndCommand()
		})
		pairs, _, err := m.query(Query{Key: []byte("k")})
		if err != nil || len(pairs) != 1 || pairs[0].Lease != lease || pairs[0].Version != int64(i+1) {
			t.Fatalf("lease %d: %+v %v", lease, pairs, err)
		}
	}
}

// TestA10RefusalWritesNothing: a refused put or compaction leaves nothing behind, in the tables or in memory.
func TestA10RefusalWritesNothing(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("a", "1")
	before, hash, lines := *m.s.shared.Load(), mustHash(t, m.s), len(dumpTables(t, m.db))
	events := m.run(func(tx *Tx) {
		for _, o := range []op{
			{key: "missing", ignoreValue: true}, {key: "missing", ignoreLease: true}, {key: "missing", ignoreValue: true, ignoreLease: true},
		} {
			if _, err := tx.Put([]byte(o.key), nil, 0, o.ignoreValue, o.ignoreLease); err != ErrKeyNotFound {
				t.Fatalf("%+v: %v", o, err)
			}
		}
		if err := tx.Compact(99); err != ErrFuture {
			t.Fatal(err)
		}
		if err := tx.Compact(-1); err != ErrCompacted {
			t.Fatal(err)
		}
		if rev, changed := tx.EndCommand(); rev != 2 || changed {
			t.Fatalf("revision %d, changed %v", rev, changed)
		}
	})
	if len(events) != 0 || *m.s.shared.Load() != before || mustHash(t, m.s) != hash || len(dumpTables(t, m.db)) != lines {
		t.Fatalf("a refusal changed something: %v %+v", events, *m.s.shared.Load())
	}
}

// TestA11RevisionAfterCrashInCompaction: the revision does not go down when the power fails while old versions, the
// newest revisions among them, are being removed.
func TestA11RevisionAfterCrashInCompaction(t *testing.T) {
	seeds(t, 20, func(t *testing.T, r *rand.Rand) {
		m := newMachine(t, storage.Options{}, Options{})
		for i := range 20 {
			m.put("k", fmt.Sprint(i))
			m.del("k", "")
		}
		rev := m.s.Revision()
		m.compact(rev)
		flushAt := r.IntN(25)
		for i := range 25 {
			if i == flushAt {
				if err := m.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := m.s.CompactStep(2); err != nil {
				t.Fatal(err)
			}
		}
		m.crash(r, r.IntN(101))
		if m.s.Revision() != rev || m.s.Compacted() != rev {
			t.Fatalf("revision %d, floor %d after the crash, want %d", m.s.Revision(), m.s.Compacted(), rev)
		}
		m.removeAll()
		if got := m.put("k", "next"); got != rev+1 {
			t.Fatalf("revision %d follows %d", got, rev)
		}
		m.close()
	})
}

// TestA12KeyWrittenTwiceInOneBatch: the newest of several versions of a run is what is read, within and after it.
func TestA12KeyWrittenTwiceInOneBatch(t *testing.T) {
	for _, cache := range []int64{-1, 0} {
		m := newMachine(t, storage.Options{}, Options{NewestCacheBytes: cache})
		m.put("k", "0")
		m.run(func(tx *Tx) {
			for _, v := range []string{"1", "2", "3"} {
				if _, err := tx.Put([]byte("k"), []byte(v), 0, false, false); err != nil {
					t.Fatal(err)
				}
				for _, q := range []Query{{Key: []byte("k")}, {Key: []byte("k"), End: []byte("l")}} {
					if pairs, _, err := collect(tx.Range, q); err != nil || len(pairs) != 1 || string(pairs[0].Value) != v {
						t.Fatalf("%+v %v, want %s", pairs, err, v)
					}
				}
				tx.EndCommand()
			}
		})
		for i, q := range []Query{{Key: []byte("k")}, {Key: []byte("k"), End: []byte("l")}} {
			pairs, _, err := m.query(q)
			if err != nil || len(pairs) != 1 || string(pairs[0].Value) != "3" || pairs[0].Version != 4 {
				t.Fatalf("query %d: %+v %v", i, pairs, err)
			}
		}
		if events, err := m.history(2, 5, nil, nil, 0); err != nil || len(events) != 4 {
			t.Fatalf("%d events %v, want each once", len(events), err)
		}
	}
}

// TestA17RestartCompare: a restart, with or without a flush before it, changes no answer.
func TestA17RestartCompare(t *testing.T) {
	m := newMachine(t, storage.Options{MemtableBytes: 16 << 10}, Options{})
	for i := range 300 {
		m.put(fmt.Sprintf("k%d", i%40), strings.Repeat("v", i))
		if i%7 == 0 {
			m.del(fmt.Sprintf("k%d", i%20), fmt.Sprintf("k%d", i%20+3))
		}
	}
	m.compact(200)
	if _, _, err := m.s.CompactStep(50); err != nil {
		t.Fatal(err)
	}
	ask := func() (answers string) {
		for rev := Revision(199); rev <= m.s.Revision(); rev += 20 {
			pairs, sum, err := m.query(Query{Key: []byte("k"), End: []byte("l"), Revision: rev})
			answers += fmt.Sprint(pairs, sum, err)
			h, err := m.s.HashKV(rev)
			answers += fmt.Sprint(h, err)
		}
		events, err := m.history(200, m.s.Revision(), nil, nil, 0)
		for i := range events {
			answers += eventLine(&events[i])
		}
		return answers + fmt.Sprint(err, mustHash(t, m.s), *m.s.shared.Load())
	}
	before := ask()
	m.reopen()
	if after := ask(); after != before {
		t.Fatal("answers differ after a restart")
	}
}

// TestA21PairsDoNotShareMemory: what a read gave is not changed by the reads after it, through any of the ways to read.
func TestA21PairsDoNotShareMemory(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{NewestCacheBytes: -1})
	for i := range 50 {
		m.put(fmt.Sprintf("key%02d", i), fmt.Sprintf("value%02d", i))
	}
	ways := map[string]func(yield func(*KeyValue) bool) error{}
	for order := range int32(3) {
		for target := range int32(5) {
			ways[fmt.Sprintf("range %d %d", order, target)] = func(yield func(*KeyValue) bool) error {
				v := m.s.View()
				defer v.Close()
				_, err := v.Range(Query{Key: []byte("k"), End: []byte("l"), SortOrder: order, SortTarget: target}, yield)
				return err
			}
		}
	}
	ways["cursor"] = func(yield func(*KeyValue) bool) error {
		v := m.s.View()
		c, err := v.Cursor(Query{Key: []byte("k"), End: []byte("l")})
		v.Close()
		for done := false; err == nil && !done; {
			done, err = c.Next(3, yield)
		}
		return err
	}
	ways["get"] = func(yield func(*KeyValue) bool) error {
		v := m.s.View()
		defer v.Close()
		var kept []*KeyValue
		for i := range 50 {
			kv, err := v.Get(fmt.Appendf(nil, "key%02d", i))
			if err != nil {
				return err
			}
			kept = append(kept, kv)
		}
		for _, kv := range kept {
			yield(kv)
		}
		return nil
	}
	for name, read := range ways {
		var keys []string
		err := read(func(kv *KeyValue) bool {
			if kv.Key[3] != kv.Value[5] || kv.Key[4] != kv.Value[6] {
				t.Fatalf("%s: %s = %s", name, kv.Key, kv.Value)
			}
			keys = append(keys, string(kv.Key))
			return true
		})
		slices.Sort(keys) // those in descending order too
		keys = slices.Compact(keys)
		if err != nil || len(keys) != 50 || keys[0] != "key00" || keys[49] != "key49" {
			t.Fatalf("%s: %v %v", name, keys, err)
		}
	}
}

// TestW7DeleteAtTheCompactedRevision: compacting at the revision of a delete keeps its event.
func TestW7DeleteAtTheCompactedRevision(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "1")
	m.put("k", "2")
	m.del("k", "")
	rev := m.s.Revision()
	m.compact(rev)
	check := func(when string) {
		t.Helper()
		events, err := m.history(rev, rev, nil, nil, 0)
		if err != nil || len(events) != 1 || events[0].Kind != Delete || string(events[0].KV.Key) != "k" || events[0].Prev != nil {
			t.Fatalf("%s: %+v %v", when, events, err)
		}
	}
	check("before removal")
	m.removeAll()
	check("after removal")
	m.reopen()
	m.removeAll()
	check("after a restart")
	m.put("other", "1")
	m.compact(rev + 1)
	m.removeAll()
	for _, l := range dumpTables(t, m.db) {
		if strings.Contains(l.text, `"k"`) {
			t.Fatalf("left over: %s", l.text)
		}
	}
}

// TestW8DeleteAfterCrashInCompaction: the same when the power fails at any step of the removal.
func TestW8DeleteAfterCrashInCompaction(t *testing.T) {
	seeds(t, 1, func(t *testing.T, r *rand.Rand) {
		for steps := range 14 {
			m := newMachine(t, storage.Options{}, Options{})
			m.put("k", "1")
			for i := range 10 {
				m.put("other", fmt.Sprint(i))
			}
			m.del("k", "")
			rev := m.s.Revision()
			m.compact(rev)
			for range steps {
				if _, _, err := m.s.CompactStep(1); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.db.Flush(); err != nil {
				t.Fatal(err)
			}
			m.crash(r, r.IntN(101))
			for _, when := range []string{"after the crash", "after removal"} {
				events, err := m.history(rev, rev, nil, nil, 0)
				if err != nil || len(events) != 1 || events[0].Kind != Delete {
					t.Fatalf("%s at step %d: %+v %v", when, steps, events, err)
				}
				m.removeAll()
			}
			m.close()
		}
	})
}

// TestD16RunWithoutChange: a run that changes no pair still counts as applied after a restart, and refused commands
// and compactions are no different.
func TestD16RunWithoutChange(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "1")
	for i, f := range []func(tx *Tx){
		func(tx *Tx) {},
		func(tx *Tx) { tx.Get([]byte("k")) },
		func(tx *Tx) { tx.DeleteRange([]byte("none"), nil, false, nil) },
		func(tx *Tx) { tx.Compact(99) },
		func(tx *Tx) { tx.Compact(2) },
	} {
		m.run(func(tx *Tx) { f(tx); tx.EndCommand() })
		m.reopen()
		if m.applied != uint64(i+2) || m.s.Revision() != 2 {
			t.Fatalf("after %d: applied %d, revision %d", i, m.applied, m.s.Revision())
		}
	}
}
