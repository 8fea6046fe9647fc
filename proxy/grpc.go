package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"keelson/config"
	"keelson/server/certs"
	"keelson/server/mux"
)

const (
	sendBytesDefault   = 1536 << 10
	certificateYears   = 1
	headerTimeout      = 5 * time.Minute
	shutdownTimeout    = time.Second
	serverMessageBytes = 512 << 10 // around the largest request
)

// grpcOptions are the flags of the gRPC proxy.
type grpcOptions struct {
	listen, advertise, metrics string
	namespace                  string
	resolverPrefix             string
	resolverTTLSeconds         int
	pprof, debug               bool
	dataDir                    string
	maxStreams                 uint

	endpoints                               list
	autoSync                                time.Duration
	discovery                               discovery
	keepaliveTime, keepaliveTimeout         time.Duration
	withoutStream                           bool
	maxSend, maxReceive                     int
	cert, key, ca                           string
	skipVerify                              bool
	serve                                   serving
	ordering, grpcLogging                   bool
	leasing                                 string
	keepaliveMin, pingInterval, pingTimeout time.Duration

	upstream *tls.Config // set by connect; nil: clear text
}

// serving is how the proxy shows itself to clients.
type serving struct {
	cert, key, ca, crl string
	auto               bool
	years              uint
	tls                config.TLS
	suites             list
}

// GRPC carries out the command line `grpc-proxy start [flags]`, and returns the exit code. program is the name for usage
// texts.
func GRPC(program string, args []string) int {
	o := grpcOptions{endpoints: list{"127.0.0.1:2379"}}
	set := flag.NewFlagSet(program, flag.ContinueOnError)
	o.define(set)
	if code, done := parse(set, args, "Takes calls of clients and makes them again towards a cluster."); done {
		return code
	}
	logger := newLogger(o.debug)
	return untilSignal(logger, func(ctx context.Context) error { return o.run(ctx, logger) })
}

