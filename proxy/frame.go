package proxy

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that other messages use
	"google.golang.org/grpc/mem"
)

// frame is a message that is sent as it is: bytes, which several frames may share, and behind them tail.
type frame struct {
	bytes, tail []byte
	pushed      bool // see replies
}

// codec passes frames as they are, and encodes everything else as usual.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		slice := mem.BufferSlice{mem.SliceBuffer(f.bytes)}
		if len(f.tail) > 0 {
			slice = append(slice, mem.SliceBuffer(f.tail))
		}
		return slice, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.bytes = data.Materialize()
		return nil
	}
	if err := c.CodecV2.Unmarshal(data, v); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	return nil
}
