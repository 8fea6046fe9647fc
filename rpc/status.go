package rpc

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const detailsKey = "grpc-status-details-bin"

// statusOf is the status with which a call ends whose handler returned err; nil for nil.
func statusOf(err error) *status.Status {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s
	}
	return status.FromContextError(err)
}

// statusFields are the trailers of a status. Nil is OK.
func statusFields(fields []hpack.HeaderField, s *status.Status, trailer metadata.MD) []hpack.HeaderField {
	add := func(name, value string) { fields = append(fields, hpack.HeaderField{Name: name, Value: value}) }
	add("grpc-status", strconv.Itoa(int(s.Code())))
	if m := s.Message(); m != "" || s.Code() != codes.OK {
		add("grpc-message", encodeMessage(m))
	}
	own := false // the details of a status go before those that a handler wrote by itself
	if s.Code() != codes.OK {
		if p := s.Proto(); len(p.GetDetails()) > 0 {
			if b, err := proto.Marshal(p); err == nil {
				own = true
				add(detailsKey, base64.RawStdEncoding.EncodeToString(b))
			}
		}
	}
	return metadataFields(fields, trailer, own)
}

// metadataFields are a handler's own fields. What belongs to the protocol is not among them.
func metadataFields(fields []hpack.HeaderField, md metadata.MD, withoutDetails bool) []hpack.HeaderField {
	for name, values := range md {
		if isReserved(name) || withoutDetails && name == detailsKey {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(name, binarySuffix) {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			fields = append(fields, hpack.HeaderField{Name: name, Value: v})
		}
	}
	return fields
}

func isReserved(name string) bool {
	switch name {
	case "content-type", "user-agent", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status", "grpc-timeout", "te":
		return true
	}
	return name == "" || name[0] == ':'
}

// validMetadata reports what keeps md from being sent. The texts are grpc-go's.
func validMetadata(md metadata.MD) error {
	for name, values := range md {
		if name == "" {
			return status.Error(codes.Internal, "there is an empty key in the header")
		}
		if name[0] == ':' {
			continue
		}
		for i := range len(name) {
			c := name[i]
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_') {
				return status.Errorf(codes.Internal, "header key %q contains illegal characters not in [0-9a-z-_.]", name)
			}
		}
		if strings.HasSuffix(name, binarySuffix) {
			continue
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				return status.Errorf(codes.Internal, "header key %q contains value with non-printable ASCII characters", name)
			}
		}
	}
	return nil
}

// encodeMessage writes a grpc-message: printable ASCII without %, everything else as %XX; what is no UTF-8 becomes U+FFFD.
func encodeMessage(m string) string {
	plain := func(c byte) bool { return ' ' <= c && c <= '~' && c != '%' }
	i := 0
	for i < len(m) && plain(m[i]) {
		i++
	}
	if i == len(m) {
		return m
	}
	const hex = "0123456789ABCDEF"
	b := append(make([]byte, 0, len(m)+16), m[:i]...)
	for _, r := range m[i:] {
		if r < utf8.RuneSelf && plain(byte(r)) {
			b = append(b, byte(r))
			continue
		}
		for _, c := range utf8.AppendRune(nil, r) {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// responseBlocks encodes the header blocks of a connection's responses. The two fields that every call has go through the
// client's dynamic table, so that they cost one byte from the second call on; nothing else does, so that blocks can be
// written in any order. Guarded by conn.mu, under which they are also put in order.
type responseBlocks struct {
	// Entries in the table, newest first: OK and content type. 0: not there yet. Otherwise the index.
	typeIndex, okIndex byte
	// plain: the client has taken the table away. shrink: and has not been told that nothing is in it.
	plain, shrink bool
}

const (
	dynamicFirst = 62 // the newest entry. RFC 7541, 2.3.3
	statusOK     = 0x88
	nameType     = 31 // content-type in the static table
	indexedBit   = 0x80
	addedBits    = 0x40
)

// limitTable heeds what the client says about its table.
func (e *responseBlocks) limitTable(bytes uint32) {
	if bytes < tableBytes && !e.plain {
		e.plain, e.shrink = true, true
		e.typeIndex, e.okIndex = 0, 0
	}
}

func (e *responseBlocks) begin(b []byte) []byte {
	if e.shrink {
		e.shrink = false
		return append(b, 0x20) // the table's size is 0 from here on
	}
	return b
}

// header appends the block that opens an ordinary response.
func (e *responseBlocks) header(b []byte, contentType string) []byte {
	b = append(e.begin(b), statusOK)
	switch {
	case contentType != contentTypeGRPC:
		return appendLiteral(b, "content-type", contentType)
	case e.typeIndex > 0:
		return append(b, indexedBit|e.typeIndex)
	case e.plain:
		return appendLiteral(b, "content-type", contentType)
	}
	e.typeIndex = dynamicFirst
	if e.okIndex > 0 {
		e.okIndex++
	}
	return appendString(append(b, addedBits|nameType), contentTypeGRPC)
}

// ok appends the block that ends a call without an error or metadata.
func (e *responseBlocks) ok(b []byte) []byte {
	b = e.begin(b)
	switch {
	case e.okIndex > 0:
		return append(b, indexedBit|e.okIndex)
	case e.plain:
		return appendLiteral(b, "grpc-status", "0")
	}
	e.okIndex = dynamicFirst
	if e.typeIndex > 0 {
		e.typeIndex++
	}
	return appendString(appendString(append(b, addedBits), "grpc-status"), "0")
}

// list appends a block of any fields.
func (e *responseBlocks) list(b []byte, fields []hpack.HeaderField) []byte {
	b = e.begin(b)
	for _, f := range fields {
		b = appendLiteral(b, f.Name, f.Value)
	}
	return b
}

// appendLiteral writes a field that does not enter the table.
func appendLiteral(b []byte, name, value string) []byte {
	return appendString(appendString(append(b, 0), name), value)
}

func appendString(b []byte, s string) []byte {
	return append(appendVarint(b, 0, 7, len(s)), s...)
}

// appendVarint writes n behind the high bits of its first byte.
func appendVarint(b []byte, high byte, prefixBits uint, n int) []byte {
	full := 1<<prefixBits - 1
	if n < full {
		return append(b, high|byte(n))
	}
	b = append(b, high|byte(full))
	for n -= full; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// listBytes is the size of fields as RFC 9113, 6.5.2, counts it.
func listBytes(fields []hpack.HeaderField) (n int64) {
	for _, f := range fields {
		n += int64(f.Size())
	}
	return n
}
