package tracing

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Options are where spans go and which calls get one.
type Options struct {
	Address                 string // of the collector, host:port; the connection is in clear text, as etcd's
	ServiceName, InstanceID string // InstanceID may be empty
	Version                 string // of the service
	PerMillion              int    // calls that begin a trace, of a million; those of a trace that is sampled always get a span
}

// Tracer makes spans. Its methods may be called from any goroutine.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	carried  propagation.TextMapPropagator
}

// perMillion is the sampling rate at which everything is traced.
const perMillion = 1e6

// New makes a tracer. The collector is looked for when there is something to be sent.
func New(ctx context.Context, o Options) (*Tracer, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(o.Address))
	if err != nil {
		return nil, fmt.Errorf("tracing: exporter for %s: %w", o.Address, err)
	}
	attributes := []attribute.KeyValue{
		attribute.String("service.name", o.ServiceName), attribute.String("service.version", o.Version),
	}
	if o.InstanceID != "" {
		attributes = append(attributes, attribute.String("service.instance.id", o.InstanceID))
	}
	sampler := sdktrace.NeverSample()
	if o.PerMillion > 0 {
		sampler = sdktrace.TraceIDRatioBased(float64(o.PerMillion) / perMillion)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attributes...)),
		sdktrace.WithSampler(sdktrace.ParentBased(sampler)),
	)
	return &Tracer{
		provider: provider, tracer: provider.Tracer("keelson"),
		carried: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}, nil
}

// Close sends what is queued, until ctx ends, and stops.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// carrier shows a call's metadata to a propagator.
type carrier metadata.MD

var _ propagation.TextMapCarrier = carrier{}

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() (keys []string) {
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}

// start begins the span of a call.
func (t *Tracer) start(ctx context.Context, method string) (context.Context, trace.Span) {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = t.carried.Extract(ctx, carrier(md))
	}
	name := strings.TrimPrefix(method, "/")
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		service, call, _ := strings.Cut(name, "/")
		span.SetAttributes(attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", call))
		if p, ok := peer.FromContext(ctx); ok {
			span.SetAttributes(attribute.String("network.peer.address", p.Addr.String()))
		}
	}
	return ctx, span
}

// serverFaults are the codes that say that this side is to blame.
var serverFaults = map[codes.Code]bool{
	codes.Unknown: true, codes.DeadlineExceeded: true, codes.Unimplemented: true, codes.Internal: true, codes.Unavailable: true,
	codes.DataLoss: true,
}

// end ends the span of a call.
func end(span trace.Span, err error) {
	if span.IsRecording() {
		st, ok := status.FromError(err)
		if !ok {
			st = status.FromContextError(err)
		}
		span.SetAttributes(attribute.Int64("rpc.grpc.status_code", int64(st.Code())))
		if serverFaults[st.Code()] {
			span.SetStatus(otelcodes.Error, st.Message())
		}
	}
	span.End()
}

// deferred is an answer that is given later.
type deferred interface {
	// Then has f called with the error of the answer before it is sent.
	Then(f func(error))
}

// Unary is the interceptor of unary calls.
func (t *Tracer) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, span := t.start(ctx, info.FullMethod)
	reply, err := next(ctx, req)
	if later, ok := reply.(deferred); ok && err == nil {
		later.Then(func(err error) { end(span, err) })
	} else {
		end(span, err)
	}
	return reply, err
}

// Stream is the interceptor of streams: one span from begin to end.
func (t *Tracer) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, span := t.start(stream.Context(), info.FullMethod)
	err := next(srv, traced{stream, ctx})
	end(span, err)
	return err
}

// traced is a stream whose context knows of its span.
type traced struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (t traced) Context() context.Context { return t.ctx }
