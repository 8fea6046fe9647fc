package mvcc

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"sync"
)

// fences make counting cheap. They cut the keys into segments and know of some how many live keys they hold, as of one
// revision; a count adds those numbers up and scans only what is left at both ends:
//
//	''          pods/        pods/m        pods0                     keys, in order
//	 |── unknown ──|──── 512 ───|──── 388 ───|─────── unknown ──────►  segments
//	                  [pods/c .......... pods0)                        what is counted
//	                   └ scanned ┘└─ added up ─┘
//
// Nothing is known in the beginning. A count that had to scan many keys leaves fences where it has been, every spacing keys;
// from then on creations and deletions move the numbers. A start therefore costs nothing, and a store that nobody counts
// pays nothing.
//
// The numbers stand for the newest revision noted. births, the latest creations and deletions, lead from there back to the
// somewhat older revision of a view, or to a pinned one. Beyond them a count scans, and if that was much has the births
// reach further back.
//
// All of it can be forgotten at any time and changes no answer. Safe for use by several goroutines. The lock is held for
// arithmetic, never for a read of the store.
type fences struct {
	spacing   int // keys
	birthsMax int

	mu    sync.Mutex
	noted Revision
	// Segment i holds the keys from keys[i] to below keys[i+1]; keys[0] is empty. counts[i] is the number of live ones, as
	// of noted but for the births that are not folded yet; -1: unknown.
	keys   [][]byte
	counts []int64
	bytes  int
	births births
}

const (
	// fenceSpacing is the number of keys between fences: what a count scans at most at each end, on average.
	fenceSpacing = 512
	// birthsKept is how many creations and deletions are kept at most, birthsFirst how many there is room for at first.
	birthsKept, birthsFirst = 1 << 18, 1 << 12
	// foldMax bounds how many of them wait to be folded into the segments.
	foldMax = 256
	// birthBytesMax bounds their keys.
	birthBytesMax = 16 << 20
	// fenceBytesMax bounds the memory of all fences: 100 million keys of 100 bytes need a quarter of it.
	fenceBytesMax = 128 << 20
	// fenceOverheadBytes is what a fence takes beside its key.
	fenceOverheadBytes = 40

	countUnknown = -1
)

// births is a ring of the latest creations and deletions of keys, bounded in number and bytes.
type births struct {
	ring     []birth  // nil until wanted
	first, n int      // the oldest one's place, and how many there are
	bytes    int      // of their keys
	fresh    int      // how many of the newest are not folded into the segments. Invariant: fresh <= n
	from     Revision // all those of later revisions are in the ring
}

type birth struct {
	rev   Revision
	key   []byte
	delta int64 // 1: created, -1: deleted
}

// stretch is lower <= key < upper; a nil upper is no bound.
type stretch struct{ lower, upper []byte }

func (s stretch) contains(key []byte) bool {
	return bytes.Compare(key, s.lower) >= 0 && (s.upper == nil || bytes.Compare(key, s.upper) < 0)
}

// newFences makes fences for a store at revision rev.
func newFences(o Options, rev Revision) *fences {
	f := &fences{spacing: cmp.Or(o.fenceSpacing, fenceSpacing), birthsMax: cmp.Or(o.birthsKept, birthsKept), noted: rev}
	f.births.from = rev
	f.forget()
	return f
}

func (f *fences) forget() {
	f.keys, f.counts, f.bytes = [][]byte{{}}, []int64{countUnknown}, 0
}

// note takes over what a run has done, before its revision is published: whoever sees a revision finds it noted.
func (f *fences) note(tx *Tx) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = tx.now.revision
	if f.births.ring == nil {
		f.births.from = f.noted // nobody has counted much yet
		return
	}
	for i := range tx.events {
		e := &tx.events[i]
		switch {
		case e.Kind == Delete:
			f.bear(birth{e.KV.ModRevision, e.KV.Key, -1})
		case tx.replaced[i].Main == 0:
			f.bear(birth{e.KV.ModRevision, e.KV.Key, 1})
		}
	}
}

func (f *fences) bear(b birth) {
	r := &f.births
	if r.n == len(r.ring) && r.n < f.birthsMax {
		r.resize(min(f.birthsMax, 2*r.n))
	}
	r.push(b)
	if r.fresh >= min(foldMax, r.n) || r.bytes > birthBytesMax {
		f.fold()
	}
	r.shrink()
}

