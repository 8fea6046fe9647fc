package v3

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Overlap rules. A transaction must not put a key twice, nor put a key that it deletes. Within one list of operations,
// read its direct deletes as coming first, then its nested transactions in order, then its direct puts; then a put is
// refused if the same key is put, or a range that holds it is deleted, earlier in this order. The two branches of one
// nested transaction do not see each other, and both are seen by what follows.
//
// This is etcd's rule with its two holes, which clients may rely on: a nested put before a sibling's nested delete
// passes, and a delete whose end does not lie above its start counts as deleting nothing, even if the end is \x00, "from
// the key on".

// checkOverlaps checks both branches, which are independent of each other.
func checkOverlaps(r *pb.TxnRequest) error {
	if overlap(r.GetSuccess()) || overlap(r.GetFailure()) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	return nil
}

// flatOpsMax is up to how many operations comparing each with each is cheaper than sorting.
const flatOpsMax = 16

func overlap(ops []*pb.RequestOp) bool {
	puts, deletes, txns := 0, 0, 0
	for _, op := range ops {
		switch op.GetRequest().(type) {
		case *pb.RequestOp_RequestPut:
			puts++
		case *pb.RequestOp_RequestDeleteRange:
			deletes++
		case *pb.RequestOp_RequestTxn:
			txns++
		}
	}
	switch {
	case txns == 0 && (puts == 0 || puts == 1 && deletes == 0):
		return false
	case txns == 0 && len(ops) <= flatOpsMax:
		return flatOverlap(ops)
	}
	c := newOverlaps(ops)
	return c.visit(c.root)
}

// flatOverlap compares each put of a list without nested transactions with every other operation.
func flatOverlap(ops []*pb.RequestOp) bool {
	for i, op := range ops {
		put := op.GetRequestPut()
		if put == nil {
			continue
		}
		for j, other := range ops {
			if p := other.GetRequestPut(); p != nil && j < i && bytes.Equal(p.Key, put.Key) {
				return true
			}
			if d := other.GetRequestDeleteRange(); d != nil && deletes(d, put.Key) {
				return true
			}
		}
	}
	return false
}

// deletes reports whether d counts as deleting key.
func deletes(d *pb.DeleteRangeRequest, key []byte) bool {
	if len(d.RangeEnd) == 0 {
		return bytes.Equal(d.Key, key)
	}
	return bytes.Compare(d.Key, key) <= 0 && bytes.Compare(key, d.RangeEnd) < 0
}

// overlaps finds overlaps in lists of any size and depth in O(n log² n): it walks through the operations in the order
// of the rule and keeps what is in sight: how often each key is put, and by how many deletes it is covered.
type overlaps struct {
	root *level
	keys [][]byte // every key put anywhere, sorted, unique; a key's place in it stands for the key
	puts []int32  // by key: puts in sight
	// covers is a Fenwick tree over the differences of: by key, deletes in sight that cover it.
	covers []int32
	// trail lists what came in sight, in order.
	trail []sight
}

// level is one list of operations.
type level struct {
	puts    [][]byte
	deletes []*pb.DeleteRangeRequest
	txns    [][2]*level
	size    int // operations, nested ones included
}

// sight is a put of the key at lo (hi is -1) or a delete of the keys from lo to hi-1.
type sight struct{ lo, hi int32 }

func newOverlaps(ops []*pb.RequestOp) *overlaps {
	c := &overlaps{}
	c.root = c.level(ops)
	slices.SortFunc(c.keys, bytes.Compare)
	c.keys = slices.CompactFunc(c.keys, bytes.Equal)
	c.puts = make([]int32, len(c.keys))
	c.covers = make([]int32, len(c.keys)+1)
	return c
}

func (c *overlaps) level(ops []*pb.RequestOp) *level {
	l := &level{size: len(ops)}
	for _, op := range ops {
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestPut:
			l.puts = append(l.puts, o.RequestPut.Key)
			c.keys = append(c.keys, o.RequestPut.Key)
		case *pb.RequestOp_RequestDeleteRange:
			l.deletes = append(l.deletes, o.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			t := [2]*level{c.level(o.RequestTxn.Success), c.level(o.RequestTxn.Failure)}
			l.size += t[0].size + t[1].size
			l.txns = append(l.txns, t)
		}
	}
	return l
}

// visit walks through a list and reports whether one of its puts is refused. All of the list stays in sight.
func (c *overlaps) visit(l *level) bool {
	for _, d := range l.deletes {
		c.show(c.span(d))
	}
	for _, t := range l.txns {
		small, large := t[0], t[1]
		if small.size > large.size {
			small, large = large, small
		}
		from := len(c.trail)
		if c.visit(small) {
			return true
		}
		// Hiding the smaller branch while the larger is visited touches an operation log n times in all.
		to := len(c.trail)
		c.count(from, to, -1)
		if c.visit(large) {
			return true
		}
		c.count(from, to, 1)
	}
	for _, key := range l.puts {
		i := c.find(key)
		if c.puts[i] > 0 || c.covered(i) {
			return true
		}
		c.show(sight{i, -1})
	}
	return false
}

// find is the place of the first key not below key.
func (c *overlaps) find(key []byte) int32 {
	i, _ := slices.BinarySearchFunc(c.keys, key, bytes.Compare)
	return int32(i)
}

func (c *overlaps) span(d *pb.DeleteRangeRequest) sight {
	lo := c.find(d.Key)
	if len(d.RangeEnd) > 0 {
		return sight{lo, max(lo, c.find(d.RangeEnd))}
	}
	hi := lo
	if int(lo) < len(c.keys) && bytes.Equal(c.keys[lo], d.Key) {
		hi++
	}
	return sight{lo, hi}
}

func (c *overlaps) show(s sight) {
	c.trail = append(c.trail, s)
	c.count(len(c.trail)-1, len(c.trail), 1)
}

// count brings a stretch of the trail in sight (by 1) or out of it (by -1).
func (c *overlaps) count(from, to int, by int32) {
	for _, s := range c.trail[from:to] {
		if s.hi < 0 {
			c.puts[s.lo] += by
			continue
		}
		c.add(s.lo, by)
		c.add(s.hi, -by)
	}
}

func (c *overlaps) add(i, by int32) {
	for i++; int(i) < len(c.covers); i += i & -i {
		c.covers[i] += by
	}
}

func (c *overlaps) covered(i int32) bool {
	n := int32(0)
	for i++; i > 0; i -= i & -i {
		n += c.covers[i]
	}
	return n > 0
}
