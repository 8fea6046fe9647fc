package raftlog

import (
	"fmt"
	"slices"
	"sort"

	"go.etcd.io/raft/v3/raftpb"
)

// pointSpacing is the distance in bytes between two remembered records of a segment: 16 bytes of memory for each 32
// KiB of file, whatever the size of the entries.
const pointSpacing = 32 << 10

// index knows where every live entry is, and every term. It is guarded by Log.mu.
//
// Entries are in runs: stretches of one segment whose records follow each other without one replacing another. A new
// leader that replaces a suffix ends a run early; its dead records stay in the file and are never reached, because a
// reader stops at the run's last index.
//
// Invariant: runs are in order of index and without gap from base.Index+1 to last; every run has at least one entry.
type index struct {
	base  Position
	last  uint64
	runs  []run
	terms []termRange // where the term changes, from the base's on

	// replaced counts how often a suffix was replaced, so that a reader notices.
	replaced uint64
}

type run struct {
	seg         *segment
	first, last uint64
	cut         bool    // dead records may follow: nothing can be added
	points      []point // the first is the run's first record
}

// point is the place of a record.
type point struct {
	first uint64 // index of its first entry
	off   int64
}

// termRange says that entries from first on, up to the next range, have the term, and the one before has not.
type termRange struct {
	first, term uint64
}

func newIndex(base Position) index { return index{base: base, last: base.Index} }

// add makes the entries first..last, in the record at off, live. Everything from first on is replaced. The terms are
// given by addTerm afterwards. prevTerm is the term of the entry before first; it is only needed when first is at or
// below the base, which happens when the segments before were truncated away.
func (x *index) add(seg *segment, off int64, first, last, prevTerm uint64) {
	x.cutFrom(first, prevTerm)
	x.last = last
	if n := len(x.runs); n > 0 {
		r := &x.runs[n-1]
		if r.seg == seg && !r.cut && r.last+1 == first {
			r.last = last
			if off-r.points[len(r.points)-1].off >= pointSpacing {
				r.points = append(r.points, point{first, off})
			}
			return
		}
	}
	x.runs = append(x.runs, run{seg: seg, first: first, last: last, points: []point{{first, off}}})
}

func (x *index) cutFrom(first, prevTerm uint64) {
	if first == x.last+1 {
		return
	}
	if first > x.last {
		panic(fmt.Sprintf("raftlog: entry %d would leave a gap after %d", first, x.last))
	}
	x.replaced++
	if first <= x.base.Index {
		x.base = Position{first - 1, prevTerm}
	}
	n := sort.Search(len(x.runs), func(i int) bool { return x.runs[i].first >= first })
	x.runs = slices.Delete(x.runs, n, len(x.runs))
	if n > 0 && x.runs[n-1].last >= first {
		r := &x.runs[n-1]
		r.last, r.cut = first-1, true
		p := sort.Search(len(r.points), func(i int) bool { return r.points[i].first >= first })
		r.points = r.points[:p]
	}
	for len(x.terms) > 0 && x.terms[len(x.terms)-1].first >= first {
		x.terms = x.terms[:len(x.terms)-1]
	}
	x.last = first - 1
}

// term returns the term of entry i, base.Index <= i <= last.
func (x *index) term(i uint64) uint64 {
	n := len(x.terms)
	for back := 0; n > 0 && x.terms[n-1].first > i; back++ {
		if back == 2 { // nearly every question is about the newest terms
			n = sort.Search(n, func(n int) bool { return x.terms[n].first > i })
			break
		}
		n--
	}
	if n == 0 {
		return x.base.Term
	}
	return x.terms[n-1].term
}

// runOf returns the run that holds entry i, base.Index < i <= last, and the place to begin reading.
func (x *index) runOf(i uint64) (*run, point) {
	n := sort.Search(len(x.runs), func(n int) bool { return x.runs[n].last >= i })
	r := &x.runs[n]
	p := sort.Search(len(r.points), func(p int) bool { return r.points[p].first > i })
	return r, r.points[p-1]
}

// lastIn returns the last live entry in seg, 0 if it holds none.
func (x *index) lastIn(seg *segment) uint64 {
	for n := len(x.runs) - 1; n >= 0; n-- {
		if x.runs[n].seg == seg {
			return x.runs[n].last
		}
	}
	return 0
}

// dropSegment forgets the runs in seg, the oldest one, and raises the base to the entry before the first that is left.
func (x *index) dropSegment(seg *segment) {
	n := 0
	for n < len(x.runs) && x.runs[n].seg == seg {
		n++
	}
	if n == 0 {
		return
	}
	last := x.runs[n-1].last
	x.base = Position{last, x.term(last)}
	x.runs = slices.Delete(x.runs, 0, n)
	first := sort.Search(len(x.terms), func(n int) bool { return x.terms[n].first > last })
	x.terms = slices.Delete(x.terms, 0, first)
}

// tail holds the newest entries, at least one if it ever held one. It is guarded by Log.mu.
type tail struct {
	entries []*raftpb.Entry
	bytes   int64 // what they cost
	limit   int64
}

// entryCost is the memory an entry is counted with: its data and about what the structure around it takes.
func entryCost(e *raftpb.Entry) int64 { return int64(len(e.Data)) + 128 }

// first is the index of the oldest entry in the tail. ok is false if the tail is empty.
func (t *tail) first() (i uint64, ok bool) {
	if len(t.entries) == 0 {
		return 0, false
	}
	return t.entries[0].GetIndex(), true
}

// add appends consecutive entries; those at and above the first of them are replaced.
func (t *tail) add(entries []*raftpb.Entry) {
	t.cutFrom(entries[0].GetIndex())
	t.entries = append(t.entries, entries...)
	for _, e := range entries {
		t.bytes += entryCost(e)
	}
	n := 0
	for ; t.bytes > t.limit && n < len(t.entries)-1; n++ {
		t.bytes -= entryCost(t.entries[n])
	}
	t.drop(n)
}

func (t *tail) cutFrom(first uint64) {
	n := len(t.entries)
	for n > 0 && t.entries[n-1].GetIndex() >= first {
		n--
		t.bytes -= entryCost(t.entries[n])
	}
	clear(t.entries[n:])
	t.entries = t.entries[:n]
	if n > 0 && t.entries[n-1].GetIndex()+1 != first {
		panic(fmt.Sprintf("raftlog: entry %d would leave a gap after %d", first, t.entries[n-1].GetIndex()))
	}
}

// trim forgets entries at and below i.
func (t *tail) trim(i uint64) {
	n := 0
	for ; n < len(t.entries) && t.entries[n].GetIndex() <= i; n++ {
		t.bytes -= entryCost(t.entries[n])
	}
	t.drop(n)
}

// drop forgets the n oldest entries, whose bytes are no longer counted.
func (t *tail) drop(n int) {
	clear(t.entries[:n])
	t.entries = t.entries[n:]
}
