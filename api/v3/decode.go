package v3

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The requests that come by the thousand are decoded here, and share the memory of what they are decoded from. What is unusual
// in them (a field that is not known, a number where bytes belong) is left to the library, as are all other messages.

// UnmarshalKept implements rpc.Keeper.
func (c codec) UnmarshalKept(b []byte, into any) error {
	switch m := into.(type) {
	case *pb.RangeRequest:
		if decodeRange(m, b) {
			return nil
		}
	case *pb.PutRequest:
		if decodePut(m, b) {
			return nil
		}
	}
	return c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, into)
}

// field is one field of a message: a number, or bytes.
type field struct {
	number protowire.Number
	bytes  []byte // aliases the message; nil: it is a number, or empty
	value  uint64
	isNum  bool
}

// nextField takes a field off b; ok is false for what is left to the library.
func nextField(b []byte) (f field, rest []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, false
	}
	f.number, b = number, b[n:]
	switch kind {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b)
		f.isNum = true
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
		if len(f.bytes) == 0 {
			f.bytes = nil
		}
		f.bytes = f.bytes[:len(f.bytes):len(f.bytes)]
	default:
		return f, nil, false
	}
	if n < 0 {
		return f, nil, false
	}
	return f, b[n:], true
}

// eachField calls set with the fields of a message of which the first two are bytes and all others numbers, until it returns false.
func eachField(b []byte, set func(f field) bool) bool {
	for len(b) > 0 {
		f, rest, ok := nextField(b)
		if !ok || f.isNum == (f.number <= 2) || !set(f) {
			return false
		}
		b = rest
	}
	return true
}

func decodeRange(m *pb.RangeRequest, b []byte) bool {
	return eachField(b, func(f field) bool {
		switch f.number {
		case 1:
			m.Key = f.bytes
		case 2:
			m.RangeEnd = f.bytes
		case 3:
			m.Limit = int64(f.value)
		case 4:
			m.Revision = int64(f.value)
		case 5:
			m.SortOrder = pb.RangeRequest_SortOrder(f.value)
		case 6:
			m.SortTarget = pb.RangeRequest_SortTarget(f.value)
		case 7:
			m.Serializable = f.value != 0
		case 8:
			m.KeysOnly = f.value != 0
		case 9:
			m.CountOnly = f.value != 0
		case 10:
			m.MinModRevision = int64(f.value)
		case 11:
			m.MaxModRevision = int64(f.value)
		case 12:
			m.MinCreateRevision = int64(f.value)
		case 13:
			m.MaxCreateRevision = int64(f.value)
		default:
			return false
		}
		return true
	})
}

func decodePut(m *pb.PutRequest, b []byte) bool {
	return eachField(b, func(f field) bool {
		switch f.number {
		case 1:
			m.Key = f.bytes
		case 2:
			m.Value = f.bytes
		case 3:
			m.Lease = int64(f.value)
		case 4:
			m.PrevKv = f.value != 0
		case 5:
			m.IgnoreValue = f.value != 0
		case 6:
			m.IgnoreLease = f.value != 0
		default:
			return false
		}
		return true
	})
}
