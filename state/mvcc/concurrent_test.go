package mvcc

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"keelson/storage"
)

const concurrentKeys = 12

// writes says what revision rev does to a key of TestConcurrentReaders: everything follows from the revision.
func writes(rev Revision, key int) (put, touched bool) {
	if rev%5 == 0 { // every fifth deletes some keys
		return false, key%3 == int(rev/5)%3
	}
	return true, rev%2 == 0 || key%2 == 0
}

// expected is the revision that last put a key as of rev, 0 if it is not there.
func expected(rev Revision, key int) Revision {
	for ; rev > 1; rev-- {
		if put, touched := writes(rev, key); touched {
			if put {
				return rev
			}
			return 0
		}
	}
	return 0
}

// TestConcurrentReaders has all kinds of readers at work while one goroutine applies and compacts and another removes
// what was compacted. Every answer must be exactly that of its revision, and what a view can read when it is opened it
// can read until it is closed.
func TestConcurrentReaders(t *testing.T) {
	const revisions = 400
	seeds(t, 1, func(t *testing.T, r *rand.Rand) {
		m := newMachine(t, storage.Options{MemtableBytes: 32 << 10, CacheBytes: 1 << 16}, Options{NewestCacheBytes: 64 * 4 * 300})
		var done atomic.Bool
		var all sync.WaitGroup
		start := func(f func(r *rand.Rand) error) {
			r := rand.New(rand.NewPCG(r.Uint64(), 0))
			all.Go(func() {
				for !done.Load() && !t.Failed() {
					if err := f(r); err != nil {
						t.Error(err)
					}
				}
			})
		}
		start(func(r *rand.Rand) error { return readView(m.s, r) })
		start(func(r *rand.Rand) error { return readView(m.s, r) })
		start(func(r *rand.Rand) error { return readPages(m.s, r) })
		start(func(r *rand.Rand) error { return readChanges(m.s, r) })
		start(func(r *rand.Rand) error { return readHashes(m.s) })
		start(func(r *rand.Rand) error {
			_, _, err := m.s.CompactStep(1 + r.IntN(40))
			return err
		})
		for m.s.Revision() < revisions && !t.Failed() {
			m.run(func(tx *Tx) {
				for range 1 + r.IntN(3) {
					writeRevision(t, tx)
				}
				if r.IntN(6) == 0 {
					if rev := tx.Revision() - r.Int64N(10); rev > tx.Compacted() && rev > 0 {
						if err := tx.Compact(rev); err != nil {
							t.Error(err)
						}
						tx.EndCommand()
					}
				}
			})
		}
		done.Store(true)
		all.Wait()
		m.removeAll()
		m.close()
	})
}

