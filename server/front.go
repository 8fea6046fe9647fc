package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"keelson/api/gateway"
	"keelson/api/ops"
	"keelson/api/v3"
	"keelson/config"
	"keelson/env"
	"keelson/server/mux"
)

const (
	// grpcOverheadBytes is added to the limit of a request for what is around it in a message.
	grpcOverheadBytes = 512 << 10
	// readHeaderTimeout bounds how long an HTTP client may take for its headers.
	readHeaderTimeout = 5 * time.Minute
	// handshakeTimeout bounds how long a gRPC client may take to begin. The server can't stop before: it has to be well
	// below the grace that calls are given then.
	handshakeTimeout = 5 * time.Second
	// streamWorkers goroutines wait for calls; calls beyond them get one of their own.
	streamWorkers = 1024
	// loopbackBytes are buffered in each direction of the gateway's connection to the gRPC server.
	loopbackBytes = 256 << 10
)

// purpose is what a listener is for.
type purpose string

// Purposes, as the log names them.
const (
	forEverything purpose = "grpc+http"
	forGRPC       purpose = "grpc"
	forHTTP       purpose = "http"
	forMetrics    purpose = "metrics"
	forPeers      purpose = "peer"
)

// listener is one bound address.
type listener struct {
	net.Listener
	url     url.URL
	purpose purpose
}

// listen binds all addresses that clients come to. It is done before the data is opened, so that a clash of addresses
// is found before anything is written.
func listen(ctx context.Context, c *config.Config) (list []listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range list {
				l.Close()
			}
		}
	}()
	network := env.SystemNetwork()
	add := func(urls config.URLs, p purpose) error {
		for _, u := range urls {
			l, err := listenOn(ctx, network, u)
			if err != nil {
				return err
			}
			list = append(list, listener{l, u, p})
		}
		return nil
	}
	clients := forEverything
	if len(c.Member.ListenClientHTTPURLs) > 0 {
		clients = forGRPC
	}
	return list, errors.Join(
		add(c.Member.ListenClientURLs, clients),
		add(c.Member.ListenClientHTTPURLs, forHTTP),
		add(c.Member.ListenMetricsURLs, forMetrics))
}

func listenOn(ctx context.Context, network env.Network, u url.URL) (net.Listener, error) {
	if path := config.SocketPath(u); path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("listen on %s: %w", u.String(), err)
		}
		return network.Listen(ctx, "unix", path)
	}
	l, err := network.Listen(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", u.String(), err)
	}
	return l, nil
}

// front is everything that clients talk to: listeners, the gRPC server, and the HTTP servers.
type front struct {
	listeners []listener
	logger    *zap.Logger
	traffic   *mux.Traffic // of gRPC clients
	failed    func(error)

	grpc    *grpc.Server
	gateway *gateway.Gateway
	https   []*http.Server
	muxes   []*mux.Mux
	running sync.WaitGroup
	closing chan struct{}
}

func newFront(listeners []listener, logger *zap.Logger, traffic *mux.Traffic, failed func(error)) *front {
	return &front{listeners: listeners, logger: logger, traffic: traffic, failed: failed, closing: make(chan struct{})}
}

// serve begins to serve on all listeners.
func (f *front) serve(s *Server) error {
	f.grpc = s.newGRPC()
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
		f.gateway, v3Handler = g, g
	}
	surface := ops.NewSurface(ops.Parts{
		Options: s.config.Ops, Debug: s.config.Logging.Debug(), Member: health{s}, Metrics: s.metrics,
		Versions: s.versions, Raft: func() any { return s.node.Status() }, Log: s.logger,
	})
	client := f.newHTTP(gateway.Pipeline(s.config.HTTP, v3Handler, surface.Client(), s.logger))
	monitoring := f.newHTTP(surface.Monitoring())
	for _, l := range f.listeners {
		f.serveOn(l, client, monitoring)
	}
	return nil
}

