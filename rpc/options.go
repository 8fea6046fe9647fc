package rpc

import (
	"context"
	"log"
	"math"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
)

// Options are the limits and parts of a Server. The defaults are those of grpc-go unless said otherwise.
type Options struct {
	// Codec encodes and decodes all messages, whatever content-subtype a client names. Decoding must not keep the bytes,
	// which are used again. Nil: protobuf.
	Codec encoding.CodecV2
	// Unary and Stream go around the handlers, the first outermost.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor

	// RecvBytesMax and SendBytesMax bound one message. 0: 4 MiB; no bound.
	RecvBytesMax, SendBytesMax int
	// StreamsMax bounds the streams of a connection; a client that asks for more is refused. 0: no bound.
	StreamsMax uint32
	// HeaderBytesMax bounds the fields of one header block, names and values and 32 bytes for each. 0: 64 KiB.
	HeaderBytesMax int

	// HandshakeTimeout is the time that a client has for TLS and the preface. 0: 2 minutes.
	HandshakeTimeout time.Duration
	// KeepaliveTime is how long a client may be silent before it is asked for a sign of life, KeepaliveTimeout how long it
	// then has. 0: 2 hours; 20 seconds. A negative KeepaliveTime: never.
	KeepaliveTime, KeepaliveTimeout time.Duration
	// PingTimeMin is how far apart pings of a client must be on a connection with calls; without calls it is 2 hours
	// unless IdlePings. A client that sends three too early is told to go away. 0: 5 minutes.
	PingTimeMin time.Duration
	IdlePings   bool

	// Workers is how many goroutines are kept between calls. More run when more calls do. 0: 1024.
	Workers int
	// Inline names methods, as /service/method, that run on the goroutine that reads their connection: for calls that
	// never wait.
	Inline []string
	// Deferred names unary methods, as /service/method, that may give their answer later (Defer): they run on the goroutine
	// that reads if they can, and then must not wait. MayDefer is asked before each whether it may. Nil: always.
	Deferred []string
	MayDefer func() bool
	// ConnContext makes the context whose values those of a connection's requests have too. Nil: there are none.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	// HeaderField is told of each field of a header block when it is decoded, on the goroutine that reads: a block that is known
	// already is not decoded again. Nil: nobody asks.
	HeaderField func(f hpack.HeaderField)
	// Fallback serves requests that are no gRPC calls, but for connections of ServeCalls. Nil: they are refused.
	Fallback http.Handler
	// ErrorLog is told of panics of Fallback, which are the only ones that do not end the process. Nil: the standard one.
	ErrorLog *log.Logger
}

const (
	recvBytesDefault        = 4 << 20
	headerBytesDefault      = 64 << 10
	handshakeTimeoutDefault = 2 * time.Minute
	keepaliveTimeDefault    = 2 * time.Hour
	keepaliveTimeoutDefault = 20 * time.Second
	pingTimeMinDefault      = 5 * time.Minute
	workersDefault          = 1024
)

func orDefault[T int | uint32 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

func (o Options) withDefaults() Options {
	if o.Codec == nil {
		o.Codec = encoding.GetCodecV2(proto.Name)
	}
	o.RecvBytesMax = orDefault(o.RecvBytesMax, recvBytesDefault)
	o.SendBytesMax = orDefault(o.SendBytesMax, math.MaxInt32)
	o.StreamsMax = orDefault(o.StreamsMax, math.MaxUint32)
	o.HeaderBytesMax = orDefault(o.HeaderBytesMax, headerBytesDefault)
	o.HandshakeTimeout = orDefault(o.HandshakeTimeout, handshakeTimeoutDefault)
	o.KeepaliveTime = orDefault(o.KeepaliveTime, keepaliveTimeDefault)
	o.KeepaliveTimeout = orDefault(o.KeepaliveTimeout, keepaliveTimeoutDefault)
	o.PingTimeMin = orDefault(o.PingTimeMin, pingTimeMinDefault)
	o.Workers = orDefault(o.Workers, workersDefault)
	return o
}
