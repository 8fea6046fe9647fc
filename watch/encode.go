package watch

import (
	"encoding/binary"
	"math/bits"

	"keelson/state/mvcc"
)

// The encoding of one event inside a watch response, as protobuf lays it out (lengths are varints; a scalar field that
// is zero or empty is left out, so a DELETE has no more than its key and mod revision):
//
//	WatchResponse field 11 events  | 0x5a | length | Event ...
//	Event         field 1  type    | 0x08 | 1 (DELETE; PUT is 0)
//	              field 2  kv      | 0x12 | length | KeyValue ...
//	              field 3  prev_kv | 0x1a | length | KeyValue ...
//	KeyValue      field 1  key             | 0x0a | length | bytes
//	              field 2  create_revision | 0x10 | varint
//	              field 3  mod_revision    | 0x18 | varint
//	              field 4  version         | 0x20 | varint
//	              field 5  value           | 0x2a | length | bytes
//	              field 6  lease           | 0x30 | varint
const (
	tagEvents = 11<<3 | 2

	tagEventType   = 1 << 3
	tagEventKV     = 2<<3 | 2
	tagEventPrevKV = 3<<3 | 2

	tagKey            = 1<<3 | 2
	tagCreateRevision = 2 << 3
	tagModRevision    = 3 << 3
	tagVersion        = 4 << 3
	tagValue          = 5<<3 | 2
	tagLease          = 6 << 3
)

// eventSize is the number of bytes appendEvent appends.
func eventSize(ev *mvcc.Event, prev bool) int {
	body := eventBodySize(ev, prev)
	return 1 + uvarintSize(uint64(body)) + body
}

func eventBodySize(ev *mvcc.Event, prev bool) int {
	n := messageSize(pairSize(&ev.KV))
	if ev.Kind == mvcc.Delete {
		n += 2
	}
	if prev && ev.Prev != nil {
		n += messageSize(pairSize(ev.Prev))
	}
	return n
}

// appendEvent appends ev as one element of the response's events, with the pair before it if prev is set and there is
// one.
func appendEvent(b []byte, ev *mvcc.Event, prev bool) []byte {
	b = append(b, tagEvents)
	b = binary.AppendUvarint(b, uint64(eventBodySize(ev, prev)))
	if ev.Kind == mvcc.Delete {
		b = append(b, tagEventType, 1)
	}
	b = appendPair(append(b, tagEventKV), &ev.KV)
	if prev && ev.Prev != nil {
		b = appendPair(append(b, tagEventPrevKV), ev.Prev)
	}
	return b
}

func appendPair(b []byte, kv *mvcc.KeyValue) []byte {
	b = binary.AppendUvarint(b, uint64(pairSize(kv)))
	b = appendBytes(b, tagKey, kv.Key)
	b = appendScalar(b, tagCreateRevision, kv.CreateRevision)
	b = appendScalar(b, tagModRevision, kv.ModRevision)
	b = appendScalar(b, tagVersion, kv.Version)
	b = appendBytes(b, tagValue, kv.Value)
	return appendScalar(b, tagLease, kv.Lease)
}

func pairSize(kv *mvcc.KeyValue) int {
	return bytesSize(kv.Key) + scalarSize(kv.CreateRevision) + scalarSize(kv.ModRevision) + scalarSize(kv.Version) +
		bytesSize(kv.Value) + scalarSize(kv.Lease)
}

func appendBytes(b []byte, tag byte, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

func appendScalar(b []byte, tag byte, v int64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, tag), uint64(v))
}

func bytesSize(v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return messageSize(len(v))
}

func scalarSize(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + uvarintSize(uint64(v))
}

func messageSize(n int) int { return 1 + uvarintSize(uint64(n)) + n }

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// eventEnd is where the first event of encoded events ends. The bytes come from appendEvent.
func eventEnd(b []byte) int {
	n, k := binary.Uvarint(b[1:])
	return 1 + k + int(n)
}
