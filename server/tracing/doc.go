// Package tracing sends a span for each gRPC call, of those that are sampled, to an OpenTelemetry collector.
//
// It owns the exporter and the interceptors that make the spans; package server puts those around the services, of either gRPC
// server, and only if tracing was asked for: a member that does not trace pays nothing. A call continues the trace that its client
// names in the metadata by W3C's traceparent, and follows that trace's decision; where a trace begins here, chance decides by the
// sampling rate.
//
// Spans are queued, up to 2048, and sent by a goroutine of the exporter's; when the queue is full they are dropped. No call waits for a
// collector.
package tracing