func (f *front) serveOn(l listener, client, monitoring *http.Server) {
	address := l.Addr().String()
	switch l.purpose {
	case forGRPC:
		f.run(address, func() error { return f.grpc.Serve(mux.Counted(l, f.traffic)) })
	case forHTTP:
		f.run(address, func() error { return client.Serve(l) })
	case forMetrics:
		f.run(address, func() error { return monitoring.Serve(l) })
	default:
		m := mux.New(l, mux.Options{Traffic: f.traffic})
		f.muxes = append(f.muxes, m)
		f.run(address, m.Serve)
		f.run(address, func() error { return f.grpc.Serve(m.GRPC()) })
		f.run(address, func() error { return client.Serve(m.HTTP()) })
	}
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

func (f *front) newHTTP(h http.Handler) *http.Server {
	s := &http.Server{Handler: h, ReadHeaderTimeout: readHeaderTimeout, ErrorLog: zap.NewStdLog(f.logger)}
	f.https = append(f.https, s)
	return s
}

// newGRPC makes the gRPC server with the limits of the configuration.
func (s *Server) newGRPC() *grpc.Server {
	l := s.config.Limits
	calls := &timedCalls{metrics: s.metrics, counts: &s.calls, logger: s.logger, slow: s.config.Warnings.Unary}
	o := []grpc.ServerOption{
		grpc.ForceServerCodecV2(v3.Codec()),
		grpc.ChainUnaryInterceptor(s.metrics.GRPC.UnaryInterceptor, calls.intercept, s.services.Unary()),
		grpc.ChainStreamInterceptor(s.metrics.GRPC.StreamInterceptor, s.services.Stream()),
		grpc.MaxRecvMsgSize(int(l.MaxRequestBytes) + grpcOverheadBytes),
		grpc.MaxSendMsgSize(1<<31 - 1),
		grpc.MaxConcurrentStreams(l.MaxConcurrentStreams),
		// Goroutines that live on keep their stacks grown: without them growing costs a put 6 % of its time.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: l.KeepaliveMinTime}),
	}
	if l.KeepaliveInterval > 0 {
		o = append(o, grpc.KeepaliveParams(keepalive.ServerParameters{Time: l.KeepaliveInterval, Timeout: l.KeepaliveTimeout}))
	}
	return grpc.NewServer(o...)
}

func (s *Server) versions() ops.Versions {
	view := s.engine.machine.View()
	defer view.Close()
	return ops.Versions{Server: version.Version, Cluster: view.Members().Version(), Storage: storageVersion}
}

// announce says that clients are served.
func (f *front) announce() {
	f.logger.Info("ready to serve client requests")
	for _, l := range f.listeners {
		if l.purpose == forMetrics {
			continue
		}
		f.logger.Info("serving client traffic insecurely; this is strongly discouraged!",
			zap.String("traffic", string(l.purpose)), zap.String("address", l.Addr().String()))
	}
}

// stopAccepting lets nobody new in.
func (f *front) stopAccepting() {
	close(f.closing)
	for _, l := range f.listeners {
		l.Close()
	}
}

// goAwayLead is how long before their streams end clients are told that their connections go away. Those who learn of it
// in time do not ask for their streams again on the same connection, where they would be refused.
const goAwayLead = 10 * time.Millisecond

// stop ends all connections: streams at once, by endStreams; other calls under way may finish within the grace time.
func (f *front) stop(endStreams func(), grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var servers sync.WaitGroup
	if f.grpc != nil {
		servers.Go(func() { stopGRPC(ctx, f.grpc) })
		time.Sleep(goAwayLead)
		endStreams()
	}
	for _, h := range f.https {
		servers.Go(func() {
			if h.Shutdown(ctx) != nil {
				h.Close()
			}
		})
	}
	servers.Wait()
	if f.gateway != nil { // not before: the HTTP calls under way need it
		f.gateway.Close()
	}
	for _, m := range f.muxes {
		m.Close()
	}
	f.running.Wait()
}

// stopGRPC tells all clients to go away and waits for their calls, until ctx ends.
func stopGRPC(ctx context.Context, g *grpc.Server) {
	hurry := context.AfterFunc(ctx, g.Stop)
	defer hurry()
	g.GracefulStop()
}
