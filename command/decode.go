package command

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// txnDepthMax bounds the nesting of transactions, against bytes made to overflow the stack. The API's own limit on
// operations is far below it.
const txnDepthMax = 4096

// Decode reads one command. The result aliases b.
func Decode(b []byte) (Command, error) {
	var c Command
	f := fields{rest: b, what: "command"}
	for f.next() {
		switch f.n {
		case fieldTime:
			c.Time = f.asInt()
		case fieldUser:
			c.User = f.asString()
		case fieldAuthRevision:
			c.AuthRevision = f.asUint()
		default:
			if c.Op != nil {
				f.fail("two ops")
				break
			}
			op, err := decodeOp(f.n-opField, &f, 0)
			if err != nil {
				return Command{}, err
			}
			c.Op = op
		}
	}
	if f.err == nil && c.Op == nil {
		f.fail("no op")
	}
	if f.err != nil {
		return Command{}, f.err
	}
	return c, nil
}

// decodeOp reads an op of kind k from the field that f stands on, in a transaction nested depth deep.
func decodeOp(k protowire.Number, f *fields, depth int) (Op, error) {
	b := f.asBytes()
	if f.err != nil {
		return nil, f.err
	}
	switch k {
	case protowire.Number(kindRange):
		return decodeRange(b)
	case protowire.Number(kindPut):
		return decodePut(b)
	case protowire.Number(kindDeleteRange):
		return decodeDeleteRange(b)
	case protowire.Number(kindTxn):
		return decodeTxn(b, depth+1)
	}
	if depth > 0 {
		return nil, fmt.Errorf("%w: op %d in a txn", ErrMalformed, k)
	}
	if isTree(k) {
		return decodeTree(kind(k), b)
	}
	switch k {
	case protowire.Number(kindCompact):
		return decodeCompact(b)
	case protowire.Number(kindLeaseGrant):
		return decodeLeaseGrant(b)
	case protowire.Number(kindLeaseRevoke):
		return decodeLeaseRevoke(b)
	case protowire.Number(kindLeaseCheckpoint):
		return decodeLeaseCheckpoint(b)
	case protowire.Number(kindMemberPublish):
		return decodeMemberPublish(b)
	case protowire.Number(kindClusterVersion):
		return decodeClusterVersion(b)
	case protowire.Number(kindHashCheck):
		return decodeHashCheck(b)
	case protowire.Number(kindAlarm):
		return decodeAlarm(b)
	case protowire.Number(kindNoop):
		return decodeNoop(b)
	case protowire.Number(kindMemberAdd):
		return decodeMemberAdd(b)
	case protowire.Number(kindMemberRemove):
		return decodeMemberRemove(b)
	case protowire.Number(kindMemberUpdate):
		return decodeMemberUpdate(b)
	case protowire.Number(kindMemberPromote):
		return decodeMemberPromote(b)
	case protowire.Number(kindDowngrade):
		return decodeDowngrade(b)
	}
	if k <= math.MaxUint8 {
		if op, known, err := decodeAuth(kind(k), b); known {
			return op, err
		}
	}
	return nil, fmt.Errorf("%w: op %d", ErrMalformed, k)
}