func (o *grpcOptions) define(set *flag.FlagSet) {
	set.StringVar(&o.listen, "listen-addr", "127.0.0.1:23790", "address to listen on")
	set.StringVar(&o.advertise, "advertise-client-url", "127.0.0.1:23790", "address that clients are told as that of the only member")
	set.StringVar(&o.metrics, "metrics-addr", "", "URL to serve metrics and health on, in addition")
	set.StringVar(&o.namespace, "namespace", "", "prefix that all keys of clients are put under")
	set.StringVar(&o.resolverPrefix, "resolver-prefix", "", "prefix in the cluster under which proxies find each other")
	set.IntVar(&o.resolverTTLSeconds, "resolver-ttl", 0, "seconds after which a proxy that is gone is forgotten there")
	set.BoolVar(&o.pprof, "enable-pprof", false, "serve profiles under /debug/pprof/")
	set.StringVar(&o.dataDir, "data-dir", "default.proxy", "directory for certificates that the proxy makes itself")
	set.BoolVar(&o.debug, "debug", false, "log at level debug")
	set.UintVar(&o.maxStreams, "max-concurrent-streams", math.MaxUint32, "most concurrent streams of one HTTP/2 connection")

	set.Var(&o.endpoints, "endpoints", "addresses of members' client URLs, with commas")
	set.DurationVar(&o.autoSync, "endpoints-auto-sync-interval", 0, "time between questions to the cluster for its endpoints; 0: never")
	set.StringVar(&o.discovery.domain, "discovery-srv", "", "domain whose SRV records name the members, instead of endpoints")
	set.StringVar(&o.discovery.suffix, "discovery-srv-name", "", "suffix of the SRV service name")
	set.BoolVar(&o.discovery.insecure, "insecure-discovery", false, "accept members without TLS from DNS")
	set.DurationVar(&o.keepaliveTime, "dial-keepalive-time", 0, "time between pings to the cluster; 0: none")
	set.DurationVar(&o.keepaliveTimeout, "dial-keepalive-timeout", 20*time.Second, "time a member has to answer a ping")
	set.BoolVar(&o.withoutStream, "permit-without-stream", false, "ping without calls under way, too")
	set.IntVar(&o.maxSend, "max-send-bytes", sendBytesDefault, "largest message to the cluster")
	set.IntVar(&o.maxReceive, "max-recv-bytes", math.MaxInt32, "largest message from the cluster")
	set.StringVar(&o.cert, "cert", "", "certificate shown to the cluster; it must have no common name")
	set.StringVar(&o.key, "key", "", "key of cert")
	set.StringVar(&o.ca, "cacert", "", "authorities of the cluster's certificates")
	set.BoolVar(&o.skipVerify, "insecure-skip-tls-verify", false, "do not verify the cluster's certificates")

	set.StringVar(&o.serve.cert, "cert-file", "", "certificate shown to clients")
	set.StringVar(&o.serve.key, "key-file", "", "key of cert-file")
	set.StringVar(&o.serve.ca, "trusted-ca-file", "", "authorities of clients' certificates; demands them")
	set.StringVar(&o.serve.crl, "client-crl-file", "", "list of revoked client certificates")
	set.BoolVar(&o.serve.auto, "auto-tls", false, "make a certificate for clients at the first start")
	set.UintVar(&o.serve.years, "self-signed-cert-validity", certificateYears, "life of that certificate, in years")
	set.Var(&o.serve.suites, "listen-cipher-suites", "TLS cipher suites to allow clients, with commas")
	set.StringVar(&o.serve.tls.VersionMin, "tls-min-version", "TLS1.2", "lowest TLS version: TLS1.2 or TLS1.3")
	set.StringVar(&o.serve.tls.VersionMax, "tls-max-version", "", "highest TLS version")
	set.DurationVar(&o.keepaliveMin, "grpc-keepalive-min-time", 5*time.Second, "shortest time between two pings of a client")
	set.DurationVar(&o.pingInterval, "grpc-keepalive-interval", 2*time.Hour, "time between two pings to a client")
	set.DurationVar(&o.pingTimeout, "grpc-keepalive-timeout", 20*time.Second, "time a client has to answer a ping")
	set.BoolVar(&o.ordering, "experimental-serializable-ordering", false, "not supported")
	set.StringVar(&o.leasing, "experimental-leasing-prefix", "", "not supported")
	set.BoolVar(&o.grpcLogging, "experimental-enable-grpc-logging", false, "log calls, at level debug")
}

func (o *grpcOptions) check() error {
	switch {
	case o.ordering:
		return errors.New("--experimental-serializable-ordering is not supported: every read is made by a member")
	case o.leasing != "":
		return errors.New("--experimental-leasing-prefix is not supported: the proxy keeps no pairs")
	case len(o.endpoints) == 0 && o.discovery.domain == "":
		return errors.New("--endpoints must not be empty")
	case o.resolverPrefix != "" && o.resolverTTLSeconds < 1:
		return fmt.Errorf("invalid resolver-ttl %d", o.resolverTTLSeconds)
	case o.resolverPrefix == "" && o.resolverTTLSeconds > 0:
		return fmt.Errorf("invalid resolver-prefix %q", o.resolverPrefix)
	}
	o.serve.tls.CipherSuites = o.serve.suites
	return o.serve.tls.Validate()
}

func (o *grpcOptions) run(ctx context.Context, logger *zap.Logger) error {
	if err := o.check(); err != nil {
		return err
	}
	plane, err := o.plane(logger)
	if err != nil {
		return err
	}
	client, err := o.connect(ctx, logger)
	if err != nil {
		return err
	}
	defer client.Close()
	p, err := o.listenAndServe(ctx, plane, client, logger)
	if err != nil {
		return err
	}
	logger.Info("started gRPC proxy", zap.String("address", o.listen), zap.Strings("endpoints", client.Endpoints()))
	return p.wait(ctx)
}

