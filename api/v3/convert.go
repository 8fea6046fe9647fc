package v3

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/command"
)

// From requests to commands. The requests have passed the checks of validate.go; the commands alias their bytes.

func rangeCommand(r *pb.RangeRequest) *command.Range {
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

func putCommand(r *pb.PutRequest) *command.Put {
	return &command.Put{
		Key:         r.Key,
		Value:       r.Value,
		Lease:       r.Lease,
		PrevKV:      r.PrevKv,
		IgnoreValue: r.IgnoreValue,
		IgnoreLease: r.IgnoreLease,
	}
}

func deleteRangeCommand(r *pb.DeleteRangeRequest) *command.DeleteRange {
	return &command.DeleteRange{Key: r.Key, End: r.RangeEnd, PrevKV: r.PrevKv}
}

func txnCommand(r *pb.TxnRequest) *command.Txn {
	t := &command.Txn{Success: opCommands(r.GetSuccess()), Failure: opCommands(r.GetFailure())}
	if n := len(r.GetCompare()); n > 0 {
		t.Compares = make([]command.Compare, n)
	}
	for i, c := range r.GetCompare() {
		t.Compares[i] = compareCommand(c)
	}
	return t
}

func opCommands(ops []*pb.RequestOp) []command.Op {
	if len(ops) == 0 {
		return nil
	}
	cs := make([]command.Op, len(ops))
	for i, op := range ops {
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			cs[i] = rangeCommand(o.RequestRange)
		case *pb.RequestOp_RequestPut:
			cs[i] = putCommand(o.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			cs[i] = deleteRangeCommand(o.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			cs[i] = txnCommand(o.RequestTxn)
		}
	}
	return cs
}

// compareCommand takes the operand that belongs to the target. One given for another target counts as not given: 0 or
// empty.
func compareCommand(c *pb.Compare) command.Compare {
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

// readOnly reports whether a transaction does nothing but read, so that it needs no log. One with another nested in it
// counts as writing.
func readOnly(r *pb.TxnRequest) bool { return onlyRanges(r.GetSuccess()) && onlyRanges(r.GetFailure()) }

func onlyRanges(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op.GetRequestRange() == nil {
			return false
		}
	}
	return true
}

// serializable reports whether a read-only transaction may be answered from what this member has: all its ranges allow it.
func serializable(r *pb.TxnRequest) bool {
	return allSerializable(r.GetSuccess()) && allSerializable(r.GetFailure())
}

func allSerializable(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if !op.GetRequestRange().GetSerializable() {
			return false
		}
	}
	return true
}
