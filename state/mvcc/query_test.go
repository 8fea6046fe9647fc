package mvcc

import (
	"math"
	"testing"

	"keelson/storage"
)

// TestEveryOptionAtEveryRevision asks a small store everything that can be asked, before and after a compaction.
func TestEveryOptionAtEveryRevision(t *testing.T) {
	tr := &trial{t: t, m: newMachine(t, storage.Options{}, Options{}), model: newModel(), hashed: map[Revision]Hash{}}
	apply := func(commands ...op) {
		tr.m.run(func(tx *Tx) {
			for _, o := range commands {
				tr.both(tx, o)
				tx.EndCommand()
				tr.model.end()
			}
		})
	}
	apply(op{kind: "put", key: "a", value: "2"}, op{kind: "put", key: "b", value: "1", lease: 3}, op{kind: "put", key: "c", value: "2"},
		op{kind: "put", key: "a", value: "1"}, op{kind: "del", key: "b"}, op{kind: "put", key: "b", value: "0"}, op{kind: "put", key: "a", value: "0"})
	everything := func() (n int) {
		for rev := Revision(-1); rev <= tr.model.rev+1; rev++ {
			for order := range int32(4) {
				for target := range int32(6) {
					for _, limit := range []int64{math.MinInt64, 1, 2, math.MaxInt64} {
						for filter := range 6 {
							q := Query{Key: []byte("a"), End: []byte("z"), Revision: rev, SortOrder: order, SortTarget: target, Limit: limit}
							*[]*int64{new(int64), &q.ModRevisionMin, &q.ModRevisionMax, &q.CreateRevisionMin, &q.CreateRevisionMax, &q.ModRevisionMax}[filter] =
								[]int64{0, 4, 5, 3, 4, -1}[filter]
							q.KeysOnly, q.CountOnly = n%3 == 0, n%10 == 0
							got, sum, err := tr.m.query(q)
							tr.sameAnswer("range", q, got, sum, err)
							n++
						}
					}
				}
			}
		}
		return n
	}
	n := everything()
	apply(op{kind: "compact", rev: 5})
	n += everything()
	tr.m.removeAll()
	n += everything()
	t.Logf("%d queries", n)
}

func TestSelector(t *testing.T) {
	for _, c := range []struct {
		key, end           string
		inside, outside    []string
		lower, upper       string
		nothing, unbounded bool
	}{
		{key: "k", inside: []string{"k"}, outside: []string{"", "j", "k\x00", "l"}, lower: "k", upper: "k\x00"},
		{key: "k", end: "\x00", inside: []string{"k", "k\x00", "z"}, outside: []string{"j", ""}, lower: "k", unbounded: true},
		{key: "\x00", end: "\x00", inside: []string{"\x00", "a"}, outside: []string{""}, lower: "\x00", unbounded: true},
		{key: "a", end: "c", inside: []string{"a", "b", "b\xff"}, outside: []string{"c", "A"}, lower: "a", upper: "c"},
		{key: "a", end: "a", outside: []string{"a", "b"}, nothing: true, lower: "a", upper: "a"},
		{key: "b", end: "a", outside: []string{"a", "b"}, nothing: true, lower: "b", upper: "a"},
		{key: "a", end: "\x00\x00", outside: []string{"a"}, nothing: true, lower: "a", upper: "\x00\x00"},
	} {
		s := Selector{[]byte(c.key), []byte(c.end)}
		lower, upper, ok := s.Bounds()
		if string(lower) != c.lower || string(upper) != c.upper || (upper == nil) != c.unbounded || ok == c.nothing {
			t.Errorf("%q %q: bounds %q %q %v", c.key, c.end, lower, upper, ok)
		}
		for _, k := range c.inside {
			if !s.Contains([]byte(k)) {
				t.Errorf("%q %q does not contain %q", c.key, c.end, k)
			}
		}
		for _, k := range c.outside {
			if s.Contains([]byte(k)) {
				t.Errorf("%q %q contains %q", c.key, c.end, k)
			}
		}
	}
}

// TestRangeStops: a range ends as soon as yield says so.
func TestRangeStops(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	for _, k := range []string{"a", "b", "c"} {
		m.put(k, k)
	}
	v := m.s.View()
	defer v.Close()
	for _, q := range []Query{{}, {SortOrder: 2}, {SortTarget: 3}, {Limit: 2}} {
		q.Key, q.End = []byte("a"), []byte("z")
		n := 0
		if _, err := v.Range(q, func(*KeyValue) bool { n++; return false }); err != nil || n != 1 {
			t.Fatalf("%+v: %d pairs, %v", q, n, err)
		}
	}
}