func writeRevision(t *testing.T, tx *Tx) {
	rev := tx.Revision() + 1
	for k := range concurrentKeys {
		var err error
		key := fmt.Appendf(nil, "k%02d", k)
		switch put, touched := writes(rev, k); {
		case touched && put:
			_, err = tx.Put(key, binary.BigEndian.AppendUint64(nil, uint64(rev)), 0, false, false)
		case touched:
			_, err = tx.DeleteRange(key, nil, false, nil)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if !tx.Changed() { // so that revisions count up whatever is deleted
		if _, err := tx.Put([]byte("~"), nil, 0, false, false); err != nil {
			t.Error(err)
		}
	}
	tx.EndCommand()
}

// readView reads at random readable revisions of one view, in all ways.
func readView(s *Store, r *rand.Rand) error {
	v := s.View()
	defer v.Close()
	for range 5 {
		oldest := max(v.Compacted(), 1)
		rev := oldest + r.Int64N(v.Revision()-oldest+1)
		q := Query{Key: []byte("k"), End: []byte("l"), Revision: rev}
		if r.IntN(3) == 0 {
			rev, q.Revision = v.Revision(), 0
		}
		if r.IntN(2) == 0 {
			q.Key, q.End = fmt.Appendf(nil, "k%02d", r.IntN(concurrentKeys)), nil
		}
		got := map[string]Revision{}
		_, err := v.Range(q, func(kv *KeyValue) bool {
			got[string(kv.Key)] = int64(binary.BigEndian.Uint64(kv.Value))
			return true
		})
		if err != nil {
			return fmt.Errorf("view at %d (floor %d), revision %d: %w", v.Revision(), v.Compacted(), rev, err)
		}
		for k := range concurrentKeys {
			name := fmt.Sprintf("k%02d", k)
			if !(Selector{q.Key, q.End}).Contains([]byte(name)) {
				continue
			}
			if want := expected(rev, k); got[name] != want {
				return fmt.Errorf("view at %d (floor %d), revision %d: %s is of %d, want %d", v.Revision(), v.Compacted(), rev, name, got[name], want)
			}
		}
	}
	return nil
}

func readPages(s *Store, r *rand.Rand) error {
	v := s.View()
	c, err := v.Cursor(Query{Key: []byte("k"), End: []byte("l")})
	v.Close()
	for n, done := 0, false; err == nil && !done; {
		done, err = c.Next(1+r.Int64N(5), func(kv *KeyValue) bool {
			for ; n < concurrentKeys && expected(c.Revision(), n) == 0; n++ {
			}
			if want := fmt.Sprintf("k%02d", n); string(kv.Key) != want || int64(binary.BigEndian.Uint64(kv.Value)) != expected(c.Revision(), n) {
				err = fmt.Errorf("page at %d: %s = %x", c.Revision(), kv.Key, kv.Value)
			}
			n++
			return true
		})
	}
	if err == ErrCompacted {
		return nil // overtaken, as it may be
	}
	return err
}

func readChanges(s *Store, r *rand.Rand) error {
	from := max(s.Compacted(), 2)
	at, n := from-1, 0
	_, err := s.Changes(from, s.Revision(), nil, nil, r.IntN(2000), func(ev *Event) error {
		rev := ev.KV.ModRevision
		if rev != at {
			if rev != at+1 {
				return fmt.Errorf("revision %d follows %d", rev, at)
			}
			at, n = rev, 0
		}
		if int(ev.Sub) != n {
			return fmt.Errorf("change %d.%d at place %d", rev, ev.Sub, n)
		}
		n++
		if ev.Kind == Put && len(ev.KV.Value) == 8 && int64(binary.BigEndian.Uint64(ev.KV.Value)) != rev {
			return fmt.Errorf("change %d.%d has value %x", rev, ev.Sub, ev.KV.Value)
		}
		return nil
	})
	if err == ErrCompacted {
		return nil
	}
	return err
}

// readHashes asks for the same hash twice.
func readHashes(s *Store) error {
	first, err := s.HashKV(0)
	if err != nil {
		return err
	}
	again, err := freshHashes(s).HashKV(first.Revision)
	if err == ErrCompacted {
		return nil
	}
	if err == nil && again.Compacted == first.Compacted && again.Hash != first.Hash {
		err = fmt.Errorf("hash at %d under %d: %08x, then %08x", first.Revision, first.Compacted, first.Hash, again.Hash)
	}
	return err
}

// TestRemovalWaitsForViews: nothing that an open view can read is removed, and a view opened later does not hold up
// the removal.
func TestRemovalWaitsForViews(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "1")
	m.put("k", "2")
	old := m.s.View()
	m.put("k", "3")
	m.compact(4)
	var young *View
	for range 3 {
		if removed, more, err := m.s.CompactStep(100); removed != 0 || !more || err != nil {
			t.Fatalf("removed %d, more %v, %v while a view is open", removed, more, err)
		}
		if young == nil {
			young = m.s.View()
			defer young.Close()
		}
	}
	for rev, want := range map[Revision]string{0: "2", 2: "1", 3: "2"} {
		pairs, _, err := collect(old.Range, Query{Key: []byte("k"), Revision: rev})
		if err != nil || len(pairs) != 1 || string(pairs[0].Value) != want {
			t.Fatalf("revision %d: %v %v", rev, pairs, err)
		}
	}
	if _, _, err := collect(young.Range, Query{Key: []byte("k"), Revision: 3}); err != ErrCompacted {
		t.Fatal(err)
	}
	old.Close()
	if removed := m.removeAll(); removed != 2 {
		t.Fatalf("removed %d", removed)
	}
}

// TestGate: whoever was in before a turn counts until he leaves, whoever comes later does not.
func TestGate(t *testing.T) {
	var g gate
	for range 3 {
		a, b := g.enter(), g.enter()
		g.turn()
		if c := g.enter(); g.drained() {
			t.Fatal("drained with two inside")
		} else {
			g.leave(c)
		}
		c := g.enter()
		g.leave(a)
		if g.drained() {
			t.Fatal("drained with one inside")
		}
		g.leave(b)
		if !g.drained() {
			t.Fatal("not drained though all have left")
		}
		g.leave(c)
	}
}

// TestGateLateReader: who was too slow between reading the epoch and being counted is sent away to try again.
func TestGateLateReader(t *testing.T) {
	var g gate
	e := g.epoch.Load()
	g.turn()
	if !g.drained() || g.join(e) || !g.drained() {
		t.Fatal("a reader came in under an epoch that had drained")
	}
	g.turn() // the same parity again
	if g.join(e) || !g.join(g.epoch.Load()) {
		t.Fatal("epochs of the same parity are taken for one another")
	}
}

// TestGateConcurrent: no one who entered before a turn is inside once it has drained.
func TestGateConcurrent(t *testing.T) {
	var g gate
	var turns atomic.Int64 // counted up after each turn that has drained
	var done atomic.Bool
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for !done.Load() {
				e := g.enter()
				before := turns.Load()
				runtime.Gosched()
				// The turn that was under way on entering may end meanwhile, and one more may begin, but not end.
				if after := turns.Load(); after > before+1 {
					t.Errorf("inside while %d turns drained", after-before)
				}
				g.leave(e)
			}
		})
	}
	for range 300 {
		g.turn()
		for !g.drained() {
			runtime.Gosched()
		}
		turns.Add(1)
	}
	done.Store(true)
	all.Wait()
}
