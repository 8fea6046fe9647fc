package server

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"
	"google.golang.org/grpc/test/bufconn"

	"keelson/api/gateway"
	"keelson/api/ops"
	"keelson/api/v3"
	"keelson/config"
	"keelson/http1"
	"keelson/server/certs"
	"keelson/server/mux"
)

const (
	// grpcOverheadBytes is added to the limit of a request for what is around it in a message.
	grpcOverheadBytes = 512 << 10
	// readHeaderTimeout bounds how long an HTTP client may take for its headers, headerBytesMax how large they are.
	readHeaderTimeout = 30 * time.Second
	headerBytesMax    = 64 << 10
	// handshakeTimeout bounds how long a gRPC client may take to begin. The server can't stop before: it has to be well
	// below the grace that calls are given then.
	handshakeTimeout = 5 * time.Second
	// loopbackBytes are buffered in each direction of the gateway's connection to the gRPC server.
	loopbackBytes = 256 << 10
)

// front is everything that clients talk to: listeners, the gRPC server, and the HTTP servers.
type front struct {
	listeners []listener
	plane     *certs.Plane
	logger    *zap.Logger
	traffic   *mux.Traffic // of gRPC clients
	limit     *mux.Limit   // of connections
	failed    func(error)

	grpc    callServer
	gateway *gateway.Gateway
	https   []*http.Server
	simple  http1.Handler // of requests that need nothing of net/http; nil: there are none
	simples map[*http.Server]*http1.Server
	idle    idle // connections of https
	muxes   []*mux.Mux
	running sync.WaitGroup
	closing chan struct{}
}

func newFront(
	listeners []listener, plane *certs.Plane, logger *zap.Logger, traffic *mux.Traffic, limit *mux.Limit, failed func(error),
) *front {
	return &front{
		listeners: listeners, plane: plane, logger: logger, traffic: traffic, limit: limit, failed: failed,
		simples: map[*http.Server]*http1.Server{}, closing: make(chan struct{}),
	}
}

// serve begins to serve on all listeners.
func (f *front) serve(s *Server) error {
	var pipeline http.Handler // made below, from what the server of calls serves
	f.grpc = s.newCallServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pipeline.ServeHTTP(w, r) }))
	s.services.Register(f.grpc)
	s.metrics.GRPC.Prepare(f.grpc.GetServiceInfo(), "v3lockpb.Lock", "v3electionpb.Election") // these count from their first use
	loopback := bufconn.Listen(loopbackBytes)
	f.run("gateway", func() error { return f.grpc.Serve(loopback) })
	var v3Handler http.Handler
	if s.config.HTTP.Enabled {
		g, err := gateway.New(gateway.Parts{
			Dial: loopback.DialContext, Log: s.logger,
			MaxBodyBytes: 2 * (int64(s.config.Limits.MaxRequestBytes) + grpcOverheadBytes), // base64 and names
		})
		if err != nil {
			return err
		}
		f.gateway, v3Handler = g, gateway.RefuseNames(s.certificatesName, g, s.logger)
	}
	surface := ops.NewSurface(ops.Parts{
		Options: s.config.Ops, Debug: s.config.Logging.Debug(), Member: health{s}, Metrics: s.metrics,
		Versions: s.versions, Raft: func() any { return s.node.Status() }, Log: s.logger,
	})
	var v2Handler http.Handler
	if h := s.v2Handler(); h != nil {
		v2Handler = s.caughtUp.before(h)
		f.simple = gateway.Simple(s.config.HTTP, s.caughtUp.beforeSimple(h))
	}
	pipeline = gateway.Pipeline(s.config.HTTP, v3Handler, v2Handler, surface.Client(), s.logger)
	h := handlers{
		client:     f.newHTTP(pipeline, s.config.Limits),
		everything: f.newHTTP(pipeline, s.config.Limits),
		monitoring: f.newHTTP(surface.Monitoring(), s.config.Limits),
	}
	f.grpc.share(h.everything)
	for _, l := range f.listeners {
		if err := f.serveOn(l, h); err != nil {
			return err
		}
	}
	return nil
}

// handlers are the HTTP servers that listeners choose from.
type handlers struct{ client, everything, monitoring *http.Server }

func (f *front) serveOn(l listener, h handlers) error {
	limit := f.limit
	if l.purpose == forMetrics { // those who look after the member
		limit = nil
	}
	m, err := l.sorter(f.plane, f.traffic, limit, f.shed)
	if err != nil {
		return err
	}
	f.muxes = append(f.muxes, m)
	address := l.Addr().String()
	f.run(address, m.Serve)
	serve := func(s accepting, from net.Listener) {
		f.run(address, func() error { return s.Serve(from) })
	}
	switch l.purpose {
	case forGRPC:
		serve(callsOnly{f.grpc}, mux.Counted(m.HTTP(), f.traffic))
		serve(callsOnly{f.grpc}, m.Secure())
	case forHTTP:
		serve(f.before(h.client), m.HTTP())
		serve(f.before(h.client), m.Secure())
	case forMetrics:
		serve(h.monitoring, m.HTTP())
		serve(h.monitoring, m.Secure())
	default:
		serve(f.grpc, m.GRPC())
		serve(f.before(h.client), m.HTTP())
		serve(f.before(h.everything), m.Secure())
	}
	return nil
}