// fold brings the segments up to what is noted.
func (f *fences) fold() {
	r := &f.births
	for i := r.n - r.fresh; i < r.n; i++ {
		b := r.at(i)
		if n := f.segment(b.key); f.counts[n] != countUnknown {
			f.counts[n] += b.delta
		}
	}
	r.fresh = 0
}

// at is the i-th oldest one.
func (r *births) at(i int) *birth { return &r.ring[(r.first+i)%len(r.ring)] }

func (r *births) push(b birth) {
	if r.n == len(r.ring) {
		r.drop()
	}
	r.n++
	r.fresh++
	*r.at(r.n - 1) = b
	r.bytes += len(b.key)
}

// resize makes room for n, which is no less than there are.
func (r *births) resize(n int) {
	ring := make([]birth, n)
	for i := range r.n {
		ring[i] = *r.at(i)
	}
	r.ring, r.first = ring, 0
}

// shrink forgets the oldest ones if their keys take too much. All are folded then.
func (r *births) shrink() {
	for r.n > 1 && r.bytes > birthBytesMax {
		r.drop()
	}
}

// drop forgets the oldest one.
func (r *births) drop() {
	b := r.at(0)
	r.from = b.rev
	r.bytes -= len(b.key)
	*b = birth{}
	r.first, r.n = (r.first+1)%len(r.ring), r.n-1
}

// since calls do with the births after rev, the newest first. They are complete if rev >= from.
func (r *births) since(rev Revision, do func(*birth)) {
	for i := r.n - 1; i >= 0 && r.at(i).rev > rev; i-- {
		do(r.at(i))
	}
}

// segment is the one that key belongs to.
func (f *fences) segment(key []byte) int {
	return sort.Search(len(f.keys), func(i int) bool { return bytes.Compare(f.keys[i], key) > 0 }) - 1
}

// tally is how a count goes about its range.
type tally struct {
	known int64     // live keys of the stretches that need no scan
	exact []stretch // those
	scans []stretch // what has to be scanned
}

// plan cuts a range into what is known at rev and what has to be scanned.
func (f *fences) plan(lower, upper []byte, rev Revision) (t tally) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rev < f.births.from {
		return tally{scans: []stretch{{lower, upper}}}
	}
	f.fold()
	unknown := false // the last scan is of an unknown segment
	first, last := f.segment(lower), len(f.keys)-1
	if upper != nil {
		last = f.segment(upper)
	}
	for i := first; i <= last; i++ {
		if upper != nil && bytes.Compare(f.keys[i], upper) >= 0 {
			break
		}
		if i > first && f.counts[i] != countUnknown { // those before the last one are whole
			from := i
			for ; i < last && f.counts[i] != countUnknown; i++ {
				t.known += f.counts[i]
			}
			if i > from {
				t.exact = extend(t.exact, stretch{f.keys[from], f.keys[i]}, true)
				unknown = false
			}
			if upper != nil && bytes.Compare(f.keys[i], upper) >= 0 {
				break
			}
		}
		piece, whole := f.clip(i, lower, upper)
		switch {
		case whole && f.counts[i] != countUnknown:
			t.known += f.counts[i]
			t.exact = extend(t.exact, piece, true)
			unknown = false
		default:
			t.scans = extend(t.scans, piece, unknown && f.counts[i] == countUnknown)
			unknown = f.counts[i] == countUnknown
		}
	}
	f.births.since(rev, func(b *birth) {
		if t.knows(b.key) {
			t.known -= b.delta
		}
	})
	return t
}

// clip is the part of segment i that lies within the bounds, and whether that is all of it.
func (f *fences) clip(i int, lower, upper []byte) (piece stretch, whole bool) {
	piece.lower, whole = f.keys[i], true
	if bytes.Compare(lower, piece.lower) > 0 {
		piece.lower, whole = lower, false
	}
	if i+1 < len(f.keys) {
		piece.upper = f.keys[i+1]
	}
	if upper != nil && (piece.upper == nil || bytes.Compare(upper, piece.upper) < 0) {
		piece.upper, whole = upper, false
	}
	return piece, whole
}

