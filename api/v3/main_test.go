package v3

import (
	"fmt"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"keelson/rpc"
)

// TestMain runs all tests on both gRPC servers, and fails if anything is left running.
//
// Sections and traps named in the comments of these tests are those of the specification of etcd's v3 API.
func TestMain(m *testing.M) { goleak.VerifyTestMain(onBoth{m}) }

// onBoth runs everything twice.
type onBoth struct{ m *testing.M }

// Run implements goleak.TestingM.
func (b onBoth) Run() int {
	failed := 0
	for name, make := range transports {
		fmt.Println("on", name)
		newTransport, transportName = make, name
		failed = max(failed, b.m.Run())
	}
	return failed
}

// transport is a gRPC server.
type transport interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	Stop()
}

// newTransport makes the server that the tests run on.
var (
	newTransport  func(s *Services, recvBytesMax int) transport
	transportName string
)

var transports = map[string]func(s *Services, recvBytesMax int) transport{
	"grpc-go": func(s *Services, recvBytesMax int) transport {
		return grpc.NewServer(
			grpc.ForceServerCodecV2(Codec()),
			grpc.UnaryInterceptor(s.Unary()),
			grpc.StreamInterceptor(s.Stream()),
			grpc.MaxRecvMsgSize(recvBytesMax),
			grpc.MaxSendMsgSize(1<<31-1),
		)
	},
	"keelson": func(s *Services, recvBytesMax int) transport {
		return rpc.New(rpc.Options{
			Codec:        Codec(),
			Unary:        []grpc.UnaryServerInterceptor{s.Unary()},
			Stream:       []grpc.StreamServerInterceptor{s.Stream()},
			RecvBytesMax: recvBytesMax,
			Deferred:     Deferrable(),
			MayDefer:     s.MayDefer,
		})
	},
}
