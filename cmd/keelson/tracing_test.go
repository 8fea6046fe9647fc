package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"keelson/internal/testkit"
)

// collect is an OpenTelemetry collector that keeps the spans it is sent.
type collect struct {
	collector.UnimplementedTraceServiceServer
	mu       sync.Mutex
	spans    []*tracepb.Span
	resource map[string]string
}

// Export implements collector.TraceServiceServer.
func (c *collect) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range r.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, s := range of.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// names of all spans so far, sorted.
func (c *collect) names() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		list = append(list, s.Name)
	}
	slices.Sort(list)
	return list
}

// TestTracing follows a client's trace into a member, with either gRPC server, by etcd's flags and by their older names.
func TestTracing(t *testing.T) {
	t.Run("keelson", func(t *testing.T) { testTracing(t, "keelson", "--") })
	t.Run("grpc-go", func(t *testing.T) { testTracing(t, "grpc-go", "--experimental-") })
}

func testTracing(t *testing.T, server, prefix string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, s := &collect{resource: map[string]string{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)

	p := testkit.NewProcess(t, "--rpc-server="+server, prefix+"enable-distributed-tracing", prefix+"distributed-tracing-address="+l.Addr().String(),
		prefix+"distributed-tracing-service-name=store", prefix+"distributed-tracing-instance-id=one", prefix+"distributed-tracing-sampling-rate=0")
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := p.Client()
	if _, err := client.Put(ctx, "a", "untraced"); err != nil {
		t.Fatal(err)
	}
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	traced := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+"-"+parent+"-01")
	if _, err := client.Put(traced, "a", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(traced, "a"); err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(traced)
	if r := <-client.Watch(watching, "a", clientv3.WithRev(1)); len(r.Events) == 0 {
		t.Fatalf("watch: %v", r.Err())
	}
	stop()
	want := []string{"etcdserverpb.KV/Put", "etcdserverpb.KV/Range", "etcdserverpb.Watch/Watch"}
	await(ctx, t, fmt.Sprintf("the spans %q", want), func() bool {
		time.Sleep(10 * time.Millisecond)
		return len(c.names()) >= len(want)
	})
	if names := c.names(); !slices.Equal(names, want) {
		t.Errorf("spans %q, want %q", names, want)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if got := fmt.Sprintf("%x %x", s.TraceId, s.ParentSpanId); got != trace+" "+parent || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("span %s of %s", s.Name, got)
		}
	}
	if c.resource["service.name"] != "store" || c.resource["service.instance.id"] != "one" {
		t.Errorf("resource %v", c.resource)
	}
	if !p.Says("distributed tracing has been enabled") {
		t.Error("the log does not say that tracing is on")
	}
}
