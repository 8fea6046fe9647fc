package mvcc

import (
	"bytes"
	"cmp"
	"slices"
)

// Numbers of the v3 API's sort enums. Apply is total: an unknown order counts as ascending, an unknown target as key.
const (
	sortNone    = 0
	sortDescend = 2

	sortByVersion = 1
	sortByCreate  = 2
	sortByMod     = 3
	sortByValue   = 4
)

// readOne answers q, which selects one key, with its pair (nil: none).
func readOne(kv *KeyValue, q *Query, yield func(*KeyValue) bool) Summary {
	switch {
	case kv == nil:
		return Summary{}
	case !q.CountOnly && passes(kv, q):
		give(kv, q, yield)
	}
	return Summary{Count: 1}
}

// counter returns how many pairs there are from lower to the end of c's range.
type counter func(c *scan, lower []byte) (int64, error)

// countAll is the counter that looks at all of them.
func countAll(c *scan, lower []byte) (n int64, err error) {
	for ok := c.first(lower); ok; ok = c.next() {
		n++
	}
	return n, c.err
}

// read answers q from a scan of its range, which begins at lower. What it need not look at it leaves to count. Errors of the
// scan stay in c.
func read(c *scan, lower []byte, q *Query, count counter, yield func(*KeyValue) bool) Summary {
	byKey := q.SortTarget < sortByVersion || q.SortTarget > sortByValue
	filtered := q.ModRevisionMin|q.ModRevisionMax|q.CreateRevisionMin|q.CreateRevisionMax != 0
	switch {
	case q.CountOnly:
		return readCount(c, lower, count)
	case byKey && q.SortOrder != sortDescend && q.Limit > 0 && !filtered:
		return readPage(c, lower, q, count, yield)
	case byKey && q.SortOrder != sortDescend:
		return readInOrder(c, lower, q, yield)
	case q.SortOrder == sortNone && !filtered:
		return readCut(c, lower, q, yield)
	}
	return readSorted(c, lower, q, yield)
}

func readCount(c *scan, lower []byte, count counter) Summary {
	n, err := count(c, lower)
	c.fail(err)
	return Summary{Count: n}
}

// readPage gives the first pairs and counts the others.
func readPage(c *scan, lower []byte, q *Query, count counter, yield func(*KeyValue) bool) (sum Summary) {
	for ok := c.first(lower); ok; ok = c.next() {
		if sum.Count == q.Limit {
			rest, err := count(c, bytes.Clone(c.kv.Key))
			c.fail(err)
			return Summary{Count: sum.Count + rest, More: true}
		}
		sum.Count++
		if !give(&c.kv, q, yield) {
			return sum
		}
	}
	return sum
}

func readInOrder(c *scan, lower []byte, q *Query, yield func(*KeyValue) bool) (sum Summary) {
	given := int64(0)
	for ok := c.first(lower); ok; ok = c.next() {
		sum.Count++
		switch {
		case !passes(&c.kv, q):
		case q.Limit > 0 && given == q.Limit:
			sum.More = true
		default:
			given++
			if !give(&c.kv, q, yield) {
				return sum
			}
		}
	}
	return sum
}

// readCut answers a sort target without a sort order: the limit counts in key order, then the pairs are sorted. The
// first pair beyond the limit takes part in the sort, as in etcd.
func readCut(c *scan, lower []byte, q *Query, yield func(*KeyValue) bool) (sum Summary) {
	var pairs []KeyValue
	for ok := c.first(lower); ok; ok = c.next() {
		sum.Count++
		if q.Limit <= 0 || int64(len(pairs)) <= q.Limit {
			pairs = append(pairs, keep(&c.kv, q))
			if !c.hold(&pairs[len(pairs)-1]) {
				return sum
			}
		}
	}
	slices.SortFunc(pairs, order(q))
	sum.More = q.Limit > 0 && int64(len(pairs)) > q.Limit
	giveAll(pairs, q, yield)
	return sum
}

