package mvcc

import (
	"testing"

	"keelson/storage"
)

// Who hashes, compacts to what was hashed and hashes again finds the same; who did not hash before finds what is kept.
func TestHashOfTheFloorIsRemembered(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	m.put("a", "1")
	m.put("a", "2")
	m.del("a", "")
	deleted := m.s.Revision()
	m.put("a", "3")
	before, err := m.s.HashKV(deleted)
	if err != nil {
		t.Fatal(err)
	}
	m.compact(deleted)
	m.removeAll()
	m.put("b", "1")
	after, err := m.s.HashKV(deleted)
	if want := (Hash{before.Hash, -1, deleted, m.s.Revision()}); after != want || err != nil {
		t.Errorf("after the compaction %+v, %v, want %+v", after, err, want)
	}
	fresh, err := freshHashes(m.s).HashKV(deleted)
	if err != nil || fresh.Compacted != deleted || fresh.Hash == before.Hash {
		t.Errorf("not remembered: %+v, %v", fresh, err)
	}
	if next, err := m.s.HashKV(deleted + 1); err != nil || next.Compacted != deleted {
		t.Errorf("above the floor: %+v, %v", next, err)
	}
}

// What is remembered of a revision from before an earlier compaction does not count when a later one reaches it: members that
// are asked then, and were not before, know only the floor from before.
func TestHashOfTheFloorIsFromTheCompactionBefore(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	for range 5 {
		m.put("a", "1")
	}
	if early, err := m.s.HashKV(5); err != nil || early.Compacted != -1 {
		t.Fatalf("%+v, %v", early, err)
	}
	m.compact(3)
	m.compact(5)
	if h, err := m.s.HashKV(5); err != nil || h.Compacted != 5 {
		t.Errorf("of the floor: %+v, %v", h, err)
	}
}
