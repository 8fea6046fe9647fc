package differential

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// rangeRequest uses every field. wild allows what is refused.
func (g *Generator) rangeRequest(wild bool) *pb.RangeRequest {
	r := &pb.RangeRequest{Revision: g.readable(), Serializable: g.chance(0.3)}
	r.Key, r.RangeEnd = g.interval(wild)
	if wild && g.chance(0.3) {
		r.Revision = g.revision()
	}
	if g.chance(0.4) {
		r.Limit = pick(g, int64(1), 1, 2, 3, 5, 13, 100, -1, math.MaxInt64, math.MinInt64)
	}
	r.CountOnly = g.chance(0.08)
	r.KeysOnly = g.chance(0.12)
	if g.chance(0.4) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	keepComparable(r)
	if wild && g.chance(0.01) {
		r.SortOrder = pick(g, pb.RangeRequest_SortOrder(3), -1, math.MaxInt32)
	}
	if wild && g.chance(0.01) {
		r.SortTarget = pick(g, pb.RangeRequest_SortTarget(5), -1, math.MaxInt32)
	}
	if g.chance(0.15) {
		for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
			if g.chance(0.4) {
				*bound = g.revision()
			}
		}
	}
	return r
}

// keepComparable narrows a range that is sorted by values but does not show them: with more keys than an unstable sort
// keeps in order, the values decide whether the order is right.
func keepComparable(r *pb.RangeRequest) {
	if r.KeysOnly && r.SortTarget == pb.RangeRequest_VALUE {
		r.Key, r.RangeEnd = []byte("a"), []byte("b")
	}
}

// rangeStreamRequest is mostly one that streams can serve: no sort but by key, no revision bounds.
func (g *Generator) rangeStreamRequest() *pb.RangeRequest {
	r := g.rangeRequest(true)
	if g.chance(0.85) {
		r.SortOrder, r.SortTarget = pick(g, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND), pb.RangeRequest_KEY
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	if g.chance(0.5) {
		r.Key, r.RangeEnd, r.Limit = []byte{0}, []byte{0}, pick(g, int64(0), 0, 9, 10, 11, 20, 21)
	}
	keepComparable(r)
	return r
}

// put also makes the rare large one, whose size alone decides.
func (g *Generator) put() Op {
	request := g.putRequest(true)
	if g.chance(0.004) {
		const mib = 1 << 20
		request.Value = make([]byte, pick(g, 100_000, mib, 3*mib/2, 3*mib/2+100_000, 2*mib+mib/2))
	}
	return Op{Kind: KindPut, Request: request}
}

func (g *Generator) putRequest(wild bool) *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(0.3)}
	if g.chance(0.3) {
		r.Lease = g.attachable(wild)
	}
	if g.chance(0.06) && (wild || g.chance(0.3)) {
		r.IgnoreValue = true
		if !wild || g.chance(0.8) {
			r.Value = nil
		}
	}
	if g.chance(0.06) && (wild || g.chance(0.3)) {
		r.IgnoreLease = true
		if !wild || g.chance(0.8) {
			r.Lease = 0
		}
	}
	if wild && g.chance(0.01) {
		r.Key = nil
	}
	return r
}

func (g *Generator) deleteRequest() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.chance(0.4)}
	r.Key, r.RangeEnd = g.interval(true)
	// Deleting half of the key space every time would leave nothing to look at.
	if len(r.RangeEnd) > 0 && g.chance(0.7) {
		r.RangeEnd = nil
	}
	return r
}

// txnRequest is mostly small and well formed; some are wild, some as wide as allowed or one wider.
func (g *Generator) txnRequest() *pb.TxnRequest {
	if g.chance(0.03) {
		return g.wideTxn()
	}
	wild := g.chance(0.1)
	t := g.txn(2, wild)
	switch {
	case !undecided(t):
		return t
	case !g.options.OpenDuplicates:
		return &pb.TxnRequest{Compare: t.Compare, Success: []*pb.RequestOp{rangeOp(g.rangeRequest(false))}}
	}
	// Where a delete that the duplicate check does not see removes the key of a put that keeps its value or lease, etcd
	// panics, and again at every start.
	plainPuts(t)
	return t
}

// plainPuts makes all puts of a transaction independent of what was there.
func plainPuts(t *pb.TxnRequest) {
	for _, op := range append(append([]*pb.RequestOp{}, t.Success...), t.Failure...) {
		if put := op.GetRequestPut(); put != nil {
			put.IgnoreValue, put.IgnoreLease = false, false
		}
		if inner := op.GetRequestTxn(); inner != nil {
			plainPuts(inner)
		}
	}
}

