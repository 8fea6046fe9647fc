package command

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed is in every error about bytes that are not what this package wrote. Within the log it means damage, or
// a writer newer than this reader: the member must not go on.
var ErrMalformed = errors.New("malformed command")

// txnDepthMax bounds the nesting of transactions, against bytes made to overflow the stack. The API's own limit on
// operations is far below it.
const txnDepthMax = 4096

// Decode reads one command. The result aliases b.
func Decode(b []byte) (Command, error) {
	var c Command
	err := fields(b, func(n protowire.Number, v value) error {
		switch n {
		case fieldTime:
			c.Time = v.int()
		case fieldUser:
			c.User = string(v.bytes)
		case fieldAuthRevision:
			c.AuthRevision = uint64(v.int())
		default:
			if c.Op != nil {
				return fmt.Errorf("%w: two ops", ErrMalformed)
			}
			op, err := decodeOp(n-opField, v, 0)
			c.Op = op
			return err
		}
		return nil
	})
	if err == nil && c.Op == nil {
		err = fmt.Errorf("%w: no op", ErrMalformed)
	}
	return c, err
}

// value is one field's content: a number or bytes.
type value struct {
	number uint64
	bytes  []byte
}

func (v value) int() int64   { return int64(v.number) }
func (v value) bool() bool   { return v.number != 0 }
func (v value) int32() int32 { return int32(min(max(v.int(), math.MinInt32), math.MaxInt32)) }

// fields calls f for each field of a message. Only varint and length-prefixed fields exist.
func fields(b []byte, f func(protowire.Number, value) error) error {
	for len(b) > 0 {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return fmt.Errorf("%w: %v", ErrMalformed, protowire.ParseError(k))
		}
		b = b[k:]
		var v value
		switch t {
		case protowire.VarintType:
			v.number, k = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.bytes, k = protowire.ConsumeBytes(b)
		default:
			return fmt.Errorf("%w: field %d of wire type %d", ErrMalformed, n, t)
		}
		if k < 0 {
			return fmt.Errorf("%w: field %d: %v", ErrMalformed, n, protowire.ParseError(k))
		}
		b = b[k:]
		if err := f(n, v); err != nil {
			return err
		}
	}
	return nil
}

func unknown(what string, n protowire.Number) error {
	return fmt.Errorf("%w: unknown field %d of %s", ErrMalformed, n, what)
}

func decodeOp(k protowire.Number, v value, depth int) (Op, error) {
	switch kind(k) {
	case kindRange:
		return decodeRange(v.bytes)
	case kindPut:
		return decodePut(v.bytes)
	case kindDeleteRange:
		return decodeDeleteRange(v.bytes)
	case kindTxn:
		return decodeTxn(v.bytes, depth+1)
	}
	if depth > 0 {
		return nil, fmt.Errorf("%w: op %d in a txn", ErrMalformed, k)
	}
	switch kind(k) {
	case kindCompact:
		o := &Compact{}
		return o, numbers(v.bytes, "compact", &o.Revision)
	case kindLeaseGrant:
		o := &LeaseGrant{}
		return o, numbers(v.bytes, "lease grant", &o.ID, &o.TTLSeconds)
	case kindLeaseRevoke:
		var term int64
		o := &LeaseRevoke{}
		err := numbers(v.bytes, "lease revoke", &o.ID, &term)
		o.Term = uint64(term)
		return o, err
	case kindLeaseCheckpoint:
		return decodeLeaseCheckpoint(v.bytes)
	case kindMemberPublish:
		return decodeMemberPublish(v.bytes)
	case kindClusterVersion:
		return decodeClusterVersion(v.bytes)
	case kindHashCheck:
		var index, hash, from int64
		err := numbers(v.bytes, "hash check", &index, &hash, &from)
		return &HashCheck{Index: uint64(index), Hash: uint64(hash), From: uint64(from)}, err
	case kindAlarm:
		var member, typ, raise int64
		err := numbers(v.bytes, "alarm", &member, &typ, &raise)
		return &Alarm{Member: uint64(member), Type: int32(typ), Raise: raise != 0}, err
	case kindNoop:
		return &Noop{}, numbers(v.bytes, "noop")
	}
	return nil, fmt.Errorf("%w: op %d", ErrMalformed, k)
}