func decodeRange(b []byte) (*Range, error) {
	o := &Range{}
	f := fields{rest: b, what: "range"}
	for f.next() {
		switch f.n {
		case 1:
			o.Key = f.asBytes()
		case 2:
			o.End = f.asBytes()
		case 3:
			o.Limit = f.asInt()
		case 4:
			o.Revision = f.asInt()
		case 5:
			o.SortOrder = f.asInt32()
		case 6:
			o.SortTarget = f.asInt32()
		case 7:
			o.KeysOnly = f.asBool()
		case 8:
			o.CountOnly = f.asBool()
		case 9:
			o.ModRevisionMin = f.asInt()
		case 10:
			o.ModRevisionMax = f.asInt()
		case 11:
			o.CreateRevisionMin = f.asInt()
		case 12:
			o.CreateRevisionMax = f.asInt()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodePut(b []byte) (*Put, error) {
	o := &Put{}
	f := fields{rest: b, what: "put"}
	for f.next() {
		switch f.n {
		case 1:
			o.Key = f.asBytes()
		case 2:
			o.Value = f.asBytes()
		case 3:
			o.Lease = f.asInt()
		case 4:
			o.PrevKV = f.asBool()
		case 5:
			o.IgnoreValue = f.asBool()
		case 6:
			o.IgnoreLease = f.asBool()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeDeleteRange(b []byte) (*DeleteRange, error) {
	o := &DeleteRange{}
	f := fields{rest: b, what: "delete range"}
	for f.next() {
		switch f.n {
		case 1:
			o.Key = f.asBytes()
		case 2:
			o.End = f.asBytes()
		case 3:
			o.PrevKV = f.asBool()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeTxn(b []byte, depth int) (*Txn, error) {
	if depth > txnDepthMax {
		return nil, fmt.Errorf("%w: txn nested more than %d deep", ErrMalformed, txnDepthMax)
	}
	o := &Txn{}
	f := fields{rest: b, what: "txn"}
	for f.next() {
		switch {
		case f.n == txnCompareField:
			c, err := decodeCompare(f.asBytes())
			if err != nil {
				return nil, err
			}
			o.Compares = append(o.Compares, c)
		case f.n > txnFailureField:
			op, err := decodeOp(f.n-txnFailureField, &f, depth)
			if err != nil {
				return nil, err
			}
			o.Failure = append(o.Failure, op)
		case f.n > txnSuccessField && f.n < txnFailureField:
			op, err := decodeOp(f.n-txnSuccessField, &f, depth)
			if err != nil {
				return nil, err
			}
			o.Success = append(o.Success, op)
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeCompare(b []byte) (Compare, error) {
	var c Compare
	f := fields{rest: b, what: "compare"}
	for f.next() {
		switch f.n {
		case 1:
			c.Key = f.asBytes()
		case 2:
			c.End = f.asBytes()
		case 3:
			c.Target = f.asInt32()
		case 4:
			c.Result = f.asInt32()
		case 5:
			c.Number = f.asInt()
		case 6:
			c.Value = f.asBytes()
		default:
			f.unknown()
		}
	}
	return c, f.err
}

func decodeCompact(b []byte) (*Compact, error) {
	o := &Compact{}
	f := fields{rest: b, what: "compact"}
	for f.next() {
		switch f.n {
		case 1:
			o.Revision = f.asInt()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeLeaseGrant(b []byte) (*LeaseGrant, error) {
	o := &LeaseGrant{}
	f := fields{rest: b, what: "lease grant"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asInt()
		case 2:
			o.TTLSeconds = f.asInt()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeLeaseRevoke(b []byte) (*LeaseRevoke, error) {
	o := &LeaseRevoke{}
	f := fields{rest: b, what: "lease revoke"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asInt()
		case 2:
			o.Term = f.asUint()
		case 3:
			o.GrantIndex = f.asUint()
		case 4:
			o.GrantOrdinal = f.asUint32()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeLeaseCheckpoint(b []byte) (*LeaseCheckpoint, error) {
	o := &LeaseCheckpoint{}
	f := fields{rest: b, what: "lease checkpoint"}
	for f.next() {
		switch f.n {
		case 1:
			l, err := decodeLeaseRemaining(f.asBytes())
			if err != nil {
				return nil, err
			}
			o.Leases = append(o.Leases, l)
		case 2:
			o.Term = f.asUint()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeLeaseRemaining(b []byte) (LeaseRemaining, error) {
	var l LeaseRemaining
	f := fields{rest: b, what: "lease of a checkpoint"}
	for f.next() {
		switch f.n {
		case 1:
			l.ID = f.asInt()
		case 2:
			l.RemainingSeconds = f.asInt()
		case 3:
			l.GrantIndex = f.asUint()
		case 4:
			l.GrantOrdinal = f.asUint32()
		case 5:
			l.CheckpointIndex = f.asUint()
		default:
			f.unknown()
		}
	}
	return l, f.err
}

func decodeMemberPublish(b []byte) (*MemberPublish, error) {
	o := &MemberPublish{}
	f := fields{rest: b, what: "member publish"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asUint()
		case 2:
			o.Name = f.asString()
		case 3:
			o.ClientURLs = append(o.ClientURLs, f.asString())
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeMemberAdd(b []byte) (*MemberAdd, error) {
	o := &MemberAdd{}
	f := fields{rest: b, what: "member add"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asUint()
		case 2:
			o.PeerURLs = append(o.PeerURLs, f.asString())
		case 3:
			o.IsLearner = f.asBool()
		case 4:
			o.LearnersMax = f.asInt()
		case 5:
			o.AutoPromote = f.asBool()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeMemberRemove(b []byte) (*MemberRemove, error) {
	o := &MemberRemove{}
	f := fields{rest: b, what: "member remove"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asUint()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeMemberUpdate(b []byte) (*MemberUpdate, error) {
	o := &MemberUpdate{}
	f := fields{rest: b, what: "member update"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asUint()
		case 2:
			o.PeerURLs = append(o.PeerURLs, f.asString())
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeMemberPromote(b []byte) (*MemberPromote, error) {
	o := &MemberPromote{}
	f := fields{rest: b, what: "member promote"}
	for f.next() {
		switch f.n {
		case 1:
			o.ID = f.asUint()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeClusterVersion(b []byte) (*ClusterVersion, error) {
	o := &ClusterVersion{}
	f := fields{rest: b, what: "cluster version"}
	for f.next() {
		switch f.n {
		case 1:
			o.Version = f.asString()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeDowngrade(b []byte) (*Downgrade, error) {
	o := &Downgrade{}
	f := fields{rest: b, what: "downgrade"}
	for f.next() {
		switch f.n {
		case 1:
			o.Target = f.asString()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeHashCheck(b []byte) (*HashCheck, error) {
	o := &HashCheck{}
	f := fields{rest: b, what: "hash check"}
	for f.next() {
		switch f.n {
		case 1:
			o.Index = f.asUint()
		case 2:
			o.Hash = f.asUint()
		case 3:
			o.From = f.asUint()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeAlarm(b []byte) (*Alarm, error) {
	o := &Alarm{}
	f := fields{rest: b, what: "alarm"}
	for f.next() {
		switch f.n {
		case 1:
			o.Member = f.asUint()
		case 2:
			o.Type = f.asInt32()
		case 3:
			o.Raise = f.asBool()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeNoop(b []byte) (*Noop, error) {
	f := fields{rest: b, what: "noop"}
	for f.next() {
		f.unknown()
	}
	return &Noop{}, f.err
}