// readSorted answers a sort: of all pairs that pass the filters, the first ones. It never holds more than about twice
// the limit of them.
func readSorted(c *scan, lower []byte, q *Query, yield func(*KeyValue) bool) (sum Summary) {
	var pairs []KeyValue
	passed := int64(0)
	for ok := c.first(lower); ok; ok = c.next() {
		sum.Count++
		if !passes(&c.kv, q) {
			continue
		}
		passed++
		if q.Limit > 0 && int64(len(pairs))/2 > q.Limit && len(pairs) >= sortBatch {
			slices.SortFunc(pairs, order(q))
			c.drop(pairs[q.Limit:])
			pairs = pairs[:q.Limit]
		}
		pairs = append(pairs, keep(&c.kv, q))
		if !c.hold(&pairs[len(pairs)-1]) {
			return sum
		}
	}
	slices.SortFunc(pairs, order(q))
	sum.More = q.Limit > 0 && passed > q.Limit
	giveAll(pairs, q, yield)
	return sum
}

// sortBatch is the least number of pairs that is worth a sort just to drop some.
const sortBatch = 256

func passes(kv *KeyValue, q *Query) bool {
	return (q.ModRevisionMax == 0 || kv.ModRevision <= q.ModRevisionMax) &&
		(q.ModRevisionMin == 0 || kv.ModRevision >= q.ModRevisionMin) &&
		(q.CreateRevisionMax == 0 || kv.CreateRevision <= q.CreateRevisionMax) &&
		(q.CreateRevisionMin == 0 || kv.CreateRevision >= q.CreateRevisionMin)
}

// keep copies a pair, without its value if nobody will look at it.
func keep(kv *KeyValue, q *Query) KeyValue {
	c := *kv
	c.Key = bytes.Clone(kv.Key)
	c.Value = nil
	if !q.KeysOnly || q.SortTarget == sortByValue {
		c.Value = bytes.Clone(kv.Value)
	}
	return c
}

// Room is told how many bytes more are kept in memory to be sorted; less than 0: fewer. It may wait. Its error ends the reading.
type Room func(bytes int64) error

// keptBytes is what a pair that is kept costs apart from its key and value.
const keptBytes = 128

// hold counts a pair that is kept, and ends the scan if that is too much.
func (c *scan) hold(kv *KeyValue) bool {
	n := int64(len(kv.Key) + len(kv.Value))
	c.held += n
	if c.heldMax > 0 && c.held > c.heldMax {
		c.fail(ErrTooLarge)
		return false
	}
	if c.room != nil {
		c.fail(c.room(n + keptBytes))
	}
	return c.err == nil
}

// drop lets go of pairs that were kept.
func (c *scan) drop(pairs []KeyValue) {
	n := int64(0)
	for i := range pairs {
		n += int64(len(pairs[i].Key) + len(pairs[i].Value))
	}
	clear(pairs)
	c.held -= n
	if c.room != nil {
		c.fail(c.room(-n - keptBytes*int64(len(pairs))))
	}
}

// order compares pairs the way q wants them; equal ones by key, ascending, in both directions.
func order(q *Query) func(a, b KeyValue) int {
	sign := 1
	if q.SortOrder == sortDescend {
		sign = -1
	}
	return func(a, b KeyValue) int {
		c := 0
		switch q.SortTarget {
		case sortByVersion:
			c = cmp.Compare(a.Version, b.Version)
		case sortByCreate:
			c = cmp.Compare(a.CreateRevision, b.CreateRevision)
		case sortByMod:
			c = cmp.Compare(a.ModRevision, b.ModRevision)
		case sortByValue:
			c = bytes.Compare(a.Value, b.Value)
		default:
			return sign * bytes.Compare(a.Key, b.Key)
		}
		if c == 0 {
			return bytes.Compare(a.Key, b.Key)
		}
		return sign * c
	}
}

// give hands a pair out, cut down to what q asks for. The lease stays: who asks for keys may want to see which of them are held.
func give(kv *KeyValue, q *Query, yield func(*KeyValue) bool) bool {
	if !q.KeysOnly {
		return yield(kv)
	}
	c := *kv
	c.Value = nil
	return yield(&c)
}

func giveAll(pairs []KeyValue, q *Query, yield func(*KeyValue) bool) {
	if q.Limit > 0 && int64(len(pairs)) > q.Limit {
		pairs = pairs[:q.Limit]
	}
	for i := range pairs {
		if !give(&pairs[i], q, yield) {
			return
		}
	}
}
