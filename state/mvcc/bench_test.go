package mvcc

import (
	"bytes"
	"flag"
	"fmt"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var benchKeys = flag.Int("bench-keys", 20_000, "number of keys that benchmarks work on")

const benchRun = 50 // commands per run

func benchKey(i int) []byte {
	return fmt.Appendf(nil, "/registry/pods/namespace-%03d/pod-%08d", i%100, i)
}

// benchStore is a store of benchKeys keys with 256-byte values, flushed.
func benchStore(b *testing.B, o Options) *machine {
	m := &machine{t: b, fs: vfs.NewMem(), mo: o}
	m.open()
	b.Cleanup(func() { m.close() })
	benchPut(b, m, *benchKeys, func(i int) int { return i })
	if err := m.db.Flush(); err != nil {
		b.Fatal(err)
	}
	return m
}

// benchPut puts n keys, benchRun of them in a run.
func benchPut(b *testing.B, m *machine, n int, key func(int) int) {
	value := make([]byte, 256)
	for i := 0; i < n; {
		batch := m.db.NewBatch()
		tx := m.s.Begin(batch)
		for range min(benchRun, n-i) {
			if _, err := tx.Put(benchKey(key(i)), value, 0, false, false); err != nil {
				b.Fatal(err)
			}
			tx.EndCommand()
			i++
		}
		tx.Finish()
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
		m.s.Publish(tx)
	}
}

// cpu is the processor time of the process so far, in nanoseconds: what counts on a machine that others use too.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// measure starts the clock; the function it returns reports the processor time per unit.
func measure(b *testing.B) func(units int) {
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	return func(units int) {
		b.ReportMetric(float64(cpu()-start)/float64(units), "cpu-ns/unit")
	}
}

func BenchmarkPutExisting(b *testing.B) {
	m := benchStore(b, Options{NewestCacheBytes: 1 << 30})
	defer measure(b)(b.N)
	benchPut(b, m, b.N, func(i int) int { return i * 7919 % *benchKeys })
}

func BenchmarkPutExistingUncached(b *testing.B) {
	m := benchStore(b, Options{NewestCacheBytes: -1})
	defer measure(b)(b.N)
	benchPut(b, m, b.N, func(i int) int { return i * 7919 % *benchKeys })
}

func BenchmarkPutNew(b *testing.B) {
	m := benchStore(b, Options{})
	defer measure(b)(b.N)
	benchPut(b, m, b.N, func(i int) int { return *benchKeys + i*7919%1_000_003 })
}

func benchGet(b *testing.B, o Options) {
	m := benchStore(b, o)
	defer measure(b)(b.N)
	for i := range b.N {
		v := m.s.View()
		sum, err := v.Range(Query{Key: benchKey(i * 7919 % *benchKeys)}, func(*KeyValue) bool { return true })
		v.Close()
		if err != nil || sum.Count != 1 {
			b.Fatal(sum, err)
		}
	}
}

func BenchmarkGetHot(b *testing.B)  { benchGet(b, Options{NewestCacheBytes: 1 << 30}) }
func BenchmarkGetCold(b *testing.B) { benchGet(b, Options{NewestCacheBytes: -1}) }

// benchList reports the time per key of a list.
func benchList(b *testing.B, m *machine, q Query) {
	q.Key, q.End = []byte{0}, []byte{0}
	v := m.s.View()
	defer v.Close()
	stop, keys := measure(b), int64(0)
	for range b.N {
		sum, err := v.Range(q, func(*KeyValue) bool { return true })
		if err != nil {
			b.Fatal(err)
		}
		keys += sum.Count
	}
	stop(int(keys))
}

func BenchmarkList(b *testing.B) { benchList(b, benchStore(b, Options{}), Query{}) }

// BenchmarkCount counts half of the keys with the help of fences, and without.
func BenchmarkCount(b *testing.B) {
	m := benchStore(b, Options{})
	v := m.s.View()
	defer v.Close()
	from := benchKey(51)
	from = from[:bytes.LastIndexByte(from, '/')]
	b.Run("fences", func(b *testing.B) {
		defer measure(b)(b.N)
		for range b.N {
			if _, err := v.Range(Query{Key: from, End: []byte{0}, CountOnly: true}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		defer measure(b)(b.N)
		for range b.N {
			if _, err := rangeAll(m.db, v.at.revision, &Query{Key: from, End: []byte{0}, CountOnly: true}, countAll, 0, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPage reads a page of 500 keys at a pinned revision, with the count of the rest.
func BenchmarkPage(b *testing.B) {
	m := benchStore(b, Options{})
	pinned := m.s.Revision()
	benchPut(b, m, *benchKeys/10, func(i int) int { return *benchKeys + i })
	v := m.s.View()
	defer v.Close()
	defer measure(b)(b.N)
	for i := range b.N {
		q := Query{Key: benchKey(i * 7919 % *benchKeys), End: []byte{0}, Limit: 500, Revision: pinned}
		if _, err := v.Range(q, func(*KeyValue) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutNewCounted puts new keys into a store whose keys are counted.
func BenchmarkPutNewCounted(b *testing.B) {
	m := benchStore(b, Options{})
	v := m.s.View()
	if _, err := v.Range(Query{Key: []byte{0}, End: []byte{0}, CountOnly: true}, nil); err != nil {
		b.Fatal(err)
	}
	v.Close()
	defer measure(b)(b.N)
	benchPut(b, m, b.N, func(i int) int { return *benchKeys + i*7919%1_000_003 })
}

// BenchmarkListVersions lists keys that have several versions each, at the newest revision and at one in the middle.
func BenchmarkListVersions(b *testing.B) {
	for _, versions := range []int{2, 10} {
		m := benchStore(b, Options{})
		middle := m.s.Revision()
		for range versions - 1 {
			benchPut(b, m, *benchKeys, func(i int) int { return i })
		}
		if err := m.db.Flush(); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%d/newest", versions), func(b *testing.B) { benchList(b, m, Query{}) })
		b.Run(fmt.Sprintf("%d/old", versions), func(b *testing.B) { benchList(b, m, Query{Revision: middle}) })
	}
}

// BenchmarkCompactStep reports the time per change walked; all of them have replaced a version.
func BenchmarkCompactStep(b *testing.B) {
	m := benchStore(b, Options{})
	benchPut(b, m, b.N, func(i int) int { return i * 7919 % *benchKeys })
	m.compact(m.s.Revision())
	if err := m.db.Flush(); err != nil {
		b.Fatal(err)
	}
	defer measure(b)(b.N)
	for more := true; more; {
		var err error
		if _, more, err = m.s.CompactStep(1000); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChanges reports the time per event.
func BenchmarkChanges(b *testing.B) {
	m := benchStore(b, Options{})
	benchPut(b, m, *benchKeys, func(i int) int { return i * 7919 % *benchKeys })
	stop, events := measure(b), 0
	for range b.N {
		if _, err := m.s.Changes(1, m.s.Revision(), nil, nil, 0, func(*Event) error { events++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	stop(events)
}

// BenchmarkHashKV reports the time per version.
func BenchmarkHashKV(b *testing.B) {
	m := benchStore(b, Options{})
	stop := measure(b)
	for range b.N {
		if _, err := freshHashes(m.s).HashKV(0); err != nil {
			b.Fatal(err)
		}
	}
	stop(b.N * *benchKeys)
}
