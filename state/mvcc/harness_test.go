package mvcc

import (
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/storage"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests (0: a new one)")
	roundsFlag = flag.Int("rounds", 0, "rounds of random tests (0: a few)")
)

// seeds calls f with one random generator per round and says how to repeat a round that fails.
func seeds(t *testing.T, rounds int, f func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	if *roundsFlag > 0 {
		rounds = *roundsFlag
	}
	first := *seedFlag
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	} else if *roundsFlag == 0 {
		rounds = 1
	}
	round := 0
	defer func() { // also when f has ended the test
		if t.Failed() {
			t.Logf("round %d of %d failed: repeat with -run '^%s$' -seed=%d", round, rounds, t.Name(), first+uint64(round))
		}
	}()
	for ; round < rounds; round++ {
		seed := first + uint64(round)
		if f(t, rand.New(rand.NewPCG(seed, seed))); t.Failed() {
			return
		}
	}
	t.Logf("seeds %d..%d", first, first+uint64(rounds)-1)
}

// machine is a store on a disk in memory, and an applied index like that of the state machine above it.
type machine struct {
	t       testing.TB
	fs      *vfs.MemFS
	so      storage.Options
	mo      Options
	db      *storage.DB
	s       *Store
	applied uint64
}

var appliedKey = []byte("test.applied")

func newMachine(t testing.TB, so storage.Options, mo Options) *machine {
	m := &machine{t: t, fs: vfs.NewCrashableMem(), so: so, mo: mo}
	m.open()
	t.Cleanup(func() { m.close() })
	return m
}

func (m *machine) open() {
	m.t.Helper()
	so := m.so
	so.FS, so.Dir = m.fs, "db"
	var err error
	if m.db, err = storage.Open(so); err != nil {
		m.t.Fatal(err)
	}
	if m.s, err = Open(m.db, m.mo); err != nil {
		m.t.Fatal(err)
	}
	b, ok, err := m.db.Get(storage.Meta, appliedKey)
	if err != nil {
		m.t.Fatal(err)
	}
	m.applied = 0
	if ok {
		m.applied = binary.BigEndian.Uint64(b)
	}
}

func (m *machine) close() {
	m.t.Helper()
	if m.db == nil {
		return
	}
	if err := m.db.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.db = nil
}

// reopen stops in an orderly way and starts again.
func (m *machine) reopen() {
	m.t.Helper()
	if err := m.db.Flush(); err != nil {
		m.t.Fatal(err)
	}
	m.close()
	m.open()
}

// crash cuts the power: of what was not synced, each block survives with the given chance.
func (m *machine) crash(r *rand.Rand, percentKept int) {
	m.t.Helper()
	clone := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percentKept, RNG: r})
	m.close()
	m.fs = clone
	m.open()
}

// run applies one run of commands as the state machine would and returns its events.
func (m *machine) run(f func(tx *Tx)) []Event {
	m.t.Helper()
	b := m.db.NewBatch()
	tx := m.s.Begin(b)
	f(tx)
	tx.Finish()
	events := tx.Events()
	m.applied++
	b.Set(storage.Meta, appliedKey, binary.BigEndian.AppendUint64(nil, m.applied))
	if err := b.Commit(); err != nil {
		m.t.Fatal(err)
	}
	m.s.Publish(tx)
	return events
}

func (m *machine) put(key, value string) Revision {
	m.t.Helper()
	m.run(func(tx *Tx) {
		if _, err := tx.Put([]byte(key), []byte(value), 0, false, false); err != nil {
			m.t.Fatal(err)
		}
		tx.EndCommand()
	})
	return m.s.Revision()
}

func (m *machine) del(key, end string) int64 {
	m.t.Helper()
	var n int64
	m.run(func(tx *Tx) {
		var err error
		if n, err = tx.DeleteRange([]byte(key), []byte(end), false, nil); err != nil {
			m.t.Fatal(err)
		}
		tx.EndCommand()
	})
	return n
}

func (m *machine) compact(rev Revision) {
	m.t.Helper()
	m.run(func(tx *Tx) {
		if err := tx.Compact(rev); err != nil {
			m.t.Fatalf("compact %d: %v", rev, err)
		}
	})
}

// removeAll carries the removal of compacted versions to its end.
func (m *machine) removeAll() (removed int) {
	m.t.Helper()
	for waits := 0; waits < 10_000; waits++ {
		n, more, err := m.s.CompactStep(3)
		if err != nil {
			m.t.Fatal(err)
		}
		if n > 0 {
			waits = 0
		}
		removed += n
		if !more {
			return removed
		}
	}
	m.t.Fatal("removal does not end: a view is open")
	return 0
}

// query reads through a view of its own.
func (m *machine) query(q Query) ([]KeyValue, Summary, error) {
	v := m.s.View()
	defer v.Close()
	return collect(v.Range, q)
}

// collect copies what a range gives.
func collect(read func(Query, func(*KeyValue) bool) (Summary, error), q Query) ([]KeyValue, Summary, error) {
	var pairs []KeyValue
	sum, err := read(q, func(kv *KeyValue) bool {
		pairs = append(pairs, clone(*kv))
		return true
	})
	return pairs, sum, err
}

func clone(kv KeyValue) KeyValue {
	kv.Key, kv.Value = slices.Clone(kv.Key), slices.Clone(kv.Value)
	return kv
}

func cloneEvent(ev *Event) Event {
	c := *ev
	c.KV = clone(ev.KV)
	if ev.Prev != nil {
		p := clone(*ev.Prev)
		c.Prev = &p
	}
	return c
}

func equalPair(a, b *KeyValue) bool {
	if a == nil || b == nil {
		return a == b
	}
	return string(a.Key) == string(b.Key) && string(a.Value) == string(b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

func equalEvent(a, b *Event) bool {
	return a.Kind == b.Kind && a.Sub == b.Sub && equalPair(&a.KV, &b.KV) && equalPair(a.Prev, b.Prev)
}

func equalPairs(a, b []KeyValue) bool {
	return slices.EqualFunc(a, b, func(x, y KeyValue) bool { return equalPair(&x, &y) })
}

// history reads all events of some revisions in pieces of about maxBytes.
func (m *machine) history(from, to Revision, lower, upper []byte, maxBytes int) (events []Event, err error) {
	m.t.Helper()
	for from <= to {
		next, err := m.s.Changes(from, to, lower, upper, maxBytes, func(ev *Event) error {
			if ev.KV.ModRevision < from {
				m.t.Fatalf("changes from %d gave revision %d", from, ev.KV.ModRevision)
			}
			events = append(events, cloneEvent(ev))
			return nil
		})
		if err != nil {
			return events, err
		}
		if next <= from {
			m.t.Fatalf("changes %d..%d go on at %d", from, to, next)
		}
		from = next
	}
	return events, nil
}

func mustHash(t testing.TB, s *Store) uint32 {
	t.Helper()
	h, _, err := s.Hash()
	if err != nil {
		t.Fatal(err)
	}
	return h
}
