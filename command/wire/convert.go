package wire

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/command"
)

// Range is a range, as it stands alone or in a transaction.
func Range(r *pb.RangeRequest) *command.Range {
	return &command.Range{
		Key:               r.Key,
		End:               r.RangeEnd,
		Limit:             r.Limit,
		Revision:          r.Revision,
		SortOrder:         int32(r.SortOrder),
		SortTarget:        int32(r.SortTarget),
		KeysOnly:          r.KeysOnly,
		CountOnly:         r.CountOnly,
		ModRevisionMin:    r.MinModRevision,
		ModRevisionMax:    r.MaxModRevision,
		CreateRevisionMin: r.MinCreateRevision,
		CreateRevisionMax: r.MaxCreateRevision,
	}
}

// Put is a put.
func Put(r *pb.PutRequest) *command.Put {
	return &command.Put{
		Key:         r.Key,
		Value:       r.Value,
		Lease:       r.Lease,
		PrevKV:      r.PrevKv,
		IgnoreValue: r.IgnoreValue,
		IgnoreLease: r.IgnoreLease,
	}
}

// DeleteRange is a removal.
func DeleteRange(r *pb.DeleteRangeRequest) *command.DeleteRange {
	return &command.DeleteRange{Key: r.Key, End: r.RangeEnd, PrevKV: r.PrevKv}
}

// Txn is a transaction with all that is nested in it.
func Txn(r *pb.TxnRequest) *command.Txn {
	t := &command.Txn{Success: ops(r.GetSuccess()), Failure: ops(r.GetFailure())}
	if n := len(r.GetCompare()); n > 0 {
		t.Compares = make([]command.Compare, n)
	}
	for i, c := range r.GetCompare() {
		t.Compares[i] = Compare(c)
	}
	return t
}

func ops(ops []*pb.RequestOp) []command.Op {
	if len(ops) == 0 {
		return nil
	}
	cs := make([]command.Op, len(ops))
	for i, op := range ops {
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			cs[i] = Range(o.RequestRange)
		case *pb.RequestOp_RequestPut:
			cs[i] = Put(o.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			cs[i] = DeleteRange(o.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			cs[i] = Txn(o.RequestTxn)
		}
	}
	return cs
}

// Compare is a condition of a transaction. It takes the operand that belongs to the target. One given for another target counts as not given: 0 or
// empty.
func Compare(c *pb.Compare) command.Compare {
	to := command.Compare{Key: c.Key, End: c.RangeEnd, Target: int32(c.Target), Result: int32(c.Result)}
	switch c.Target {
	case pb.Compare_VERSION:
		to.Number = c.GetVersion()
	case pb.Compare_CREATE:
		to.Number = c.GetCreateRevision()
	case pb.Compare_MOD:
		to.Number = c.GetModRevision()
	case pb.Compare_LEASE:
		to.Number = c.GetLease()
	case pb.Compare_VALUE:
		to.Value = c.GetValue()
	}
	return to
}
