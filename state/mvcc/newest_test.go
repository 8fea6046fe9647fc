package mvcc

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"keelson/storage"
)

// TestNewestBound: the cache stays within its bytes whatever goes through it, and only ever gives the last record of a
// key.
func TestNewestBound(t *testing.T) {
	seeds(t, 3, func(t *testing.T, r *rand.Rand) {
		const limit = 64 * 4000
		c := newNewest(limit, 1)
		last := map[string]*record{}
		for i := range 20000 {
			key := fmt.Sprintf("k%d", r.IntN(3000))
			rec := &record{KeyValue: KeyValue{Key: []byte(key), Value: make([]byte, r.IntN(60)), ModRevision: int64(i)}}
			if r.IntN(50) == 0 {
				rec.Value = make([]byte, 2000) // too large to be kept
			}
			if old := last[key]; old != nil && r.IntN(4) > 0 {
				rec.slot = old.slot // which may be gone by now
			}
			c.put(rec)
			last[key] = rec
			probe := fmt.Sprintf("k%d", r.IntN(3000))
			switch got, want := c.get([]byte(probe)), last[probe]; {
			case got != nil && got != want:
				t.Fatalf("%s: revision %d, want %d", probe, got.ModRevision, want.ModRevision)
			case got == nil && want != nil && c.forgotten([]byte(probe)) < want.ModRevision:
				t.Fatalf("%s: forgotten up to %d, but revision %d is not there", probe, c.forgotten([]byte(probe)), want.ModRevision)
			}
		}
		entries := 0
		for i := range c.shards {
			s := &c.shards[i]
			var bytes int64
			for at, slot := range s.ring {
				bytes += slot.rec.cost()
				if s.slots[string(slot.rec.Key)] != slot {
					t.Fatalf("slot %d of shard %d is not in the map", at, i)
				}
			}
			if bytes != s.bytes || bytes > s.limit || len(s.ring) != len(s.slots) {
				t.Fatalf("shard %d: %d bytes, counted %d, limit %d, %d slots, %d in the ring", i, bytes, s.bytes, s.limit, len(s.slots), len(s.ring))
			}
			entries += len(s.ring)
		}
		if entries < 400 {
			t.Fatalf("only %d entries are cached", entries)
		}
	})
}

// TestNewestKeepsWhatIsUsed: a record that is read survives a stream of others.
func TestNewestKeepsWhatIsUsed(t *testing.T) {
	c := newNewest(64*3000, 1)
	hot := &record{KeyValue: KeyValue{Key: []byte("hot")}}
	c.put(hot)
	for i := range 10000 {
		if c.get([]byte("hot")) == nil {
			t.Fatalf("gone after %d others", i)
		}
		c.put(&record{KeyValue: KeyValue{Key: fmt.Appendf(nil, "cold%d", i)}})
	}
}

// TestRepeatedReadsUseNoIterator: reading and replacing a cached key allocates no more than its few records.
func TestRepeatedReadsUseNoIterator(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "v")
	v := m.s.View()
	defer v.Close()
	q := Query{Key: []byte("k")}
	if n := testing.AllocsPerRun(100, func() { v.Range(q, func(*KeyValue) bool { return true }) }); n > 1 {
		t.Errorf("a cached get allocates %v times", n)
	}
	b := m.db.NewBatch()
	defer b.Discard()
	tx := m.s.Begin(b)
	value := make([]byte, 256)
	tx.Put([]byte("k"), value, 0, false, false)
	tx.EndCommand()
	tx.events = make([]Event, 0, 1000) // growth of the list is not what is measured
	n := testing.AllocsPerRun(100, func() {
		tx.Put([]byte("k"), value, 0, false, false)
		tx.EndCommand()
	})
	if tx.it != nil || n > 3 {
		t.Errorf("a cached put allocates %v times (iterator %v)", n, tx.it != nil)
	}
}

func TestJoinCRC(t *testing.T) {
	seeds(t, 1, func(t *testing.T, r *rand.Rand) {
		for _, length := range []int{0, 1, 2, 3, 63, 1022, 1023, 1024, 1025, 5000, 100_000} {
			a, b := make([]byte, r.IntN(300)), make([]byte, length)
			for i := range a {
				a[i] = byte(r.Uint32())
			}
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			got := joinCRC(crc32.Checksum(a, castagnoli), crc32.Checksum(b, castagnoli), uint32(length))
			if want := crc32.Checksum(append(a, b...), castagnoli); got != want {
				t.Fatalf("%d and %d bytes: %08x, want %08x", len(a), length, got, want)
			}
		}
	})
}

// TestNewKeysDoNotSearchMemtables: as long as the cache knows everything that is not flushed, a key that it does not know is looked
// for in the tables alone, before the first flush and after it.
func TestNewKeysDoNotSearchMemtables(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	create := func(when, key string, wantAll bool) {
		t.Helper()
		m.run(func(tx *Tx) {
			if _, err := tx.Put([]byte(key), nil, 0, false, false); err != nil {
				t.Fatal(err)
			}
			if (tx.it != nil) != wantAll || (tx.flushed != nil) == wantAll {
				t.Errorf("%s: memtables searched: %v, want %v", when, tx.it != nil, wantAll)
			}
			tx.EndCommand()
		})
	}
	create("empty store", "a", false)
	create("nothing flushed", "b", false)
	if err := m.db.Flush(); err != nil {
		t.Fatal(err)
	}
	create("flushed", "c", false)
	for i := range m.s.newest.shards {
		m.s.newest.shards[i].forgotten = m.s.Revision()
	}
	create("the cache has forgotten what is not flushed", "d", true)
	if err := m.db.Flush(); err != nil {
		t.Fatal(err)
	}
	create("the forgotten is flushed", "e", false)
	m.reopen()
	create("opened again", "f", false)
}

// TestFlushDuringARun: an iterator over the tables, opened early in a run, does not see what is flushed later in it. What the cache has
// forgotten meanwhile is not looked for there.
func TestFlushDuringARun(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("a", "1")
	if err := m.db.Flush(); err != nil {
		t.Fatal(err)
	}
	m.put("b", "1")
	forgets := m.s.newest.shard([]byte("b"))
	forgets.drop(forgets.slots["b"])
	other := "other"
	for m.s.newest.shard([]byte(other)) == forgets {
		other += "x"
	}
	m.run(func(tx *Tx) {
		if kv, err := tx.Get([]byte(other)); kv != nil || err != nil || tx.flushed == nil {
			t.Fatalf("%v, %v; the tables alone were searched: %v", kv, err, tx.flushed != nil)
		}
		if err := m.db.Flush(); err != nil {
			t.Fatal(err)
		}
		if kv, err := tx.Get([]byte("b")); err != nil || kv == nil || kv.ModRevision != 3 {
			t.Errorf("the pair that was flushed during the run is %v, %v", kv, err)
		}
	})
}
