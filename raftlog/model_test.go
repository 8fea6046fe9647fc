package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// workload makes random operations on a log and keeps what it must contain.
type workload struct {
	rng *rand.Rand
	o   Options
	l   *Log

	want    content
	applied uint64 // what the state holds durably
	synced  uint64 // commit index that a crash cannot take away

	// The operation under way, for the crash tests.
	batches  []Batch
	truncate uint64 // index, 0: none
	reset    *Position

	ops [7]int // how often each operation ran
}

func newWorkload(rng *rand.Rand, o Options) *workload {
	base := Position{}
	if rng.IntN(2) == 0 {
		base = Position{rng.Uint64N(1000), 1 + rng.Uint64N(3)}
	}
	return &workload{rng: rng, o: o, applied: base.Index, synced: base.Index,
		want: content{base: base, hs: hardState{term: base.Term, commit: base.Index}}}
}

func (w *workload) create() (err error) {
	w.l, err = Create(w.o, w.want.base)
	return err
}

// data draws a payload: nothing, short, with whole zero sectors, larger than a segment.
func (w *workload) data() []byte {
	switch w.rng.IntN(12) {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return make([]byte, 400+w.rng.IntN(3000))
	case 3:
		b := make([]byte, 1000+w.rng.IntN(6000))
		for i := range b {
			b[i] = byte(w.rng.Uint32())
		}
		return b
	default:
		b := make([]byte, w.rng.IntN(200))
		for i := range b {
			b[i] = byte(w.rng.Uint32())
		}
		return b
	}
}

func (w *workload) entries(first, last, prevTerm, maxTerm uint64) []*raftpb.Entry {
	var out []*raftpb.Entry
	term := prevTerm
	for i := first; i <= last; i++ {
		if w.rng.IntN(4) == 0 {
			term += w.rng.Uint64N(maxTerm - term + 1)
		}
		e := entry(i, term, w.data())
		if w.rng.IntN(3) == 0 {
			e.Type = raftpb.EntryType(w.rng.IntN(3)).Enum()
		}
		out = append(out, e)
	}
	return out
}

// batch draws one batch on top of c and applies it there.
func (w *workload) batch(c *content) Batch {
	hs := c.hs
	if w.rng.IntN(6) == 0 {
		hs.term += 1 + w.rng.Uint64N(2)
		hs.vote = w.rng.Uint64N(4)
	}
	hs.term = max(hs.term, 1)
	var b Batch
	if w.rng.IntN(5) != 0 {
		first := c.last() + 1
		if w.rng.IntN(5) == 0 {
			first = hs.commit + 1 + w.rng.Uint64N(c.last()+1-hs.commit)
		}
		b.Entries = w.entries(first, first+uint64(w.rng.IntN(6)), c.term(first-1), hs.term)
		c.append(b.Entries)
	}
	if w.rng.IntN(2) == 0 {
		hs.commit += w.rng.Uint64N(c.last() - hs.commit + 1)
	}
	if hs != c.hs || w.rng.IntN(4) == 0 {
		b.HardState = hs.proto()
		c.hs = hs
	}
	b.MustSync = w.rng.IntN(10) == 0
	return b
}

// step runs one random operation. An error is that of the log.
func (w *workload) step() error {
	op := w.rng.IntN(20)
	switch {
	case op < 13:
		w.ops[0]++
		return w.append()
	case op < 14:
		w.ops[1]++
		return w.l.MarkIdle()
	case op < 15:
		w.ops[2]++
		return w.l.Prepare()
	case op < 18:
		w.ops[3]++
		w.applied += w.rng.Uint64N(w.want.hs.commit - w.applied + 1)
		w.truncate = w.applied
		if err := w.l.Truncate(w.applied); err != nil {
			return err
		}
		w.truncate = 0
		return w.adoptBase()
	case op < 19 && w.rng.IntN(4) == 0:
		w.ops[4]++
		base := Position{w.want.last() + 1 + w.rng.Uint64N(20), w.want.hs.term + w.rng.Uint64N(2)}
		w.reset = &base
		if err := w.l.Reset(base, nil); err != nil {
			return err
		}
		w.reset = nil
		w.resetTo(base)
		return nil
	default:
		w.ops[5]++
		_, err := w.l.Scrub(int64(w.rng.IntN(3000)))
		return err
	}
}