// extend appends s to list, or lengthens the last one if that ends where s begins and join is set.
func extend(list []stretch, s stretch, join bool) []stretch {
	if n := len(list); join && n > 0 && bytes.Equal(list[n-1].upper, s.lower) {
		list[n-1].upper = s.upper
		return list
	}
	return append(list, s)
}

// knows reports whether key lies in a stretch that needs no scan.
func (t *tally) knows(key []byte) bool {
	i := sort.Search(len(t.exact), func(i int) bool { return bytes.Compare(t.exact[i].lower, key) > 0 })
	return i > 0 && t.exact[i-1].contains(key)
}

// learned is what a scan found out about a stretch at one revision.
type learned struct {
	stretch
	rev    Revision
	fences [][]byte // keys of the stretch, each with spacing live keys between it and the one before
	count  int64
}

// worth reports whether the scan was long enough to remember.
func (l *learned) worth() bool { return len(l.fences) >= 2 }

// reached tells how far back the births go, and how many more of them may be remembered. From now on they are.
func (f *fences) reached() (from Revision, room int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.births
	if r.ring == nil {
		r.resize(min(f.birthsMax, birthsFirst))
	}
	return r.from, f.birthsMax - r.n
}

// reach puts older births, in order, before those that are known, which went back to the revision from. Now they go back to rev.
func (f *fences) reach(rev, from Revision, older []birth) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.births
	if r.from != from || len(older) > f.birthsMax-r.n {
		return // others were faster
	}
	f.fold()
	if r.n+len(older) > len(r.ring) {
		r.resize(min(f.birthsMax, 2*(r.n+len(older))))
	}
	for i := range older {
		b := &older[len(older)-1-i]
		r.first = (r.first - 1 + len(r.ring)) % len(r.ring)
		r.ring[r.first] = *b
		r.n++
		r.bytes += len(b.key)
	}
	r.from = rev
	r.shrink()
}

// learn puts up the fences that a scan has found. It does nothing if the births no longer reach back to the scan.
func (f *fences) learn(l *learned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.rev < f.births.from {
		return
	}
	f.fold()
	f.build(l, f.counted(l))
	if f.bytes > fenceBytesMax {
		f.forget()
	}
}

// counted is what the segments of l hold as of now, one number for each.
func (f *fences) counted(l *learned) []int64 {
	counts := make([]int64, len(l.fences)+1)
	for i := range l.fences {
		counts[i] = int64(f.spacing)
	}
	counts[len(l.fences)] = l.count - int64(len(l.fences)*f.spacing)
	f.births.since(l.rev, func(b *birth) {
		if l.contains(b.key) {
			i := sort.Search(len(l.fences), func(i int) bool { return bytes.Compare(l.fences[i], b.key) > 0 })
			counts[i] += b.delta
		}
	})
	return counts
}

// build replaces whatever segments l lies in.
func (f *fences) build(l *learned, counts []int64) {
	first, last := f.segment(l.lower), len(f.keys)-1
	if l.upper != nil {
		last = f.segment(l.upper)
		if bytes.Equal(f.keys[last], l.upper) {
			last--
		}
	}
	keys := append([][]byte{bytes.Clone(l.lower)}, l.fences...)
	head := !bytes.Equal(f.keys[first], l.lower) // some of the first segment is left
	tail := l.upper != nil && (last+1 == len(f.keys) || !bytes.Equal(f.keys[last+1], l.upper))
	rest := int64(countUnknown) // of the old segment, if all the rest of it is in one piece
	if first == last && f.counts[first] != countUnknown && head != tail {
		rest = f.counts[first]
		for _, n := range counts {
			rest -= n
		}
	}
	if head {
		keys, counts = append([][]byte{f.keys[first]}, keys...), append([]int64{rest}, counts...)
	}
	if tail {
		keys, counts = append(keys, bytes.Clone(l.upper)), append(counts, rest)
	}
	for _, k := range f.keys[first : last+1] {
		f.bytes -= len(k) + fenceOverheadBytes
	}
	for _, k := range keys {
		f.bytes += len(k) + fenceOverheadBytes
	}
	f.keys = slices.Replace(f.keys, first, last+1, keys...)
	f.counts = slices.Replace(f.counts, first, last+1, counts...)
}
