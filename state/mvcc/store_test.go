package mvcc

import (
	"errors"
	"testing"

	"keelson/storage"
)

// TestOpenFloorAboveRevision: the newest revision is never below the floor, as after a restore that raised the floor.
func TestOpenFloorAboveRevision(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "v")
	b := m.db.NewBatch()
	b.Set(storage.Meta, revisionsKey, (&publication{revision: 2, floor: 1000, live: 1}).append(nil))
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	m.reopen()
	if m.s.Revision() != 1000 || m.s.Compacted() != 1000 || m.s.LiveKeys() != 1 {
		t.Fatalf("revision %d, floor %d, live %d", m.s.Revision(), m.s.Compacted(), m.s.LiveKeys())
	}
	m.removeAll()
	if pairs, _, err := m.query(Query{Key: []byte("k")}); err != nil || len(pairs) != 1 || pairs[0].ModRevision != 2 {
		t.Fatal(pairs, err)
	}
	if rev := m.put("k", "w"); rev != 1001 {
		t.Fatal(rev)
	}
	if _, err := m.history(2, 1001, nil, nil, 0); err != ErrCompacted {
		t.Fatal(err)
	}
}

// TestOpenDamaged: a store whose own records can't be read does not open.
func TestOpenDamaged(t *testing.T) {
	for _, key := range [][]byte{revisionsKey, removalKey} {
		m := newMachine(t, storage.Options{}, Options{})
		b := m.db.NewBatch()
		b.Set(storage.Meta, key, []byte("nonsense"))
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(m.db, Options{}); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestUnpublishedRunIsDropped: a run that was begun and not published leaves nothing in memory.
func TestUnpublishedRunIsDropped(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("k", "1")
	b := m.db.NewBatch()
	tx := m.s.Begin(b)
	tx.Put([]byte("k"), []byte("2"), 0, false, false)
	tx.Put([]byte("new"), []byte("2"), 0, false, false)
	b.Discard()
	if rev := m.put("other", "1"); rev != 3 {
		t.Fatal(rev)
	}
	pairs, sum, err := m.query(Query{Key: []byte{0}, End: []byte{0}})
	if err != nil || sum.Count != 2 || string(pairs[0].Value) != "1" || string(pairs[1].Key) != "other" || m.s.LiveKeys() != 2 {
		t.Fatal(pairs, sum, err)
	}
}

// TestLargeRun: a run of very many changes works, and does not weigh on the next ones.
func TestLargeRun(t *testing.T) {
	m := newMachine(t, storage.Options{MemtableBytes: 64 << 10}, Options{})
	n := touchedKeep + 10
	m.run(func(tx *Tx) {
		for i := range n {
			if _, err := tx.Put([]byte{byte(i >> 16), byte(i >> 8), byte(i)}, nil, 0, false, false); err != nil {
				t.Fatal(err)
			}
		}
		tx.EndCommand()
	})
	var deleted int64
	events := m.run(func(tx *Tx) {
		var err error
		if deleted, err = tx.DeleteRange([]byte{0}, []byte{0}, false, nil); err != nil {
			t.Fatal(err)
		}
		tx.EndCommand()
	})
	if deleted != int64(n) || len(events) != n || events[n-1].Sub != uint32(n-1) || m.s.Revision() != 3 || m.s.LiveKeys() != 0 {
		t.Fatalf("deleted %d of %d, %d events", deleted, n, len(events))
	}
	if cap(m.s.tx.touched) > touchedKeep {
		t.Fatalf("room for %d keys is kept", cap(m.s.tx.touched))
	}
}
