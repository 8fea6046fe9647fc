package v3

import (
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"

	"keelson/state/mvcc"
)

// Writing protobuf by hand. Each size function tells exactly how many bytes the append function of the same name
// writes, so that a reply is allocated once and lengths never have to be moved in. Fields at zero are left out, as
// proto3 has it.

// header is etcdserverpb.ResponseHeader.
type header struct {
	cluster, member uint64
	revision        int64
	term            uint64
}

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// sizeNumber is the size of a number under a field below 16.
func sizeNumber(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + sizeVarint(v)
}

// sizeMessage is the size of a message, or of bytes, of n bytes under a field below 16.
func sizeMessage(n int) int { return 1 + sizeVarint(uint64(n)) + n }

func sizeBytes(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return sizeMessage(len(b))
}

func sizeBool(v bool) int {
	if v {
		return 2
	}
	return 0
}

func appendNumber(dst []byte, field byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(append(dst, field<<3), v)
}

func appendBool(dst []byte, field byte, v bool) []byte {
	if !v {
		return dst
	}
	return append(dst, field<<3, 1)
}

func appendBytes(dst []byte, field byte, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return append(appendLength(dst, field, len(b)), b...)
}

// appendLength writes the tag and the length in front of a message of n bytes.
func appendLength(dst []byte, field byte, n int) []byte {
	return protowire.AppendVarint(append(dst, field<<3|2), uint64(n))
}

func (h *header) size() int {
	return sizeNumber(h.cluster) + sizeNumber(h.member) + sizeNumber(uint64(h.revision)) + sizeNumber(h.term)
}

func (h *header) append(dst []byte) []byte {
	dst = appendNumber(dst, 1, h.cluster)
	dst = appendNumber(dst, 2, h.member)
	dst = appendNumber(dst, 3, uint64(h.revision))
	return appendNumber(dst, 4, h.term)
}

// sizeField is the size of the header as field 1 of a reply.
func (h *header) sizeField() int { return sizeMessage(h.size()) }

func (h *header) appendField(dst []byte) []byte {
	return h.append(appendLength(dst, 1, h.size()))
}

func sizeKV(kv *mvcc.KeyValue) int {
	return sizeBytes(kv.Key) + sizeNumber(uint64(kv.CreateRevision)) + sizeNumber(uint64(kv.ModRevision)) +
		sizeNumber(uint64(kv.Version)) + sizeBytes(kv.Value) + sizeNumber(uint64(kv.Lease))
}

// appendKV writes mvccpb.KeyValue.
func appendKV(dst []byte, kv *mvcc.KeyValue) []byte {
	dst = appendBytes(dst, 1, kv.Key)
	dst = appendNumber(dst, 2, uint64(kv.CreateRevision))
	dst = appendNumber(dst, 3, uint64(kv.ModRevision))
	dst = appendNumber(dst, 4, uint64(kv.Version))
	dst = appendBytes(dst, 5, kv.Value)
	return appendNumber(dst, 6, uint64(kv.Lease))
}

func appendKVField(dst []byte, field byte, kv *mvcc.KeyValue) []byte {
	return appendKV(appendLength(dst, field, sizeKV(kv)), kv)
}

func sizeKVs(kvs []mvcc.KeyValue) int {
	n := 0
	for i := range kvs {
		n += sizeMessage(sizeKV(&kvs[i]))
	}
	return n
}

func appendKVs(dst []byte, field byte, kvs []mvcc.KeyValue) []byte {
	for i := range kvs {
		dst = appendKVField(dst, field, &kvs[i])
	}
	return dst
}