// plane is the proxy's identity towards clients; nil: it speaks clear text.
func (o *grpcOptions) plane(logger *zap.Logger) (*certs.Plane, error) {
	s := o.serve
	c := certs.Options{
		CertFile: s.cert, KeyFile: s.key, TrustedCAFile: s.ca, CRLFile: s.crl, Suites: s.tls.Suites(),
		Endpoint: "client", Logger: logger,
	}
	c.VersionMin, c.VersionMax = s.tls.Versions()
	if s.auto && s.cert == "" {
		host, _, err := net.SplitHostPort(o.listen)
		if err != nil {
			return nil, err
		}
		if err := c.MakeOwn(filepath.Join(o.dataDir, "fixtures", "proxy"), []string{host}, s.years); err != nil {
			return nil, err
		}
	}
	switch {
	case c.CertFile != "" || c.KeyFile != "":
		return certs.New(c)
	case c.TrustedCAFile != "": // nobody could show a certificate
		return nil, fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", o.listen)
	}
	return nil, nil
}

// connect makes the client of the cluster.
func (o *grpcOptions) connect(ctx context.Context, logger *zap.Logger) (*clientv3.Client, error) {
	endpoints := []string(o.endpoints)
	if o.discovery.domain != "" {
		var err error
		if endpoints, err = o.discovery.endpoints(ctx, net.DefaultResolver); err != nil {
			return nil, err
		}
	}
	c := clientv3.Config{
		Endpoints: endpoints, DialTimeout: dialTimeout * 2, DialKeepAliveTime: o.keepaliveTime, DialKeepAliveTimeout: o.keepaliveTimeout,
		PermitWithoutStream: o.withoutStream, MaxCallSendMsgSize: o.maxSend, MaxCallRecvMsgSize: o.maxReceive, Logger: logger,
	}
	if o.cert != "" || o.key != "" || o.ca != "" || o.skipVerify || slices.ContainsFunc(endpoints, isSecure) {
		plane, err := certs.New(certs.Options{
			CertFile: o.cert, KeyFile: o.key, TrustedCAFile: o.ca, Unverified: o.skipVerify, VersionMin: tls.VersionTLS12,
			Endpoint: "upstream", Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		c.TLS = plane.Client()
		o.upstream = c.TLS
		if err := checkName(c.TLS); err != nil {
			return nil, err
		}
		if o.discovery.domain != "" && o.ca == "" {
			c.TLS.ServerName = o.discovery.domain
		}
	}
	return clientv3.New(c)
}

func isSecure(endpoint string) bool {
	return strings.HasPrefix(endpoint, "https://") || strings.HasPrefix(endpoint, "unixs:")
}

// checkName refuses a certificate with a common name: members would take every client of the proxy for the user of that
// name.
func checkName(c *tls.Config) error {
	pair, err := c.GetClientCertificate(new(tls.CertificateRequestInfo))
	if err != nil || len(pair.Certificate) == 0 {
		return err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err == nil && leaf.Subject.CommonName != "" {
		err = fmt.Errorf("cert has non empty Common Name (%s)", leaf.Subject.CommonName)
	}
	return err
}

// running is a proxy that serves.
type running struct {
	failed chan error // of a listener
	stop   []func()   // in this order
}

func (p *running) wait(ctx context.Context) error {
	var err error
	select {
	case err = <-p.failed:
	case <-ctx.Done():
	}
	for _, stop := range p.stop {
		stop()
	}
	return err
}

func (p *running) serve(f func() error) {
	go func() { // until what it serves on is closed by stop
		err := f()
		select {
		case p.failed <- err:
		default: // only the first is waited for
		}
	}()
}

func (o *grpcOptions) listenAndServe(ctx context.Context, plane *certs.Plane, client *clientv3.Client, logger *zap.Logger) (*running, error) {
	p := &running{failed: make(chan error, 1)}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	calls := o.newGRPC(client, newWatchMetrics(registry), logger)
	pages := o.pages(client, registry, logger)
	web := &http.Server{Handler: pages, ReadHeaderTimeout: headerTimeout, ErrorLog: zap.NewStdLog(logger)}
	secure := &http.Server{
		Handler: withGRPC(calls, pages), ReadHeaderTimeout: headerTimeout, ErrorLog: zap.NewStdLog(logger),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: int(min(o.maxStreams, math.MaxInt32))},
	}
	sorted := mux.Options{}
	if plane != nil {
		acceptor, err := plane.Acceptor("h2", "http/1.1")
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		sorted.Secure, sorted.SecureOnly = acceptor.Accept, true
	}
	m := mux.New(l, sorted)
	p.serve(m.Serve)
	p.serve(func() error { return calls.Serve(m.GRPC()) })
	p.serve(func() error { return web.Serve(m.HTTP()) })
	p.serve(func() error { return secure.Serve(m.Secure()) })
	p.stop = append(p.stop, func() { closeHTTP(web) }, func() { closeHTTP(secure) }, calls.Stop, func() { m.Close() })
	if err := o.serveMetrics(p, plane, pages, logger); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	o.keepInStep(ctx, p, client, logger)
	return p, nil
}

func closeHTTP(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}

// serveMetrics serves the pages at their own address, if there is one.
func (o *grpcOptions) serveMetrics(p *running, plane *certs.Plane, pages http.Handler, logger *zap.Logger) error {
	if o.metrics == "" {
		return nil
	}
	var urls config.URLs
	if err := urls.Set(o.metrics); err != nil {
		return err
	}
	for _, u := range urls {
		l, err := net.Listen("tcp", u.Host)
		if err != nil {
			return err
		}
		sorted := mux.Options{Whole: true}
		if config.Secure(u) {
			if plane == nil {
				return errors.Join(fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", u.Host), l.Close())
			}
			acceptor, err := plane.Acceptor("h2", "http/1.1")
			if err != nil {
				return errors.Join(err, l.Close())
			}
			sorted.Secure, sorted.SecureOnly = acceptor.Accept, true
		}
		m := mux.New(l, sorted)
		web := &http.Server{Handler: pages, ReadHeaderTimeout: headerTimeout, ErrorLog: zap.NewStdLog(logger)}
		p.serve(m.Serve)
		p.serve(func() error { return web.Serve(m.HTTP()) })
		p.serve(func() error { return web.Serve(m.Secure()) })
		p.stop = append(p.stop, func() { closeHTTP(web) }, func() { m.Close() })
		logger.Info("gRPC proxy listening for metrics", zap.String("address", u.String()))
	}
	return nil
}

// newGRPC makes the server of calls.
func (o *grpcOptions) newGRPC(client *clientv3.Client, metrics *watchMetrics, logger *zap.Logger) *grpc.Server {
	r := &relay{
		to: client.ActiveConnection(),
		options: []grpc.CallOption{
			grpc.ForceCodecV2(newCodec()), grpc.MaxCallSendMsgSize(o.maxSend), grpc.MaxCallRecvMsgSize(o.maxReceive),
		},
	}
	if o.namespace != "" {
		r.rewrites = namespace(o.namespace).rewrites()
	}
	if o.advertise != "" {
		r.members = o.memberList(client)
	}
	r.watches = newWatchHub(r.openWatch, r.rewrites[methodWatch].reply, metrics)
	handler := r.handle
	if o.grpcLogging {
		handler = logged(handler, logger)
	}
	return grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.Creds(certs.Credentials()),
		grpc.UnknownServiceHandler(handler),
		grpc.MaxRecvMsgSize(o.maxSend+serverMessageBytes), grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(uint32(min(o.maxStreams, math.MaxUint32))),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.keepaliveMin}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.pingInterval, Timeout: o.pingTimeout}),
	)
}

func logged(next grpc.StreamHandler, logger *zap.Logger) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		began := time.Now()
		err := next(srv, stream)
		method, _ := grpc.MethodFromServerStream(stream)
		logger.Debug("call", zap.String("method", method), zap.Duration("took", time.Since(began)), zap.Error(err))
		return err
	}
}

// withGRPC takes calls out of what comes over HTTP/2.
func withGRPC(calls, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.Contains(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}
