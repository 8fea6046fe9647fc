package mvcc

import (
	"errors"
	"fmt"
	"testing"

	"keelson/storage"
)

// What has to be sorted is kept up to a bound, however much there is. With a limit that is what the limit leaves.
func TestSortIsBounded(t *testing.T) {
	m := newMachine(t, storage.Options{}, Options{})
	const pairs, bytes = 2000, 8 // of each key and value
	for i := range pairs {
		m.put(fmt.Sprintf("k%04d", i), "val")
	}
	v := m.s.View()
	defer v.Close()
	ask := func(q Query, heldMax int64) (given int, err error) {
		q.Key, q.End = []byte("k"), []byte("l")
		_, err = rangeAll(v.s.db, v.at.revision, &q, countAll, heldMax, nil, func(*KeyValue) bool { given++; return true })
		return given, err
	}
	full := errors.New("there is no more room")
	askIn := func(q Query, most int64) (given int, told int64, err error) {
		q.Key, q.End = []byte("k"), []byte("l")
		room := func(n int64) error {
			if told += n; told > most {
				return full
			}
			return nil
		}
		_, err = v.RangeIn(room, q, func(*KeyValue) bool { given++; return true })
		return given, told, err
	}
	for name, q := range map[string]Query{
		"descending": {SortOrder: sortDescend}, "by value": {SortOrder: 1, SortTarget: sortByValue}, "cut off": {SortTarget: sortByMod},
	} {
		if given, err := ask(q, pairs*bytes); err != nil || given != pairs {
			t.Errorf("%s: %d pairs, %v", name, given, err)
		}
		if given, err := ask(q, pairs*bytes-1); !errors.Is(err, ErrTooLarge) || given != 0 {
			t.Errorf("%s, with too little room: %d pairs, %v", name, given, err)
		}
		const kept = bytes + keptBytes
		if given, told, err := askIn(q, pairs*kept); err != nil || given != pairs || told != pairs*kept {
			t.Errorf("%s: %d pairs, told of %d bytes, %v", name, given, told, err)
		}
		if given, _, err := askIn(q, pairs*kept-1); !errors.Is(err, full) || given != 0 {
			t.Errorf("%s, with too little room: %d pairs, %v", name, given, err)
		}
		q.Limit = 10
		if given, told, err := askIn(q, (sortBatch+2)*kept); err != nil || given != 10 || told <= 0 {
			t.Errorf("%s, with a limit: %d pairs, told of %d bytes, %v", name, given, told, err)
		}
		if given, err := ask(q, (sortBatch+2)*bytes); err != nil || given != 10 {
			t.Errorf("%s, with a limit: %d pairs, %v", name, given, err)
		}
	}
	if given, err := ask(Query{}, 1); err != nil || given != pairs {
		t.Errorf("unsorted: %d pairs, %v", given, err)
	}
}
