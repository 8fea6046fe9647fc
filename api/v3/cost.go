package v3

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/command"
)

// Sizes of requests, for the quota and for the limit on what goes into the log.

const (
	putCostBytes   = 256 // what a pair costs besides its key and value
	leaseCostBytes = 64

	// envelopeBytes stands for what the log adds to a request: its time, user and revision.
	envelopeBytes = 24
	// opBytes stands for an operation's tags, lengths and numbers.
	opBytes = 8
)

// putCost estimates what a put adds to the database, in bytes.
func putCost(r *pb.PutRequest) int64 {
	return putCostBytes + int64(len(r.GetKey())) + int64(len(r.GetValue()))
}

// txnCost estimates what the dearer branch of a transaction adds to the database, in bytes. 0: it puts nothing.
func txnCost(r *pb.TxnRequest) int64 { return max(opsCost(r.GetSuccess()), opsCost(r.GetFailure())) }

func opsCost(ops []*pb.RequestOp) int64 {
	var n int64
	for _, op := range ops {
		switch o := op.GetRequest().(type) {
		case *pb.RequestOp_RequestPut:
			n += putCost(o.RequestPut)
		case *pb.RequestOp_RequestTxn:
			n += txnCost(o.RequestTxn)
		}
	}
	return n
}

// sizeCommand estimates how many bytes op takes in the log, without encoding it. What matters is exact: the bytes that
// the client sent are all counted, so that a value as large as the limit never passes.
func sizeCommand(op command.Op) int64 { return envelopeBytes + sizeOp(op) }

func sizeOp(op command.Op) int64 {
	n := int64(opBytes)
	switch o := op.(type) {
	case *command.Range:
		n += int64(len(o.Key) + len(o.End))
	case *command.Put:
		n += int64(len(o.Key) + len(o.Value))
	case *command.DeleteRange:
		n += int64(len(o.Key) + len(o.End))
	case *command.Txn:
		for i := range o.Compares {
			c := &o.Compares[i]
			n += opBytes + int64(len(c.Key)+len(c.End)+len(c.Value))
		}
		for _, op := range o.Success {
			n += sizeOp(op)
		}
		for _, op := range o.Failure {
			n += sizeOp(op)
		}
	case *command.MemberAdd:
		n += sizeStrings(o.PeerURLs)
	case *command.MemberUpdate:
		n += sizeStrings(o.PeerURLs)
	case *command.UserAdd:
		n += int64(len(o.Name) + len(o.Hash))
	case *command.UserDelete:
		n += int64(len(o.Name))
	case *command.UserChangePassword:
		n += int64(len(o.Name) + len(o.Hash))
	case *command.UserGrantRole:
		n += int64(len(o.Name) + len(o.Role))
	case *command.UserRevokeRole:
		n += int64(len(o.Name) + len(o.Role))
	case *command.RoleAdd:
		n += int64(len(o.Name))
	case *command.RoleDelete:
		n += int64(len(o.Name))
	case *command.RoleGrantPermission:
		n += int64(len(o.Role) + len(o.Key) + len(o.End))
	case *command.RoleRevokePermission:
		n += int64(len(o.Role) + len(o.Key) + len(o.End))
	}
	return n
}

func sizeStrings(list []string) (n int64) {
	for _, s := range list {
		n += opBytes + int64(len(s))
	}
	return n
}
