package ops

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codesKnown is one more than the highest gRPC code.
const codesKnown = int(codes.Unauthenticated) + 1

// GRPC counts gRPC calls, under the names and labels of the Prometheus middleware that everybody's dashboards were
// drawn for. The counters of a method are looked up once and then kept, so that a call costs a few atomic additions.
//
// Prepare comes first; from then on everything may be called from any goroutine.
type GRPC struct {
	started, handled, received, sent *prometheus.CounterVec
	seconds                          *prometheus.HistogramVec // nil: not wanted

	refusals refusals

	methods map[string]*method // by full name; written by Prepare only
	others  sync.Map           // the same for methods that were not prepared, made when first called
}

// method holds the counters of one method.
type method struct {
	started, received, sent prometheus.Counter
	handled                 [codesKnown]prometheus.Counter
	seconds                 prometheus.Observer // nil: not wanted
}

func newGRPC(extensive bool) *GRPC {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	g := &GRPC{
		started:  vec("grpc_server_started_total", "Calls started.", "grpc_type", "grpc_service", "grpc_method"),
		handled:  vec("grpc_server_handled_total", "Calls completed, by code.", "grpc_type", "grpc_service", "grpc_method", "grpc_code"),
		received: vec("grpc_server_msg_received_total", "Messages received.", "grpc_type", "grpc_service", "grpc_method"),
		sent:     vec("grpc_server_msg_sent_total", "Messages sent.", "grpc_type", "grpc_service", "grpc_method"),
		methods:  map[string]*method{},
	}
	if extensive {
		g.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "grpc_server_handling_seconds",
			Help: "Time to handle calls.", Buckets: prometheus.DefBuckets}, []string{"grpc_type", "grpc_service", "grpc_method"})
	}
	return g
}

// Describe and Collect make the counters one collector.
func (g *GRPC) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range g.collectors() {
		c.Describe(ch)
	}
}

// Collect sends the current counts.
func (g *GRPC) Collect(ch chan<- prometheus.Metric) {
	for _, c := range g.collectors() {
		c.Collect(ch)
	}
}

func (g *GRPC) collectors() []prometheus.Collector {
	list := []prometheus.Collector{g.started, g.handled, g.received, g.sent}
	if g.seconds != nil {
		list = append(list, g.seconds)
	}
	return list
}

// Prepare makes the counters of every method of the given services (as a server's GetServiceInfo lists them), at 0 and
// for every code. It must be called before the first call is served. Services named in later show nothing before they
// are used.
func (g *GRPC) Prepare(services map[string]grpc.ServiceInfo, later ...string) {
	for service, info := range services {
		for _, m := range info.Methods {
			full := "/" + service + "/" + m.Name
			if slices.Contains(later, service) {
				continue
			}
			g.methods[full] = g.newMethod(kindOf(m.IsClientStream, m.IsServerStream), service, m.Name)
		}
	}
}

func (g *GRPC) newMethod(kind, service, name string) *method {
	m := &method{
		started:  g.started.WithLabelValues(kind, service, name),
		received: g.received.WithLabelValues(kind, service, name),
		sent:     g.sent.WithLabelValues(kind, service, name),
	}
	for code := range m.handled {
		m.handled[code] = g.handled.WithLabelValues(kind, service, name, codes.Code(code).String())
	}
	if g.seconds != nil {
		m.seconds = g.seconds.WithLabelValues(kind, service, name)
	}
	return m
}

// of returns the counters of a method. Only methods that exist are ever called, so others is bounded.
func (g *GRPC) of(full, kind string) *method {
	if m := g.methods[full]; m != nil {
		return m
	}
	if m, ok := g.others.Load(full); ok {
		return m.(*method)
	}
	service, name := splitMethod(full)
	m, _ := g.others.LoadOrStore(full, g.newMethod(kind, service, name))
	return m.(*method)
}

// UnaryInterceptor counts a unary call. It belongs outermost, so that refusals of the others are counted.
func (g *GRPC) UnaryInterceptor(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	m := g.of(info.FullMethod, kindUnary)
	start := m.begin()
	m.received.Inc()
	reply, err := handle(ctx, req)
	if later, ok := reply.(deferred); ok && err == nil {
		later.Then(func(err error) { g.answered(m, start, err) })
	} else {
		g.answered(m, start, err)
	}
	return reply, err
}

// deferred is an answer that is given later.
type deferred interface {
	// Then has f called with the error of the answer before it is sent.
	Then(f func(error))
}

// answered counts the answer to a unary call.
func (g *GRPC) answered(m *method, start time.Time, err error) {
	if err == nil {
		m.sent.Inc()
	}
	g.end(m, start, err)
}

// StreamInterceptor counts a stream and its messages. It belongs outermost.
func (g *GRPC) StreamInterceptor(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	m := g.of(info.FullMethod, kindOf(info.IsClientStream, info.IsServerStream))
	start := m.begin()
	err := handle(srv, countedStream{stream, m})
	g.end(m, start, err)
	return err
}

func (m *method) begin() time.Time {
	m.started.Inc()
	if m.seconds == nil {
		return time.Time{}
	}
	return time.Now()
}

func (g *GRPC) end(m *method, start time.Time, err error) {
	if err != nil {
		g.refusals.note(err)
	}
	code := codeOf(err)
	if int(code) >= codesKnown {
		code = codes.Unknown
	}
	m.handled[code].Inc()
	if m.seconds != nil {
		m.seconds.Observe(time.Since(start).Seconds())
	}
}

// codeOf is the code that the client will see.
func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

// countedStream counts the messages of a stream.
type countedStream struct {
	grpc.ServerStream
	m *method
}

func (s countedStream) SendMsg(message any) error {
	err := s.ServerStream.SendMsg(message)
	if err == nil {
		s.m.sent.Inc()
	}
	return err
}

func (s countedStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	if err == nil {
		s.m.received.Inc()
	}
	return err
}

const (
	kindUnary        = "unary"
	kindClientStream = "client_stream"
	kindServerStream = "server_stream"
	kindBidiStream   = "bidi_stream"
)

func kindOf(clientStreams, serverStreams bool) string {
	switch {
	case clientStreams && serverStreams:
		return kindBidiStream
	case clientStreams:
		return kindClientStream
	case serverStreams:
		return kindServerStream
	}
	return kindUnary
}

// splitMethod cuts /service/method apart.
func splitMethod(full string) (service, name string) {
	full = strings.TrimPrefix(full, "/")
	i := strings.LastIndexByte(full, '/')
	if i < 0 {
		return "unknown", full
	}
	return full[:i], full[i+1:]
}
