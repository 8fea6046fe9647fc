package differential

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestShrinkKeepsWhatFails gives Shrink a failure that needs two particular operations among a thousand.
func TestShrinkKeepsWhatFails(t *testing.T) {
	var ops []Op
	for i := range 1000 {
		kind := []Kind{KindRange, KindPut, KindRestart, KindDelete}[i%4]
		ops = append(ops, Op{Kind: kind, Slot: int64(i)})
	}
	replays := 0
	replay := func(list []Op) (*Disagreement, error) {
		replays++
		seen := false
		for i, op := range list {
			seen = seen || op.Slot == 417
			if seen && op.Slot == 911 {
				return &Disagreement{Index: i, Op: op, Difference: "both were there"}, nil
			}
		}
		return nil, nil
	}
	shortest, err := Shrink(ops, 1000, time.Now().Add(time.Hour), replay)
	if err != nil {
		t.Fatal(err)
	}
	if len(shortest.Ops) != 2 || shortest.Ops[0].Slot != 417 || shortest.Ops[1].Slot != 911 {
		t.Errorf("after %d replays left with %v", replays, shortest.Ops)
	}

	replays = 0
	if _, err := Shrink(ops, 7, time.Now().Add(time.Hour), replay); err != nil || replays > 7 {
		t.Errorf("%d replays where 7 were allowed, error %v", replays, err)
	}
	agreed, err := Shrink(ops[:900], 10, time.Now().Add(time.Hour), replay)
	if agreed != nil || err != nil {
		t.Errorf("shrank what does not fail to %v, error %v", agreed, err)
	}
}

// TestSelects checks the model of which events a watcher gets.
func TestSelects(t *testing.T) {
	for _, c := range []struct {
		name, key, end string
		at             string
		want           bool
	}{
		{"one key", "a", "", "a", true},
		{"not its neighbour", "a", "", "a\x00", false},
		{"interval includes its start", "a", "c", "a", true},
		{"interval excludes its end", "a", "c", "c", false},
		{"open end", "b", "\x00", "\xff", true},
		{"open end excludes what is before", "b", "\x00", "a", false},
		{"empty key is the first key", "", "", "\x00", true},
		{"everything", "", "\x00", "\x00", true},
	} {
		event := &eventOf{key: c.at}
		request := &pb.WatchCreateRequest{Key: []byte(c.key), RangeEnd: []byte(c.end)}
		if got := selects(request, event.put()); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		request.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, 5}
		if selects(request, event.put()) || selects(request, event.del()) != c.want {
			t.Errorf("%s: wrong with puts filtered out", c.name)
		}
		request.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}
		if selects(request, event.del()) || selects(request, event.put()) != c.want {
			t.Errorf("%s: wrong with deletes filtered out", c.name)
		}
	}
}