// txn makes a transaction with up to depth levels below it.
func (g *Generator) txn(depth int, wild bool) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range pick(g, 0, 0, 1, 1, 2, 3) {
		t.Compare = append(t.Compare, g.compare(wild))
	}
	readOnly := g.chance(0.15)
	t.Success = g.ops(depth, wild, readOnly)
	t.Failure = g.ops(depth, wild, readOnly)
	return t
}

// ops makes one branch. Unless wild, it tries to put no key twice.
func (g *Generator) ops(depth int, wild, readOnly bool) (ops []*pb.RequestOp) {
	used := map[string]bool{}
	for range pick(g, 0, 1, 1, 2, 3, 4) {
		switch n := g.rng.IntN(20); {
		case readOnly || n < 7:
			r := g.rangeRequest(wild)
			if g.chance(0.05) {
				r.Revision = g.revision()
			}
			ops = append(ops, rangeOp(r))
		case n < 14:
			put := g.putRequest(wild)
			if used[string(put.Key)] && !wild {
				continue
			}
			used[string(put.Key)] = true
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
		case n < 17:
			del := g.deleteRequest()
			if len(del.Key) == 0 && !wild {
				continue
			}
			if !wild {
				if used[string(del.Key)] {
					continue
				}
				used[string(del.Key)] = true
			}
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}})
		case n < 19 && depth > 0:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth-1, wild)}})
		case wild && g.chance(0.3):
			ops = append(ops, &pb.RequestOp{})
		}
	}
	return ops
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

// compare makes a condition, true about as often as not.
func (g *Generator) compare(wild bool) *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.rng.IntN(4)), Target: pb.Compare_CompareTarget(g.rng.IntN(5))}
	if g.chance(0.25) {
		c.Key, c.RangeEnd = g.interval(wild)
	}
	near := func() int64 { return max(0, g.run.revision-g.rng.Int64N(60)) }
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: pick(g, int64(0), 0, 1, 2, 3, -1)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: pick(g, 0, near(), near())}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: pick(g, 0, near(), near())}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: pick(g, 0, g.attachable(false))}
	}
	if g.chance(0.05) {
		c.TargetUnion = nil
	}
	if wild && g.chance(0.1) {
		c.Result = pick(g, pb.Compare_CompareResult(4), -1)
	}
	if wild && g.chance(0.1) {
		c.Target = pick(g, pb.Compare_CompareTarget(5), -1)
	}
	if wild && g.chance(0.05) {
		c.Key = nil
	}
	return c
}

// txnOpsMax is the default of max-txn-ops.
const txnOpsMax = 128

// wideTxn is about as wide as allowed, in one of its three lists, alone or together with a nested one.
func (g *Generator) wideTxn() *pb.TxnRequest {
	n := txnOpsMax - 2 + g.rng.IntN(4)
	t := &pb.TxnRequest{}
	reads := func(n int) (ops []*pb.RequestOp) {
		for range n {
			ops = append(ops, rangeOp(&pb.RangeRequest{Key: g.key(), CountOnly: true}))
		}
		return ops
	}
	switch g.rng.IntN(4) {
	case 0:
		for range n {
			t.Compare = append(t.Compare, g.compare(false))
		}
	case 1:
		t.Success, t.Failure = reads(n), reads(1)
	case 2:
		t.Success, t.Failure = reads(1), reads(n)
	case 3:
		inner := &pb.TxnRequest{Success: reads(n / 2)}
		t.Success = append(reads(n-n/2-1), &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}})
	}
	return t
}

// undecided reports whether the specification leaves open if the transaction has duplicate keys: some put is under a
// delete that has an open end or is in a nested transaction.
func undecided(t *pb.TxnRequest) bool {
	var w writes
	w.gather(t, 0)
	for _, put := range w.puts {
		for _, d := range w.deletes {
			if covers(d, put) {
				return true
			}
		}
	}
	return false
}

// writes are the puts of a transaction at all depths, and those deletes whose overlap with them is not simply refused.
type writes struct {
	puts    [][]byte
	deletes []*pb.DeleteRangeRequest
}

func (w *writes) gather(t *pb.TxnRequest, depth int) {
	for _, op := range append(append([]*pb.RequestOp{}, t.Success...), t.Failure...) {
		if put := op.GetRequestPut(); put != nil {
			w.puts = append(w.puts, put.Key)
		}
		if d := op.GetRequestDeleteRange(); d != nil && (depth > 0 || string(d.RangeEnd) == "\x00") {
			w.deletes = append(w.deletes, d)
		}
		if inner := op.GetRequestTxn(); inner != nil {
			w.gather(inner, depth+1)
		}
	}
}

// covers reports whether a delete removes the key.
func covers(d *pb.DeleteRangeRequest, key []byte) bool {
	k, start, end := string(key), string(d.Key), string(d.RangeEnd)
	switch end {
	case "":
		return k == start
	case "\x00":
		return k >= start
	}
	return start <= k && k < end
}
