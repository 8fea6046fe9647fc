package watch

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/state/mvcc"
)

// checkEncoding compares the encoding of ev with the published library's.
func checkEncoding(t *testing.T, ev *mvcc.Event, prev bool) {
	t.Helper()
	message := &pb.WatchResponse{}
	message.Events = append(message.Events, protoEvent(ev, prev))
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	got := appendEvent(nil, ev, prev)
	if !bytes.Equal(got, want) {
		t.Fatalf("event %+v (prev %v):\n%x, want\n%x", ev, prev, got, want)
	}
	if n := eventSize(ev, prev); n != len(got) {
		t.Errorf("size %d, want %d", n, len(got))
	}
	if n := eventEnd(append(got, got...)); n != len(got) {
		t.Errorf("end at %d, want %d", n, len(got))
	}
}

func TestEncodingIsTheLibrarys(t *testing.T) {
	numbers := []int64{0, 1, 127, 128, math.MaxInt64, -1, math.MinInt64}
	for _, kind := range []mvcc.EventKind{mvcc.Put, mvcc.Delete} {
		for _, n := range numbers {
			for _, size := range []int{0, 1, 100, 128, 20_000} {
				value := bytes.Repeat([]byte("v"), size)
				ev := &mvcc.Event{Kind: kind, KV: mvcc.KeyValue{Key: []byte("key"), ModRevision: 7}}
				if kind == mvcc.Put {
					ev.KV = mvcc.KeyValue{Key: value, Value: value, CreateRevision: n, ModRevision: n, Version: n, Lease: n}
				}
				checkEncoding(t, ev, false)
				checkEncoding(t, ev, true)
				ev.Prev = &mvcc.KeyValue{Key: []byte("key"), Value: value, CreateRevision: 1, ModRevision: n, Version: 3}
				checkEncoding(t, ev, false)
				checkEncoding(t, ev, true)
			}
		}
	}
}

func FuzzEncoding(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), int64(1), int64(2), int64(3), int64(4), false, true)
	f.Add([]byte("key"), []byte(""), int64(0), int64(9), int64(0), int64(0), true, true)
	f.Add([]byte(""), []byte{0xff}, int64(-1), int64(1<<62), int64(128), int64(-5), false, false)
	f.Fuzz(func(t *testing.T, key, value []byte, create, mod, version, lease int64, deleted, prev bool) {
		kv := mvcc.KeyValue{Key: key, Value: value, CreateRevision: create, ModRevision: mod, Version: version, Lease: lease}
		ev := &mvcc.Event{Kind: mvcc.Put, KV: kv, Prev: &kv}
		if deleted {
			ev.Kind = mvcc.Delete
		}
		checkEncoding(t, ev, prev)
	})
}

// manyEvents is a chunk of n revisions with one event each, a delete every fourth.
func manyEvents(n int) *chunk {
	var events []mvcc.Event
	for i := range n {
		ev := mvcc.Event{Kind: mvcc.Put, KV: mvcc.KeyValue{Key: []byte("a"), Value: []byte(fmt.Sprint(i)), ModRevision: int64(10 + i)}}
		if i%4 == 3 {
			ev.Kind, ev.KV.Value = mvcc.Delete, nil
		}
		if i%2 == 1 {
			ev.Prev = &mvcc.KeyValue{Key: []byte("a"), Value: []byte("before"), ModRevision: int64(9 + i)}
		}
		events = append(events, ev)
	}
	return newChunk(events, int64(9+n))
}

func all(c *chunk) (positions []int32) {
	for i := range c.events {
		positions = append(positions, int32(i))
	}
	return positions
}

func TestEventsAreEncodedOnceAndLieTogether(t *testing.T) {
	c := manyEvents(8)
	some := c.encode([]int32{2, 5}, 0)
	whole := c.encode(all(c), 0)
	again := c.encode(all(c), 0)
	if whole.events != 8 || whole.revisions != 8 || whole.last != 17 || len(bytes.Join(whole.slices, nil)) != whole.bytes {
		t.Errorf("%+v", whole)
	}
	if &whole.slices[0][0] != &again.slices[0][0] || &some.slices[0][0] == &whole.slices[0][0] {
		t.Error("encoded twice, or not apart")
	}
	if len(some.slices) != 1 {
		t.Errorf("two events encoded together are %d slices", len(some.slices))
	}
	// Only events with a previous pair differ between the variants.
	prev := c.encode(all(c), withPrev)
	if &prev.slices[0][0] != &whole.slices[0][0] {
		t.Error("an event without previous pair was encoded for the variant with it")
	}
	if d := c.encode(all(c), noPut); d.events != 2 || d.last != 17 {
		t.Errorf("deletes: %+v", d)
	}
	if p := c.encode(all(c), noDelete|withPrev); p.events != 6 || p.last != 16 {
		t.Errorf("puts: %+v", p)
	}
	if n := c.encode(all(c), noDelete|noPut); n.events != 0 || len(n.slices) != 0 {
		t.Errorf("neither: %+v", n)
	}
}

func TestFragments(t *testing.T) {
	c := manyEvents(50)
	c.encode([]int32{10, 11, 30}, withPrev)
	p := c.encode(all(c), withPrev)
	if len(p.slices) < 2 {
		t.Fatal("want several slices, for cuts inside and between them")
	}
	whole := bytes.Join(p.slices, nil)
	for limit := 1; limit < len(whole)+200; limit += 7 {
		r := &Response{WatchID: 3, Revision: 99, Events: p.slices}
		var joined []byte
		pieces := fragments(r, limit)
		for i, piece := range pieces {
			b := bytes.Join(piece.Events, nil)
			var message pb.WatchResponse
			if err := proto.Unmarshal(b, &message); err != nil {
				t.Fatalf("limit %d, piece %d: %v", limit, i, err)
			}
			if len(message.Events) == 0 || len(message.Events) > 1 && piece.size() >= limit {
				t.Errorf("limit %d, piece %d: %d events in %d bytes", limit, i, len(message.Events), piece.size())
			}
			if piece.Fragment != (i < len(pieces)-1) || piece.WatchID != 3 || piece.Revision != 99 {
				t.Errorf("limit %d, piece %d of %d: %+v", limit, i, len(pieces), piece)
			}
			joined = append(joined, b...)
		}
		if !bytes.Equal(joined, whole) {
			t.Fatalf("limit %d: the pieces are not the whole", limit)
		}
		if r.size() < limit && len(pieces) != 1 {
			t.Errorf("limit %d: %d pieces of %d bytes", limit, len(pieces), r.size())
		}
	}
}

func TestFragmentedDelivery(t *testing.T) {
	run(t, Options{FragmentBytes: 300}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{WatchID: 1, Key: []byte("a"), End: []byte("b"), Fragment: true})
		r.stream.Create(Request{WatchID: 2, Key: []byte("a"), End: []byte("b")})
		r.take()
		value := strings.Repeat("x", 100)
		f.commit(put("a1", value), put("a2", value), put("a3", value))
		got := lines(r.take())
		for i, line := range got {
			got[i] = strings.ReplaceAll(line, value, "x")
		}
		f.sorted(got, "1@2 fragment a1=x@2", "1@2 fragment a2=x@2", "1@2 a3=x@2", "2@2 a1=x@2 a2=x@2 a3=x@2")
	})
}
