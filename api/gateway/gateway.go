package gateway

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"keelson/api/v3electionpb"
	"keelson/api/v3lockpb"
)

// Dialer opens a connection to this member's gRPC server.
type Dialer func(ctx context.Context) (net.Conn, error)

// Parts are what a Gateway needs. All fields are needed.
type Parts struct {
	Dial Dialer
	// MaxBodyBytes bounds the body of a request that is one message. Bodies of streams are not bounded, their messages
	// are by the gRPC server.
	MaxBodyBytes int64
	Log          *zap.Logger
}

// Gateway translates JSON requests under /v3/ to gRPC calls.
type Gateway struct {
	conn    *grpc.ClientConn
	handler http.Handler
}

// New makes a gateway. Nothing is dialed before the first request.
func New(p Parts) (*Gateway, error) {
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.Dial(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: stretched{marshaler}}),
		// Metadata of our services carries no trust, so clients may set any, as they could over gRPC.
		runtime.WithLegacyHeaderMatching(),
	)
	ctx := context.Background() // the handlers' own: requests bring theirs
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		gw.RegisterKVHandler,
		gw.RegisterWatchHandler,
		gw.RegisterLeaseHandler,
		gw.RegisterClusterHandler,
		gw.RegisterMaintenanceHandler,
		gw.RegisterAuthHandler,
		v3lockpb.RegisterLockHandler,
		v3electionpb.RegisterElectionHandler,
	} {
		if err := register(ctx, mux, conn); err != nil {
			conn.Close()
			return nil, fmt.Errorf("gateway: register: %w", err)
		}
	}
	return &Gateway{conn: conn, handler: websocketBridge(bounded(mux, p.MaxBodyBytes), p.MaxBodyBytes, p.Log)}, nil
}

// marshaler writes messages with the names that fields have in the .proto files, leaves out what is zero, and ignores
// fields it does not know.
var marshaler = &runtime.JSONPb{
	MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
	UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
}

// ServeHTTP answers a request whose path begins with /v3/.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Close ends the connection to the gRPC server.
func (g *Gateway) Close() error { return g.conn.Close() }

// streams are the paths whose request body is a sequence of messages without an end that we could wait for.
var streams = []string{"/v3/watch", "/v3/lease/keepalive"}

// bounded bounds the request bodies of everything but streams. Streams may read and write at the same time, which
// HTTP/1 has to be told: otherwise the first reply would wait for the end of the request.
func bounded(next http.Handler, maxBytes int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case slices.Contains(streams, r.URL.Path):
			// An error means a websocket, where requests and replies have nothing to do with each other anyway.
			if http.NewResponseController(w).EnableFullDuplex() == nil && r.ProtoMajor == 1 {
				s := &streamed{ResponseWriter: w}
				defer s.finish(r.Body)
				w = s
			}
		case r.Body != nil:
			r.Body = http.MaxBytesReader(w, r.Body, maxBytes)
		}
		next.ServeHTTP(w, r)
	})
}

// streamed is the writer of a stream over HTTP/1, which reads and writes at the same time.
type streamed struct {
	http.ResponseWriter
	flushed bool // the client has had a part of the answer
}

// Flush implements http.Flusher.
func (s *streamed) Flush() {
	s.flushed = true
	_ = http.NewResponseController(s.ResponseWriter).Flush() // the connection is broken: the handler will see
}

// unreadBytesMax are read of what a handler has left of its request, so that the connection can have another one. It is
// what net/http reads.
const unreadBytesMax = 256 << 10

// finish reads what the handler has left of the request. With full duplex, net/http does that after it has begun to wait for
// the connection's next request, which then gets lost with the connection.
func (s *streamed) finish(body io.Reader) {
	if s.flushed {
		s.Flush() // whoever waits for the end before he ends the request
	}
	if _, err := io.CopyN(io.Discard, body, unreadBytesMax); err != nil {
		return // its end, or there is no connection any more
	}
	s.Flush()
	panic(http.ErrAbortHandler)
}
