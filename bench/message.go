package bench

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Paths of the methods in use.
const (
	pathPut       = "/etcdserverpb.KV/Put"
	pathRange     = "/etcdserverpb.KV/Range"
	pathTxn       = "/etcdserverpb.KV/Txn"
	pathGrant     = "/etcdserverpb.Lease/LeaseGrant"
	pathKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive"
	pathWatch     = "/etcdserverpb.Watch/Watch"

	pathAuthenticate = "/etcdserverpb.Auth/Authenticate"
)

// The messages, by hand: field numbers are those of etcd's rpc.proto. Each function appends one message to b.

func appendBytesField(b []byte, number protowire.Number, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
}

func appendIntField(b []byte, number protowire.Number, value int64) []byte {
	if value == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(value))
}

func appendBoolField(b []byte, number protowire.Number, value bool) []byte {
	if !value {
		return b
	}
	return appendIntField(b, number, 1)
}

// appendPut appends a PutRequest: key 1, value 2, lease 3, prev_kv 4.
func appendPut(b, key, value []byte, lease int64, prevKV bool) []byte {
	b = appendBytesField(b, 1, key)
	b = appendBytesField(b, 2, value)
	b = appendIntField(b, 3, lease)
	return appendBoolField(b, 4, prevKV)
}

// rangeQuery is a RangeRequest: key 1, range_end 2, limit 3, revision 4, serializable 7, keys_only 8, count_only 9.
type rangeQuery struct {
	key, end     []byte
	limit        int64
	revision     int64
	serializable bool
	keysOnly     bool
	countOnly    bool
}

func appendRange(b []byte, q rangeQuery) []byte {
	b = appendBytesField(b, 1, q.key)
	b = appendBytesField(b, 2, q.end)
	b = appendIntField(b, 3, q.limit)
	b = appendIntField(b, 4, q.revision)
	b = appendBoolField(b, 7, q.serializable)
	b = appendBoolField(b, 8, q.keysOnly)
	return appendBoolField(b, 9, q.countOnly)
}

// appendTxn appends a TxnRequest (compare 1, success 2) that puts a key on the condition that its version (Compare:
// result 1, target 2, key 3, version 4) is greater than -1, which it is. put is an encoded PutRequest, scratch is
// reused.
func appendTxn(b, key, put []byte, scratch *[]byte) []byte {
	const resultGreater = 1
	s := appendIntField((*scratch)[:0], 1, resultGreater)
	s = appendBytesField(s, 3, key)
	s = appendIntField(s, 4, -1)
	b = appendBytesField(b, 1, s)
	s = appendBytesField(s[:0], 2, put) // RequestOp: request_put 2
	*scratch = s
	return appendBytesField(b, 2, s)
}

// appendGrant appends a LeaseGrantRequest: TTL 1, ID 2.
func appendGrant(b []byte, ttlSeconds, id int64) []byte {
	return appendIntField(appendIntField(b, 1, ttlSeconds), 2, id)
}

// appendKeepAlive appends a LeaseKeepAliveRequest: ID 1.
func appendKeepAlive(b []byte, id int64) []byte { return appendIntField(b, 1, id) }

// appendWatchCreate appends a WatchRequest with a create_request (1): key 1, range_end 2, prev_kv 6.
func appendWatchCreate(b, key, end []byte, prevKV bool) []byte {
	var create []byte
	create = appendBytesField(create, 1, key)
	create = appendBytesField(create, 2, end)
	create = appendBoolField(create, 6, prevKV)
	return appendBytesField(b, 1, create)
}

// watchResponse is what matters of a WatchResponse: created 3, canceled 4, the number of events (11).
type watchResponse struct {
	created, canceled bool
	events            int
}

// parseWatchResponse reads a WatchResponse.
//
// Errors: it is not one.
func parseWatchResponse(b []byte) (r watchResponse, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, fmt.Errorf("bench: watch response: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if kind == protowire.VarintType && (number == 3 || number == 4) {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return r, fmt.Errorf("bench: watch response: %w", protowire.ParseError(n))
			}
			b = b[n:]
			if number == 3 {
				r.created = v != 0
			} else {
				r.canceled = v != 0
			}
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return r, fmt.Errorf("bench: watch response: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if number == 11 && kind == protowire.BytesType {
			r.events++
		}
	}
	return r, nil
}

// parseKeepAliveTTL returns the TTL (3) of a LeaseKeepAliveResponse, 0 if the lease was not found.
//
// Errors: it is not one.
func parseKeepAliveTTL(b []byte) (ttlSeconds int64, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, fmt.Errorf("bench: keep-alive response: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if number == 3 && kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return 0, fmt.Errorf("bench: keep-alive response: %w", protowire.ParseError(n))
			}
			return int64(v), nil
		}
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return 0, fmt.Errorf("bench: keep-alive response: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	return 0, nil
}

// prefixEnd returns the end of the range of keys that begin with prefix: the prefix with its last byte raised. A prefix
// of nothing but 0xff has no end, for which the API has "\x00".
func prefixEnd(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}
