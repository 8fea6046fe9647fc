package tree

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"keelson/command"
)

// TestNewestBound: the cache stays within its bytes whatever goes through it, and only ever gives the last record of a path.
func TestNewestBound(t *testing.T) {
	r := random(t)
	c := newest{limit: newestShards * 2 * 4000}
	last := map[string]string{}
	found := 0
	for range 30000 {
		path := fmt.Sprintf("/k%d", r.IntN(2000))
		switch k := r.IntN(20); {
		case k < 10:
			record := strings.Repeat("v", r.IntN(100))
			if k == 0 && r.IntN(10) == 0 {
				record = strings.Repeat("v", 5000) // too large to be kept
			}
			c.put(path, []byte(record))
			last[path] = record
		case k == 10:
			c.remove(path)
			delete(last, path)
		default:
			got := c.get(path)
			want, ok := last[path]
			if got != nil && (!ok || string(got) != want) {
				t.Fatalf("%s: %q, want %q, %v", path, got, want, ok)
			}
			if got != nil {
				found++
			}
		}
	}
	for i := range c.shards {
		s := &c.shards[i]
		var young, old int64
		for path, record := range s.young {
			young += newestCost(path, record)
			if _, both := s.old[path]; both {
				t.Fatalf("%s is in both generations", path)
			}
		}
		for path, record := range s.old {
			old += newestCost(path, record)
		}
		if young != s.bytes || max(young, old) > c.generationBytes() {
			t.Fatalf("shard %d: %d and %d bytes, counted %d, limit %d", i, young, old, s.bytes, c.generationBytes())
		}
	}
	if found < 1000 {
		t.Fatalf("only %d were found", found)
	}
	c.forget()
	for path := range last {
		if c.get(path) != nil {
			t.Fatalf("%s is not forgotten", path)
		}
	}
}

// TestNewestKeepsWhatIsUsed: a record that is looked for survives a stream of others.
func TestNewestKeepsWhatIsUsed(t *testing.T) {
	c := newest{limit: newestShards * 2 * 4000}
	c.put("/hot", []byte("x"))
	for i := range 10000 {
		if c.get("/hot") == nil {
			t.Fatalf("gone after %d others", i)
		}
		c.put(fmt.Sprintf("/cold%d", i), []byte("x"))
	}
}

// TestRepeatedSetsDoNotReadTheBatch: replacing files that were written a moment ago reads neither the store nor the batch,
// whose writes would each cost a place in an index from then on.
func TestRepeatedSetsDoNotReadTheBatch(t *testing.T) {
	f := newForest(t)
	set := func(i int) command.Op { return &command.TreePut{Path: fmt.Sprintf("/d/%d", i), Value: []byte("v")} }
	for i := range 100 {
		f.apply(set(i))
		if f.table.newest.get(fmt.Sprintf("/d/%d", i)) == nil {
			t.Fatalf("/d/%d is not kept", i)
		}
	}
	b := f.db.NewBatch()
	tx := f.table.Begin(b, f.p)
	for i := range 1000 {
		if _, refusal, err := carryOut(tx, set(i%100), f.now); err != nil || refusal != nil {
			t.Fatal(refusal, err)
		}
	}
	if b.Indexed() {
		t.Error("the batch has an index")
	}
	b.Discard()
}

// TestUnsettledReadsComeFromTheStore: while a batch is on its way into the store, a file is read there, so that whoever has
// found a change in a listing does not find what was before in the file.
func TestUnsettledReadsComeFromTheStore(t *testing.T) {
	f := newForest(t)
	f.apply(&command.TreePut{Path: "/f", Value: []byte("old")})
	read := func() string {
		n, err := f.table.File(f.db, "/f")
		f.check(err)
		return string(n.Value)
	}
	b := f.db.NewBatch()
	tx := f.table.Begin(b, f.p)
	if _, refusal, err := carryOut(tx, &command.TreePut{Path: "/f", Value: []byte("new")}, f.now); err != nil || refusal != nil {
		t.Fatal(refusal, err)
	}
	tx.Finish()
	if got := read(); got != "old" {
		t.Errorf("before the commit: %q", got)
	}
	f.check(b.Commit())
	if got := read(); got != "new" {
		t.Errorf("after the commit: %q", got)
	}
	tx.Publish()
	if got := read(); got != "new" {
		t.Errorf("once published: %q", got)
	}
	if f.table.newest.get("/f") == nil {
		t.Error("it is not kept")
	}
}

func BenchmarkSet(b *testing.B) {
	f := newForest(b)
	const files, batch = 10_000, 200
	path := func(i int) string { return fmt.Sprintf("/bench/%06d", i) }
	for i := range files {
		f.apply(&command.TreePut{Path: path(i), Value: make([]byte, 64)})
	}
	r := rand.New(rand.NewPCG(1, 1))
	ops := make([]command.Op, batch)
	b.ReportAllocs()
	for b.Loop() {
		for i := range ops {
			ops[i] = &command.TreePut{Path: path(r.IntN(files)), Value: make([]byte, 64)}
		}
		f.apply(ops...)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/set")
}
