package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"keelson/internal/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kit is a server and what a test needs around it. It is also a service whose calls are held until they are told to go
// on, or end with their contexts.
type kit struct {
	t        testing.TB
	server   *Server
	listener net.Listener

	entered chan context.Context // one for each call that is held
	release chan struct{}        // one for each that may go on
	left    chan error           // what became of their contexts
}

const (
	holdPath  = "/test.Hold/Stream"
	holdUnary = "/test.Hold/Unary"
	stuckPath = "/test.Hold/Stuck" // does not care for its context
)

func (k *kit) hold(ctx context.Context) error {
	k.entered <- ctx
	select {
	case <-k.release:
	case <-ctx.Done():
	}
	k.left <- ctx.Err()
	return ctx.Err()
}

var holdDesc = grpc.ServiceDesc{
	ServiceName: "test.Hold",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := decode(new(pb.Empty)); err != nil {
			return nil, err
		}
		return new(pb.Empty), srv.(*kit).hold(ctx)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ClientStreams: true, ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		return srv.(*kit).hold(stream.Context())
	}}, {StreamName: "Stuck", ClientStreams: true, ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		<-srv.(*kit).release
		return nil
	}}},
}

func newKit(t testing.TB, o Options) *kit {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &kit{t: t, server: New(o), listener: stingyListener{l},
		entered: make(chan context.Context, 10_000), release: make(chan struct{}, 10_000), left: make(chan error, 10_000)}
}

// stingyListener makes connections that can be written to without waiting, but take at once only some of it, in turn all, a
// part, nothing; some can't after all.
type stingyListener struct{ net.Listener }

func (l stingyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stingyConn{TCPConn: c.(*net.TCPConn), turn: stinginess.Add(1)}, nil
}

var stinginess atomic.Uint32

type stingyConn struct {
	*net.TCPConn
	turn    uint32
	writing atomic.Bool
}

func (c *stingyConn) WriteNow(b []byte) (int, error) {
	c.turn++
	switch c.turn % 8 {
	case 0:
		return 0, nil
	case 1:
		b = b[:len(b)/2]
	case 2:
		if c.turn > 1000 {
			return 0, errors.ErrUnsupported
		}
	}
	return c.Write(b)
}

func (c *stingyConn) HasInput() bool { return socket.NewPeek(c.TCPConn).Any() }

// Write is for one at a time.
func (c *stingyConn) Write(b []byte) (int, error) {
	if !c.writing.CompareAndSwap(false, true) {
		panic("two write at a time")
	}
	defer c.writing.Store(false)
	return c.TCPConn.Write(b)
}

// serve begins to serve, until the test ends.
func (k *kit) serve() {
	served := make(chan error, 1)
	go func() { served <- k.server.Serve(k.listener) }()
	k.t.Cleanup(func() {
		k.server.Stop()
		k.server.handlers.Wait()
		if err := <-served; err != nil && err != ErrStopped {
			k.t.Error(err)
		}
	})
}

// receive waits for what has to come.
func receive[T any](t testing.TB, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not come")
	}
	return got
}

// dial returns a client's connection.
func (k *kit) dial(options ...grpc.DialOption) *grpc.ClientConn {
	k.t.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient(k.listener.Addr().String(), options...)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { conn.Close() })
	return conn
}

// selfSigned makes a certificate that is good for everything on this machine.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "somebody"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
