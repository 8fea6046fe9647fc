package mvcc

import (
	"testing"

	"keelson/storage"
)

// TestCursorOvertaken: a cursor ends with a refusal, not with a gap, once its revision is compacted.
func TestCursorOvertaken(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	for _, k := range []string{"a", "b", "c"} {
		m.put(k, "1")
	}
	v := m.s.View()
	c, err := v.Cursor(Query{Key: []byte("a"), End: []byte("z")})
	v.Close()
	if err != nil {
		t.Fatal(err)
	}
	page := func() (keys string, done bool, err error) {
		done, err = c.Next(1, func(kv *KeyValue) bool { keys += string(kv.Key); return true })
		return keys, done, err
	}
	if keys, done, err := page(); keys != "a" || done || err != nil {
		t.Fatal(keys, done, err)
	}
	m.del("b", "")
	m.compact(c.Revision()) // the floor itself can be read
	m.removeAll()
	if rest, err := c.Rest(); rest != 2 || err != nil {
		t.Fatal(rest, err)
	}
	if keys, done, err := page(); keys != "b" || done || err != nil {
		t.Fatal(keys, done, err)
	}
	m.compact(c.Revision() + 1)
	if keys, done, err := page(); keys != "" || done || err != ErrCompacted {
		t.Fatal(keys, done, err)
	}
	if _, err := c.Rest(); err != ErrCompacted {
		t.Fatal(err)
	}
}

func TestCursorRefusals(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	for range 3 {
		m.put("k", "v")
	}
	m.compact(3)
	v := m.s.View()
	defer v.Close()
	for rev, want := range map[Revision]error{-1: nil, 0: nil, 2: ErrCompacted, 3: nil, 4: nil, 5: ErrFuture} {
		if _, err := v.Cursor(Query{Key: []byte("k"), Revision: rev}); err != want {
			t.Errorf("revision %d: %v, want %v", rev, err, want)
		}
	}
}
