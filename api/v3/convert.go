package v3

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

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
