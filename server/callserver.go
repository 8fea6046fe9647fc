package server

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"keelson/api/v3"
	"keelson/config"
	"keelson/node"
	"keelson/rpc"
	"keelson/server/certs"
)

// streamWorkers goroutines wait for calls; calls beyond them get one of their own.
const streamWorkers = 1024

// callServer serves gRPC calls on connections of its own, and those of connections that it shares with an HTTP server:
// over TLS, HTTP/2 may be either.
type callServer interface {
	grpc.ServiceRegistrar
	GetServiceInfo() map[string]grpc.ServiceInfo
	Serve(net.Listener) error
	// ServeCalls is Serve for an address where nothing but calls is served.
	ServeCalls(net.Listener) error
	GracefulStop()
	Stop()
	// share takes the calls out of what h is asked over HTTP/2. It comes after the services and before h serves.
	share(h *http.Server)
	// unshare ends what is left of that when h has stopped.
	unshare()
}

// newCallServer makes the server that the configuration names. rest serves what is no call on shared connections.
func (s *Server) newCallServer(rest http.Handler) callServer {
	if s.config.RPC.Server == config.RPCKeelson {
		return keelsonServer{rpc.New(s.rpcOptions(rest))}
	}
	return &grpcGoServer{s.newGRPC(streamWorkers), s.newGRPC(0)}
}

func (s *Server) recvBytesMax() int { return int(s.config.Limits.MaxRequestBytes) + grpcOverheadBytes }

func (s *Server) unaryInterceptors() []grpc.UnaryServerInterceptor {
	calls := &timedCalls{metrics: s.metrics, counts: &s.calls, logger: s.logger, slow: s.config.Warnings.Unary}
	list := []grpc.UnaryServerInterceptor{s.metrics.GRPC.UnaryInterceptor, calls.intercept, s.services.Unary()}
	if s.tracer != nil {
		list = slices.Insert(list, 0, s.tracer.Unary)
	}
	return list
}

func (s *Server) streamInterceptors() []grpc.StreamServerInterceptor {
	list := []grpc.StreamServerInterceptor{s.metrics.GRPC.StreamInterceptor, s.services.Stream()}
	if s.tracer != nil {
		list = slices.Insert(list, 0, s.tracer.Stream)
	}
	return list
}

// keelsonServer is our own. Connections that it shares are its own: what is no call goes to the HTTP handler.
type keelsonServer struct{ *rpc.Server }

func (s *Server) rpcOptions(rest http.Handler) rpc.Options {
	l := s.config.Limits
	o := rpc.Options{
		Codec: v3.Codec(), Unary: s.unaryInterceptors(), Stream: s.streamInterceptors(),
		RecvBytesMax: s.recvBytesMax(), StreamsMax: l.MaxConcurrentStreams, HandshakeTimeout: handshakeTimeout,
		KeepaliveTime: l.KeepaliveInterval, KeepaliveTimeout: l.KeepaliveTimeout, PingTimeMin: l.KeepaliveMinTime,
		Workers: streamWorkers, Fallback: rest, ErrorLog: zap.NewStdLog(s.logger),
		Deferred: v3.Deferrable(), MayDefer: s.services.MayDefer, ConnContext: flowOfConn,
	}
	if l.KeepaliveInterval == 0 {
		o.KeepaliveTime = -1
	}
	if strings.Contains(os.Getenv("GODEBUG"), "http2debug=2") {
		o.HeaderField = printHeaderField
	}
	return o
}

// printHeaderField prints what the servers of Go print of a header when they are asked by the same setting.
func printHeaderField(f hpack.HeaderField) { log.Printf("http2: decoded hpack field %+v", f) }

func (k keelsonServer) share(h *http.Server) {
	h.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) { k.ServeShared(c) },
	}
}

func (k keelsonServer) unshare() {}

// grpcGoServer is grpc-go's. It does not share connections, so the HTTP server hands it single requests.
type grpcGoServer struct {
	*grpc.Server
	inner *grpc.Server // of requests that come through an HTTP server
}

// RegisterService implements grpc.ServiceRegistrar.
func (g *grpcGoServer) RegisterService(d *grpc.ServiceDesc, srv any) {
	g.Server.RegisterService(d, srv)
	g.inner.RegisterService(d, srv)
}

// ServeCalls implements callServer.
func (g *grpcGoServer) ServeCalls(l net.Listener) error { return g.Serve(l) }

func (g *grpcGoServer) share(h *http.Server) {
	rest := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.Contains(r.Header.Get("Content-Type"), "application/grpc") {
			g.inner.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}

func (g *grpcGoServer) unshare() { g.inner.Stop() }

// flowOfConn has the requests of a connection make up a flow. Those of the gateway's clients share one: they come through one
// connection.
func flowOfConn(ctx context.Context, c net.Conn) context.Context { return node.WithFlow(ctx, c) }

// flowOfPeer is the same for a server that does not tell the connection.
func flowOfPeer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if p, ok := peer.FromContext(ctx); ok {
		ctx = node.WithFlow(ctx, p.Addr)
	}
	return handler(ctx, req)
}

// newGRPC makes a gRPC server of grpc-go with the limits of the configuration.
func (s *Server) newGRPC(workers uint32) *grpc.Server {
	l := s.config.Limits
	o := []grpc.ServerOption{
		grpc.ForceServerCodecV2(v3.Codec()),
		grpc.Creds(certs.Credentials()),
		grpc.ChainUnaryInterceptor(append(s.unaryInterceptors(), flowOfPeer)...),
		grpc.ChainStreamInterceptor(s.streamInterceptors()...),
		grpc.MaxRecvMsgSize(s.recvBytesMax()),
		grpc.MaxSendMsgSize(1<<31 - 1),
		grpc.MaxConcurrentStreams(l.MaxConcurrentStreams),
		// Goroutines that live on keep their stacks grown: without them growing costs a put 6 % of its time.
		grpc.NumStreamWorkers(workers),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: l.KeepaliveMinTime}),
	}
	if l.KeepaliveInterval > 0 {
		o = append(o, grpc.KeepaliveParams(keepalive.ServerParameters{Time: l.KeepaliveInterval, Timeout: l.KeepaliveTimeout}))
	}
	return grpc.NewServer(o...)
}
