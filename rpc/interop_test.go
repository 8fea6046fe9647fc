package rpc

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// The interoperability cases that gRPC's own implementations are tested with. A case that fails ends the test program
// and says why: that is how these functions are written.
func TestInterop(t *testing.T) {
	k := newKit(t, Options{})
	pb.RegisterTestServiceServer(k.server, interop.NewTestServer())
	k.serve()
	conn := k.dial()
	client := pb.NewTestServiceClient(conn)
	for name, test := range map[string]func(context.Context, pb.TestServiceClient, ...grpc.CallOption){
		"empty_unary":                interop.DoEmptyUnaryCall,
		"large_unary":                interop.DoLargeUnaryCall,
		"client_streaming":           interop.DoClientStreaming,
		"server_streaming":           interop.DoServerStreaming,
		"ping_pong":                  interop.DoPingPong,
		"empty_stream":               interop.DoEmptyStream,
		"timeout_on_sleeping_server": interop.DoTimeoutOnSleepingServer,
		"cancel_after_begin":         interop.DoCancelAfterBegin,
		"cancel_after_first_message": interop.DoCancelAfterFirstResponse,
		"custom_metadata":            interop.DoCustomMetadata,
		"status_code_and_message":    interop.DoStatusCodeAndMessage,
		"special_status_message":     interop.DoSpecialStatusMessage,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			test(ctx, client)
		})
		t.Run(name+"/gzip", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			test(ctx, client, grpc.UseCompressor(gzip.Name))
		})
	}
	t.Run("unimplemented", func(t *testing.T) {
		interop.DoUnimplementedMethod(context.Background(), conn)
		interop.DoUnimplementedService(context.Background(), pb.NewUnimplementedServiceClient(conn))
	})
}