// accepting is what serves a listener.
type accepting interface{ Serve(net.Listener) error }

// callsOnly serves addresses for calls alone.
type callsOnly struct{ calls callServer }

// Serve implements accepting.
func (c callsOnly) Serve(l net.Listener) error { return c.calls.ServeCalls(l) }

// before is the server that stands before h and answers what is simple; or h, if nothing is.
func (f *front) before(h *http.Server) accepting {
	if f.simple == nil {
		return h
	}
	s := f.simples[h]
	if s == nil {
		s = http1.New(http1.Options{Handler: f.simple, ConnContext: flowOfConn, ErrorLog: zap.NewStdLog(f.logger)})
		f.simples[h] = s
		f.run("http", func() error { return h.Serve(s.Handed()) })
	}
	return s
}

// shed closes a connection of HTTP/1.1 that has no request under way, and reports whether there was one.
func (f *front) shed() bool {
	for _, s := range f.simples {
		if s.Shed() {
			return true
		}
	}
	return f.idle.shed()
}

// run runs one server in a goroutine that ends when the front stops. If it ends before, the member has failed.
func (f *front) run(what string, serve func() error) {
	f.running.Add(1)
	go func() {
		defer f.running.Done()
		err := serve()
		select {
		case <-f.closing:
		default:
			f.failed(fmt.Errorf("listener failed: %s: %w", what, err))
		}
	}()
}

func (f *front) newHTTP(h http.Handler, l config.Limits) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, MaxHeaderBytes: headerBytesMax, ErrorLog: zap.NewStdLog(f.logger),
		ConnState: f.idle.note, ConnContext: flowOfConn,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: int(min(l.MaxConcurrentStreams, math.MaxInt32)),
			SendPingTimeout:      l.KeepaliveInterval, PingTimeout: l.KeepaliveTimeout,
		},
	}
	f.https = append(f.https, s)
	return s
}

func (s *Server) versions() ops.Versions {
	view := s.engine.machine.View()
	defer view.Close()
	return ops.Versions{Server: version.Version, Cluster: view.Members().Version(), Storage: v3.StorageVersion(view.Members())}
}

// announce says that clients are served.
func (f *front) announce() {
	f.logger.Info("ready to serve client requests")
	for _, l := range f.listeners {
		if l.purpose == forMetrics {
			continue
		}
		fields := []zap.Field{zap.String("traffic", string(l.purpose)), zap.String("address", l.Addr().String())}
		if l.plain {
			f.logger.Info("serving client traffic insecurely; this is strongly discouraged!", fields...)
		}
		if l.secure {
			f.logger.Info("serving client traffic securely", fields...)
		}
	}
}

// stopAccepting lets nobody new in.
func (f *front) stopAccepting() {
	close(f.closing)
	closeAll(f.listeners)
}

// goAwayLead is how long before their streams end clients are told that their connections go away. Those who learn of it
// in time do not ask for their streams again on the same connection, where they would be refused.
const goAwayLead = 10 * time.Millisecond

// stop ends all connections: streams at once, by endStreams; other calls under way may finish within the grace time.
func (f *front) stop(endStreams func(), grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var servers sync.WaitGroup
	for _, h := range f.https {
		servers.Go(func() {
			if h.Shutdown(ctx) != nil {
				h.Close()
			}
		})
	}
	for _, h := range f.simples {
		servers.Go(func() {
			if h.Shutdown(ctx) != nil {
				h.Close()
			}
		})
	}
	if f.grpc != nil {
		servers.Go(func() { stopGRPC(ctx, f.grpc) })
		time.Sleep(goAwayLead)
		endStreams()
	}
	servers.Wait()
	if f.grpc != nil { // not before: it would cut off the calls that the HTTP servers wait for
		f.grpc.unshare()
	}
	if f.gateway != nil { // not before: the HTTP calls under way need it
		f.gateway.Close()
	}
	for _, m := range f.muxes {
		m.Close()
	}
	f.running.Wait()
}

// stopGRPC tells all clients to go away and waits for their calls, until ctx ends.
func stopGRPC(ctx context.Context, g callServer) {
	hurry := context.AfterFunc(ctx, g.Stop)
	defer hurry()
	g.GracefulStop()
}