// numbers decodes a message whose fields 1, 2, ... are all numbers.
func numbers(b []byte, what string, into ...*int64) error {
	return fields(b, func(n protowire.Number, v value) error {
		if int(n) > len(into) || v.bytes != nil {
			return unknown(what, n)
		}
		*into[n-1] = v.int()
		return nil
	})
}

func decodeRange(b []byte) (*Range, error) {
	o := &Range{}
	return o, fields(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			o.Key = v.bytes
		case 2:
			o.End = v.bytes
		case 3:
			o.Limit = v.int()
		case 4:
			o.Revision = v.int()
		case 5:
			o.SortOrder = v.int32()
		case 6:
			o.SortTarget = v.int32()
		case 7:
			o.KeysOnly = v.bool()
		case 8:
			o.CountOnly = v.bool()
		case 9:
			o.ModRevisionMin = v.int()
		case 10:
			o.ModRevisionMax = v.int()
		case 11:
			o.CreateRevisionMin = v.int()
		case 12:
			o.CreateRevisionMax = v.int()
		default:
			return unknown("range", n)
		}
		return nil
	})
}

func decodePut(b []byte) (*Put, error) {
	o := &Put{}
	return o, fields(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			o.Key = v.bytes
		case 2:
			o.Value = v.bytes
		case 3:
			o.Lease = v.int()
		case 4:
			o.PrevKV = v.bool()
		case 5:
			o.IgnoreValue = v.bool()
		case 6:
			o.IgnoreLease = v.bool()
		default:
			return unknown("put", n)
		}
		return nil
	})
}

func decodeDeleteRange(b []byte) (*DeleteRange, error) {
	o := &DeleteRange{}
	return o, fields(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			o.Key = v.bytes
		case 2:
			o.End = v.bytes
		case 3:
			o.PrevKV = v.bool()
		default:
			return unknown("delete range", n)
		}
		return nil
	})
}

func decodeTxn(b []byte, depth int) (*Txn, error) {
	if depth > txnDepthMax {
		return nil, fmt.Errorf("%w: txn nested more than %d deep", ErrMalformed, txnDepthMax)
	}
	o := &Txn{}
	return o, fields(b, func(n protowire.Number, v value) error {
		switch {
		case n == txnCompareField:
			c, err := decodeCompare(v.bytes)
			o.Compares = append(o.Compares, c)
			return err
		case n > txnSuccessField && n < txnFailureField:
			op, err := decodeOp(n-txnSuccessField, v, depth)
			o.Success = append(o.Success, op)
			return err
		case n > txnFailureField:
			op, err := decodeOp(n-txnFailureField, v, depth)
			o.Failure = append(o.Failure, op)
			return err
		}
		return unknown("txn", n)
	})
}

func decodeCompare(b []byte) (Compare, error) {
	var c Compare
	err := fields(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			c.Key = v.bytes
		case 2:
			c.End = v.bytes
		case 3:
			c.Target = v.int32()
		case 4:
			c.Result = v.int32()
		case 5:
			c.Number = v.int()
		case 6:
			c.Value = v.bytes
		default:
			return unknown("compare", n)
		}
		return nil
	})
	return c, err
}

func decodeLeaseCheckpoint(b []byte) (*LeaseCheckpoint, error) {
	o := &LeaseCheckpoint{}
	return o, fields(b, func(n protowire.Number, v value) error {
		if n != 1 {
			return unknown("lease checkpoint", n)
		}
		var l LeaseRemaining
		err := numbers(v.bytes, "lease checkpoint", &l.ID, &l.RemainingSeconds)
		o.Leases = append(o.Leases, l)
		return err
	})
}

func decodeMemberPublish(b []byte) (*MemberPublish, error) {
	o := &MemberPublish{}
	return o, fields(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			o.ID = uint64(v.int())
		case 2:
			o.Name = string(v.bytes)
		case 3:
			o.ClientURLs = append(o.ClientURLs, string(v.bytes))
		default:
			return unknown("member publish", n)
		}
		return nil
	})
}

func decodeClusterVersion(b []byte) (*ClusterVersion, error) {
	o := &ClusterVersion{}
	return o, fields(b, func(n protowire.Number, v value) error {
		if n != 1 {
			return unknown("cluster version", n)
		}
		o.Version = string(v.bytes)
		return nil
	})
}
