package tracing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// collect is a collector that keeps what it is sent.
type collect struct {
	collector.UnimplementedTraceServiceServer
	mu       sync.Mutex
	spans    []*tracepb.Span
	resource []string
}

// Export implements collector.TraceServiceServer.
func (c *collect) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		c.resource = nil
		for _, a := range rs.Resource.Attributes {
			c.resource = append(c.resource, a.Key+"="+a.Value.GetStringValue())
		}
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func startCollector(t *testing.T) (*collect, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, s := &collect{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return c, l.Addr().String()
}

func newTracer(t *testing.T, address string, perMillion int) *Tracer {
	t.Helper()
	tracer, err := New(t.Context(), Options{Address: address, ServiceName: "etcd", InstanceID: "m1", Version: "1", PerMillion: perMillion})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func closeTracer(t *testing.T, tracer *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := tracer.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

var putInfo = &grpc.UnaryServerInfo{FullMethod: "/etcdserverpb.KV/Put"}

func attributesOf(s *tracepb.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		m[a.Key] = a.Value.GetStringValue()
	}
	return m
}

func TestSpans(t *testing.T) {
	c, address := startCollector(t)
	tracer := newTracer(t, address, 1e6)
	for _, err := range []error{nil, status.Error(codes.Unavailable, "no leader"), status.Error(codes.InvalidArgument, "no key")} {
		tracer.Unary(t.Context(), nil, putInfo, func(context.Context, any) (any, error) { return nil, err })
	}
	later := &deferredReply{}
	tracer.Unary(t.Context(), nil, putInfo, func(context.Context, any) (any, error) { return later, nil })
	later.then(errors.New("in the end"))
	closeTracer(t, tracer)
	if len(c.spans) != 4 {
		t.Fatalf("%d spans, want 4", len(c.spans))
	}
	for i, want := range []tracepb.Status_StatusCode{
		tracepb.Status_STATUS_CODE_UNSET, tracepb.Status_STATUS_CODE_ERROR, tracepb.Status_STATUS_CODE_UNSET, tracepb.Status_STATUS_CODE_ERROR,
	} {
		s := c.spans[i]
		a := attributesOf(s)
		if s.Name != "etcdserverpb.KV/Put" || s.Kind != tracepb.Span_SPAN_KIND_SERVER || a["rpc.service"] != "etcdserverpb.KV" || a["rpc.method"] != "Put" {
			t.Errorf("span %d: %v", i, s)
		}
		if got := s.GetStatus().GetCode(); got != want {
			t.Errorf("span %d: status %v, want %v", i, got, want)
		}
	}
	for _, want := range []string{"service.name=etcd", "service.instance.id=m1", "service.version=1"} {
		if !slices.Contains(c.resource, want) {
			t.Errorf("the resource %q lacks %s", c.resource, want)
		}
	}
}

type deferredReply struct{ then func(error) }

func (d *deferredReply) Then(f func(error)) { d.then = f }

// What a client has begun is continued, and its decision counts: at a rate of 0 nothing else is traced.
func TestTraceOfTheClient(t *testing.T) {
	c, address := startCollector(t)
	tracer := newTracer(t, address, 0)
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, parent := range []string{"", "00-" + trace + "-" + span + "-00", "00-" + trace + "-" + span + "-01"} {
		ctx := t.Context()
		if parent != "" {
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("traceparent", parent))
		}
		stream := &serverStream{ctx: ctx}
		tracer.Stream(nil, stream, &grpc.StreamServerInfo{FullMethod: "/etcdserverpb.Watch/Watch"}, func(any, grpc.ServerStream) error { return nil })
	}
	closeTracer(t, tracer)
	if len(c.spans) != 1 {
		t.Fatalf("%d spans, want the one of the trace that is sampled", len(c.spans))
	}
	s := c.spans[0]
	if hexOf(s.TraceId) != trace || hexOf(s.ParentSpanId) != span || s.Name != "etcdserverpb.Watch/Watch" {
		t.Errorf("span %v", s)
	}
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }

// The rate is one of a million.
func TestSamplingRate(t *testing.T) {
	c, address := startCollector(t)
	tracer := newTracer(t, address, 250000)
	const calls = 1600
	for range calls {
		tracer.Unary(t.Context(), nil, putInfo, func(context.Context, any) (any, error) { return nil, nil })
	}
	closeTracer(t, tracer)
	if n := len(c.spans); n < calls/8 || n > calls/2 { // trace ids are random; a quarter is expected, and this is far from it
		t.Errorf("%d of %d calls were traced, want a quarter", n, calls)
	}
}

func hexOf(b []byte) string { return fmt.Sprintf("%x", b) }