func (w *workload) resetTo(base Position) {
	hs := w.want.hs
	if base.Term > hs.term {
		hs.term, hs.vote = base.Term, 0
	}
	hs.commit = base.Index
	w.want = content{base: base, hs: hs}
	w.applied, w.synced = base.Index, base.Index
}

func (w *workload) append() error {
	next := w.want.clone()
	before := next.hs
	w.batches = nil
	sync := false
	for range 1 + w.rng.IntN(3) {
		b := w.batch(&next)
		sync = sync || b.MustSync || len(b.Entries) > 0
		w.batches = append(w.batches, b)
	}
	if err := w.l.Append(w.batches...); err != nil {
		return err
	}
	w.want, w.batches = next, nil
	if sync || before.term != next.hs.term || before.vote != next.hs.vote {
		w.synced = next.hs.commit
	}
	return nil
}

// adoptBase takes over how far a truncation went, which depends on the segments.
func (w *workload) adoptBase() error {
	first, _ := w.l.FirstIndex()
	if base := first - 1; base < w.want.base.Index || base > max(w.applied, w.want.base.Index) {
		return fmt.Errorf("truncate through %d moved the base from %d to %d", w.applied, w.want.base.Index, base)
	}
	w.want.trim(first - 1)
	return nil
}

// reopen closes the log, or just leaves it, and opens it again.
func (w *workload) reopen(closing bool) error {
	w.ops[6]++
	if closing {
		if err := w.l.Close(); err != nil {
			return err
		}
	}
	l, r, err := Open(w.o, w.want.position(w.applied))
	if err != nil {
		return err
	}
	w.l = l
	if r.Cut != nil || (closing && r.Confirmed > 2*pageSize) {
		return fmt.Errorf("opening a log that was left whole found %+v", r)
	}
	// The commit index is as before: nothing was lost.
	return nil
}

// check compares the log with the model, and random reads with raft's own storage.
func (w *workload) check() error {
	got, err := contentOf(w.l)
	if err != nil {
		return err
	}
	if err := sameContent(got, w.want); err != nil {
		return err
	}
	m := raft.NewMemoryStorage()
	if err := m.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(w.want.base.Index), Term: new(w.want.base.Term)}}); err != nil && w.want.base.Index != 0 {
		return err
	}
	if err := m.Append(w.want.entries); err != nil {
		return err
	}
	for range 5 {
		lo := w.want.base.Index + w.rng.Uint64N(uint64(len(w.want.entries))+2)
		hi := lo + w.rng.Uint64N(w.want.last()+2-lo)
		limit := w.rng.Uint64N(10000)
		wantEntries, wantErr := []*raftpb.Entry(nil), error(nil)
		if lo < hi || lo <= w.want.base.Index {
			wantEntries, wantErr = m.Entries(lo, hi, limit)
		}
		gotEntries, gotErr := w.l.Entries(lo, hi, limit)
		if !errors.Is(gotErr, wantErr) {
			return fmt.Errorf("entries %d..%d: %v, want %v", lo, hi, gotErr, wantErr)
		}
		if err := sameEntries(gotEntries, wantEntries); err != nil {
			return fmt.Errorf("entries %d..%d limit %d: %w", lo, hi, limit, err)
		}
	}
	return nil
}

// TestModel runs random operations under several sizes and compares everything with a model that is a slice.
func TestModel(t *testing.T) {
	var ops [7]int
	for _, seed := range seeds(t, 1, 12) {
		rng := rngOf(seed)
		o := testOptions(newDisk(t))
		o.SegmentBytes = []int64{2 << 10, 4 << 10, 16 << 10, 256 << 10}[rng.IntN(4)]
		o.TailBytes = []int64{1, 2 << 10, 1 << 20}[rng.IntN(3)]
		w := newWorkload(rng, o)
		mustNil(t, w.create())
		for i := range 120 {
			err := w.step()
			if err == nil && rng.IntN(12) == 0 {
				err = w.reopen(rng.IntN(2) == 0)
			}
			if err == nil {
				err = w.check()
			}
			if err != nil {
				t.Fatalf("step %d: %v (replay with -run TestModel -seed=%d)", i, err, seed)
			}
		}
		mustNil(t, w.l.Close())
		for i := range ops {
			ops[i] += w.ops[i]
		}
	}
	t.Logf("append, mark, prepare, truncate, reset, scrub, reopen: %v", ops)
	if *seedFlag == 0 {
		for i, n := range ops {
			if n == 0 {
				t.Errorf("operation %d never ran", i)
			}
		}
	}
}
