package rpc

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // registers it
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// acceptedEncodings is what clients are told to use instead of an encoding that is not known.
var acceptedEncodings = sync.OnceValue(func() string {
	list := []string{encoding.Identity}
	for _, name := range []string{"gzip"} {
		if encoding.GetCompressor(name) != nil {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
})

// unknownEncoding refuses a call whose messages can't be read.
func unknownEncoding(name string) *refusal {
	return &refusal{http.StatusOK, status.Newf(codes.Unimplemented, "grpc: Decompressor is not installed for grpc-encoding %q", name)}
}

// decompress returns at most max bytes. The texts are grpc-go's.
func decompress(c encoding.Compressor, data mem.BufferSlice, max int) (mem.BufferSlice, error) {
	from := data.Reader()
	defer from.Close()
	r, err := c.Decompress(from)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: failed to decompress the message: %v", err)
	}
	if closer, ok := r.(io.Closer); ok {
		defer closer.Close()
	}
	out, err := mem.ReadAll(io.LimitReader(r, int64(max)+1), bodies)
	switch {
	case err != nil:
		out.Free()
		return nil, status.Errorf(codes.Internal, "grpc: failed to read decompressed data: %v", err)
	case out.Len() > max:
		out.Free()
		return nil, status.Errorf(codes.ResourceExhausted, "grpc: received message after decompression larger than max %d", max)
	}
	return out, nil
}

// compress takes over data.
func compress(c encoding.Compressor, data mem.BufferSlice) (out mem.BufferSlice, err error) {
	defer data.Free()
	w, err := c.Compress(mem.NewWriter(&out, bodies))
	for i := 0; err == nil && i < len(data); i++ {
		_, err = w.Write(data[i].ReadOnlyData())
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		out.Free()
		return nil, status.Errorf(codes.Internal, "grpc: error while compressing: %v", err.Error())
	}
	return out, nil
}

// encode makes the bytes of a message, and tells whether they are compressed. Nil is an empty message.
func (s *stream) encode(m any) (outgoing, error) {
	if m == nil {
		return outgoing{}, nil
	}
	o := &s.conn.server.o
	var out outgoing
	if e, ok := m.(Encoded); ok && s.request.compressor == nil {
		out.whole = e.Encoded()
	}
	if out.size = len(out.whole); out.whole == nil {
		var err error
		if out.pieces, err = o.Codec.Marshal(m); err != nil {
			return outgoing{}, status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err.Error())
		}
		out.size = out.pieces.Len()
	}
	if s.request.compressor != nil && out.size > 0 {
		var err error
		if out.pieces, err = compress(s.request.compressor, out.pieces); err != nil {
			return outgoing{}, err
		}
		out.size, out.compressed = out.pieces.Len(), 1
	}
	if out.size > o.SendBytesMax {
		out.free()
		return outgoing{}, status.Errorf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", out.size, o.SendBytesMax)
	}
	return out, nil
}
