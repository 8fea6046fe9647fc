package v3

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Codec is what a gRPC server of these services must be forced to use: protobuf, except that replies which the services
// encoded themselves pass through untouched.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*encoded); ok {
		return e.take(), nil
	}
	return c.CodecV2.Marshal(v)
}

// encoded is a reply as its protobuf bytes, in one piece or in many. It is marshalled at most once: its buffers then belong to
// the transport, which frees them when they are sent.
type encoded struct {
	whole  []byte
	pieces mem.BufferSlice
}

// Encoded implements rpc.Encoded.
func (e *encoded) Encoded() []byte { return e.whole }

func (e *encoded) take() mem.BufferSlice {
	p := e.pieces
	if e.whole != nil {
		p = mem.BufferSlice{mem.SliceBuffer(e.whole)}
	}
	e.whole, e.pieces = nil, nil
	return p
}

// free gives back the buffers of a reply that is not going to be sent.
func (e *encoded) free() { e.take().Free() }

// String keeps traces and logs short.
func (e *encoded) String() string { return "encoded reply" }

// encodedBytes makes a reply of one piece that belongs to the caller no more.
func encodedBytes(b []byte) *encoded { return &encoded{whole: b} }
