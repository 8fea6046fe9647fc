package mvcc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"keelson/storage"
)

func fenceKey(i int) string { return fmt.Sprintf("k%04d", i) }

// scanned counts a range pair by pair, as the reference.
func scanned(t testing.TB, v *View, q Query) int64 {
	t.Helper()
	rev, err := v.at.resolve(q.Revision)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := rangeAll(v.s.db, rev, &Query{Key: q.Key, End: q.End, CountOnly: true}, countAll, 0, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sum.Count
}

// randomRange has bounds that are keys of pairs, keys beside them, or none.
func randomRange(r *rand.Rand, keys int) (key, end []byte) {
	bounds := []string{"\x00", "k", "l"}
	for range 4 {
		bounds = append(bounds, fenceKey(r.IntN(keys)), fenceKey(r.IntN(keys))+"\x00")
	}
	a, b := bounds[r.IntN(len(bounds))], bounds[r.IntN(len(bounds))]
	if r.IntN(5) == 0 {
		return []byte(a), []byte{0}
	}
	return []byte(min(a, b)), []byte(max(a, b) + "\x00")
}

// countRun changes some keys in one run of several commands.
func countRun(t *testing.T, m *machine, r *rand.Rand, keys int) {
	m.run(func(tx *Tx) {
		for range 1 + r.IntN(4) {
			var err error
			switch r.IntN(8) {
			case 0:
				from := r.IntN(keys)
				_, err = tx.DeleteRange([]byte(fenceKey(from)), []byte(fenceKey(from+r.IntN(keys/10))), false, nil)
			case 1, 2:
				_, err = tx.DeleteRange([]byte(fenceKey(r.IntN(keys))), nil, false, nil)
			default:
				from := r.IntN(keys)
				for i := range 1 + r.IntN(30) {
					if _, err = tx.Put([]byte(fenceKey((from+i)%keys)), []byte("v"), 0, false, false); err != nil {
						break
					}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			tx.EndCommand()
		}
	})
}

// TestCountsEqualScans asks for counts and pages of random ranges at random revisions, whatever the fences remember.
func TestCountsEqualScans(t *testing.T) {
	const keys = 600
	seeds(t, 5, func(t *testing.T, r *rand.Rand) {
		o := Options{fenceSpacing: []int{1, 3, 16, 64}[r.IntN(4)], birthsKept: []int{1, 7, 100, 5000}[r.IntN(4)]}
		m := newMachine(t, storage.Options{}, o)
		learned := false
		for step := range 400 {
			switch n := r.IntN(20); {
			case n < 9:
				countRun(t, m, r, keys)
				continue
			case n == 9 && step%5 == 0:
				if newer := m.s.Revision() - max(1, m.s.Compacted()); newer > 0 {
					m.compact(m.s.Revision() - r.Int64N(min(40, newer)))
					m.removeAll()
				}
				continue
			case n == 10 && step%10 == 0:
				m.reopen()
				continue
			}
			v := m.s.View()
			var q Query
			q.Key, q.End = randomRange(r, keys)
			if oldest := max(1, v.Compacted()); r.IntN(2) == 0 {
				q.Revision = oldest + r.Int64N(v.Revision()-oldest+1)
			}
			want := scanned(t, v, q)
			if q.CountOnly = r.IntN(2) == 0; !q.CountOnly {
				q.Limit = 1 + r.Int64N(20)
			}
			given := int64(0)
			sum, err := v.Range(q, func(*KeyValue) bool { given++; return true })
			if err != nil {
				t.Fatal(err)
			}
			if sum.Count != want || !q.CountOnly && (given != min(want, q.Limit) || sum.More != (want > q.Limit)) {
				t.Fatalf("step %d, options %+v: %+v at %d gave %d pairs and %+v, a scan %d", step, o, q, v.Revision(), given, sum, want)
			}
			v.Close()
			learned = learned || len(m.s.fences.keys) > 1
		}
		if !learned && o.fenceSpacing < 64 {
			t.Error("no fence was ever put up")
		}
		m.close()
	})
}

// TestFencesSpareScans shows that a second count scans next to nothing, at the newest revision and at an older one.
func TestFencesSpareScans(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{fenceSpacing: 16})
	m.run(func(tx *Tx) {
		for i := range 5000 {
			tx.Put([]byte(fenceKey(i)), nil, 0, false, false)
		}
		tx.EndCommand()
	})
	pinned := m.s.Revision()
	left := func(lower, upper string, rev Revision) (keys int64) {
		v := m.s.View()
		defer v.Close()
		q := Query{Key: []byte(lower), End: []byte(upper), Revision: rev}
		q.CountOnly = true
		if _, err := v.Range(q, nil); err != nil {
			t.Fatal(err)
		}
		for _, s := range m.s.fences.plan(q.Key, q.End, max(rev, 0)).scans {
			keys += scanned(t, v, Query{Key: s.lower, End: s.upper, Revision: rev})
		}
		return keys
	}
	if n := left("k", "l", pinned); n != 0 {
		t.Errorf("the same count again scans %d keys", n)
	}
	if n := left("k1234", "k4321", pinned); n > 32 {
		t.Errorf("a count of other bounds scans %d keys", n)
	}
	for i := range 1000 {
		m.del(fenceKey(i), "")
	}
	if n := left("k0003", "l", pinned); n > 32 {
		t.Errorf("a count at an older revision scans %d keys", n)
	}
	m.close()
}

// TestFencesReachBack counts at a revision that is older than whatever was remembered.
func TestFencesReachBack(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{fenceSpacing: 4})
	r := rand.New(rand.NewPCG(4, 4))
	for range 30 {
		countRun(t, m, r, 600)
	}
	pinned := m.s.Revision()
	for range 30 {
		countRun(t, m, r, 600)
	}
	v := m.s.View()
	q := Query{Key: []byte("k"), End: []byte("l"), CountOnly: true, Revision: pinned}
	want := scanned(t, v, q)
	for range 2 {
		if sum, err := v.Range(q, nil); err != nil || sum.Count != want {
			t.Fatalf("%d pairs, want %d, error %v", sum.Count, want, err)
		}
	}
	if p := m.s.fences.plan(q.Key, q.End, pinned); len(p.scans) > 0 {
		t.Errorf("the same count again scans %q", p.scans)
	}
	v.Close()
	m.close()
}

// TestFencesUnderWrites counts while another goroutine writes.
func TestFencesUnderWrites(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{fenceSpacing: 4, birthsKept: 200})
	const keys = 500
	countRun(t, m, rand.New(rand.NewPCG(1, 1)), keys)
	done := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(done)
	for i := range 3 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for {
				select {
				case <-done:
					return
				default:
				}
				v := m.s.View()
				var q Query
				q.Key, q.End = randomRange(r, keys)
				q.CountOnly = true
				if r.IntN(3) == 0 {
					q.Revision = max(1, v.Revision()-r.Int64N(20))
				}
				sum, err := v.Range(q, nil)
				if want := scanned(t, v, q); err != nil || sum.Count != want {
					t.Errorf("%+v counts %d, a scan %d, error %v", q, sum.Count, want, err)
				}
				v.Close()
			}
		}()
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range 600 {
		countRun(t, m, r, keys)
	}
}

// TestFencesAreBounded forgets rather than grows.
func TestFencesAreBounded(t *testing.T) {
	f := newFences(Options{fenceSpacing: 1, birthsKept: 4}, 1)
	name := make([]byte, 1<<20)
	for i := range 2 * fenceBytesMax / len(name) {
		key := slices.Clone(name)
		key[0], key[1], key[2] = 'k', byte(i>>8), byte(i)
		f.learn(&learned{stretch: stretch{key, append(slices.Clone(key), 1)}, rev: 1, fences: [][]byte{}, count: 1})
		if f.bytes > fenceBytesMax || len(f.keys) != len(f.counts) {
			t.Fatalf("%d bytes of fences", f.bytes)
		}
	}
	f.reached()
	for i := range 100 {
		f.bear(birth{rev: Revision(2 + i), key: name, delta: 1})
	}
	if f.births.n > 4 || f.births.from != 97 {
		t.Fatalf("%d births from %d", f.births.n, f.births.from)
	}
}
