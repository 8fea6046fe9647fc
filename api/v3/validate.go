package v3

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// txnDepthMax bounds the nesting of transactions whatever MaxTxnOps says: what goes into the log must stay readable.
const txnDepthMax = 1024

func checkRange(r *pb.RangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if o := r.SortOrder; o < pb.RangeRequest_NONE || o > pb.RangeRequest_DESCEND {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	if t := r.SortTarget; t < pb.RangeRequest_KEY || t > pb.RangeRequest_VALUE {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

// checkRangeStream holds a range against what RangeStream leaves out, after checkRange.
func checkRangeStream(r *pb.RangeRequest) error {
	switch {
	case r.SortOrder != pb.RangeRequest_NONE && (r.SortOrder != pb.RangeRequest_ASCEND || r.SortTarget != pb.RangeRequest_KEY):
		return errStreamSort
	case r.MinModRevision|r.MaxModRevision|r.MinCreateRevision|r.MaxCreateRevision != 0:
		return errStreamFilter
	}
	return nil
}

func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

func checkDeleteRange(r *pb.DeleteRangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// checkTxn checks the shape of a transaction: number of operations, each operation, and overlaps, in this order.
func checkTxn(r *pb.TxnRequest, opsMax int) error {
	if err := checkTxnOps(r, opsMax, 1); err != nil {
		return err
	}
	return checkOverlaps(r)
}

// checkTxnOps checks a transaction and those nested in it. opsMax is what the transactions around it have left over of
// the limit: width and depth share it.
func checkTxnOps(r *pb.TxnRequest, opsMax, depth int) error {
	ops := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if ops > opsMax || depth > txnDepthMax {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.GetKey()) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, op := range r.GetSuccess() {
		if err := checkOp(op, opsMax-ops, depth); err != nil {
			return err
		}
	}
	for _, op := range r.GetFailure() {
		if err := checkOp(op, opsMax-ops, depth); err != nil {
			return err
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, opsMax, depth int) error {
	switch o := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(o.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(o.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDeleteRange(o.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkTxnOps(o.RequestTxn, opsMax, depth+1)
	}
	return rpctypes.ErrGRPCKeyNotFound // etcd's word for an operation that isn't there
}
