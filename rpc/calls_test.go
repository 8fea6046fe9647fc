package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// asked is what a handler saw of its context.
type asked struct {
	ctx      context.Context
	metadata metadata.MD
	peer     *peer.Peer
	method   string
}

// mirror is an interceptor that tells what a call's context holds.
func mirror(seen chan asked) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		a := asked{ctx: ctx}
		a.metadata, _ = metadata.FromIncomingContext(ctx)
		a.peer, _ = peer.FromContext(ctx)
		a.method, _ = grpc.Method(ctx)
		seen <- a
		return next(ctx, req)
	}
}

// Who asks for the fields of headers is told of those of a call.
func TestHeaderFields(t *testing.T) {
	seen := make(chan hpack.HeaderField, 100)
	k := newTestKit(t, Options{HeaderField: func(f hpack.HeaderField) { seen <- f }})
	client := pb.NewTestServiceClient(k.dial(grpc.WithAuthority("somewhere:1")))
	if _, err := client.EmptyCall(metadata.AppendToOutgoingContext(t.Context(), "x-own", "value"), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for range len(seen) {
		fields = append(fields, (<-seen).String())
	}
	for _, want := range []string{`header field ":authority" = "somewhere:1"`, `header field "x-own" = "value"`} {
		if !slices.Contains(fields, want) {
			t.Errorf("no %s among %q", want, fields)
		}
	}
}

func TestContext(t *testing.T) {
	seen := make(chan asked, 1)
	k := newTestKit(t, Options{Unary: []grpc.UnaryServerInterceptor{mirror(seen)}})
	client := pb.NewTestServiceClient(k.dial())
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "a", "1", "b-bin", "\x00"), time.Minute)
	defer cancel()
	begun := time.Now()
	if _, err := client.EmptyCall(ctx, new(pb.Empty)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	a := <-seen
	if a.metadata.Get("a")[0] != "1" || a.metadata.Get("b-bin")[0] != "\x00" || a.metadata.Get(":authority")[0] != k.listener.Addr().String() {
		t.Errorf("metadata %v", a.metadata)
	}
	if a.method != pb.TestService_EmptyCall_FullMethodName || a.peer == nil || a.peer.AuthInfo != nil ||
		a.peer.LocalAddr.String() != k.listener.Addr().String() {
		t.Errorf("method %q, peer %v", a.method, a.peer)
	}
	deadline, ok := a.ctx.Deadline()
	want, _ := ctx.Deadline()
	if later := deadline.Sub(want); !ok || later < -time.Second || later > took+time.Second { // by as long as the request took to arrive
		t.Errorf("deadline %v, want %v", deadline, want)
	}
	if a.ctx.Value("something else") != nil {
		t.Error("it knows something else")
	}
	select {
	case <-a.ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("the context outlives its call")
	}
	if a.ctx.Err() != context.Canceled {
		t.Errorf("it ended with %v", a.ctx.Err())
	}
	if _, err := client.EmptyCall(context.Background(), new(pb.Empty)); err != nil {
		t.Fatal(err)
	}
	if _, ok := (<-seen).ctx.Deadline(); ok {
		t.Error("a deadline that nobody set")
	}
}

// Calls have the values of their connection's context, those of other requests too.
func TestConnContext(t *testing.T) {
	type key struct{}
	seen := make(chan asked, 1)
	values := make(chan any, 1)
	k := newTestKit(t, Options{
		Unary:       []grpc.UnaryServerInterceptor{mirror(seen)},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
		Fallback:    http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { values <- r.Context().Value(key{}) }),
	})
	connOf := func(conn *grpc.ClientConn) any {
		t.Helper()
		if _, err := pb.NewTestServiceClient(conn).EmptyCall(context.Background(), new(pb.Empty)); err != nil {
			t.Fatal(err)
		}
		return (<-seen).ctx.Value(key{})
	}
	one, other := k.dial(), k.dial()
	first := connOf(one)
	if _, ok := first.(net.Conn); !ok || connOf(one) != first || connOf(other) == first {
		t.Errorf("the first connection is %v, then %v; another one %v", first, connOf(one), connOf(other))
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	reply, err := (&http.Client{Transport: transport}).Get("http://" + k.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if _, ok := (<-values).(net.Conn); !ok {
		t.Error("a request that is no call does not know its connection")
	}
}

// What is derived from a call's context ends with it, without goroutines.
func TestDerivedContexts(t *testing.T) {
	s := &stream{conn: &conn{}, request: &request{}}
	ctx := context.Context((*callContext)(s))
	child, stop := context.WithCancel(ctx)
	defer stop()
	called := make(chan struct{})
	context.AfterFunc(ctx, func() { close(called) })
	not := context.AfterFunc(ctx, func() { t.Error("stopped, and called all the same") })
	if !not() || not() {
		t.Error("stop reports the wrong thing")
	}
	s.cancellation.cancel(context.DeadlineExceeded)
	s.cancellation.cancel(context.Canceled)
	<-called
	<-child.Done()
	if child.Err() != context.DeadlineExceeded || ctx.Err() != context.DeadlineExceeded {
		t.Errorf("%v, %v", child.Err(), ctx.Err())
	}
	late, stop := context.WithCancel(ctx)
	defer stop()
	if late.Err() != context.DeadlineExceeded {
		t.Errorf("a child of an ended context: %v", late.Err())
	}
	if !strings.Contains(ctx.(*callContext).String(), "rpc.Context") {
		t.Error(ctx)
	}
}

func TestCancellation(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*rawClient)
		want error
	}{
		"reset":              {func(r *rawClient) { r.framer.WriteRSTStream(1, http2.ErrCodeCancel) }, context.Canceled},
		"lost connection":    {func(r *rawClient) { r.conn.Close() }, context.Canceled},
		"broken connection":  {func(r *rawClient) { r.raw(http2.FrameData, 0, 0, "x") }, context.Canceled},
		"malformed trailers": {func(r *rawClient) { r.headers(1, true, "A", "b") }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTestKit(t, Options{})
			r := k.rawClient().hello()
			r.headers(1, false, callFields(holdPath)...)
			<-k.entered
			c.end(r)
			if err := <-k.left; err != c.want {
				t.Errorf("the context ended with %v", err)
			}
		})
	}
}

// Deadlines end calls that run, and the client is told with a reset, as by grpc-go.
func TestDeadlines(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	r.headers(1, false, callFields(holdPath, "grpc-timeout", "1H")...)
	r.headers(3, false, callFields(holdPath, "grpc-timeout", "10m")...)
	r.headers(5, false, callFields(holdUnary, "grpc-timeout", "30m")...) // its message never comes
	r.together(func() {
		r.headers(7, false, callFields(holdUnary, "grpc-timeout", "3S")...) // enough to reach the handler
		r.data(7, true, prefixed(""))
	})
	r.want(3, "reset CANCEL")
	r.want(7, "reset CANCEL")
	r.want(5, "reset CANCEL")
	for range 2 {
		if err := receive(t, k.left); err != context.DeadlineExceeded {
			t.Errorf("the context ended with %v", err)
		}
	}
	select {
	case err := <-k.left:
		t.Errorf("a call with time left ended with %v", err)
	default:
	}
	r.headers(9, false, callFields(holdPath, "grpc-timeout", "1n")...)
	r.want(9, "reset CANCEL")
}

// A handler that waits for its client ends when its call does.
func TestBlockedHandlersEnd(t *testing.T) {
	k := newKit(t, Options{})
	ended := make(chan error, 2)
	k.server.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Blocked", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Recv", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			err := stream.RecvMsg(new(pb.Empty))
			ended <- err
			return err
		}},
		{StreamName: "Send", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				if err := stream.SendMsg(&pb.Payload{Body: make([]byte, 50_000)}); err != nil {
					ended <- err
					return err
				}
			}
		}},
	}}, nil)
	k.serve()
	r := k.rawClient().hello()
	r.headers(1, false, callFields("/test.Blocked/Recv")...)
	r.headers(3, false, callFields("/test.Blocked/Send", "grpc-timeout", "50m")...)
	r.framer.WriteRSTStream(1, http2.ErrCodeCancel)
	codesSeen := []codes.Code{status.Code(<-ended), status.Code(<-ended)}
	slices.Sort(codesSeen)
	if !slices.Equal(codesSeen, []codes.Code{codes.Canceled, codes.DeadlineExceeded}) {
		t.Errorf("handlers ended with %v", codesSeen)
	}
}

// A handler that is woken because its call's time is up is told just that, however early it looks.
func TestOverdueHandlersAreToldSo(t *testing.T) {
	const calls = 50
	k := newKit(t, Options{})
	ended := make(chan error, calls)
	k.server.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Overdue", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Recv", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			err := stream.RecvMsg(new(pb.Empty))
			ended <- err
			return err
		}},
	}}, nil)
	k.serve()
	r := k.rawClient().hello()
	next := uint32(1)
	for range 10 {
		for range calls {
			r.headers(next, false, callFields("/test.Overdue/Recv", "grpc-timeout", "10m")...)
			next += 2
		}
		for range calls {
			if err := <-ended; status.Code(err) != codes.DeadlineExceeded {
				t.Fatalf("a handler ended with %v", err)
			}
		}
	}
}

// Messages of any size come and go whole, whatever the windows and frame sizes are.
func TestFlowControl(t *testing.T) {
	k := newTestKit(t, Options{RecvBytesMax: 64 << 20})
	for _, window := range []int32{65535, 1 << 20} {
		conn := k.dial(grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		client := pb.NewTestServiceClient(conn)
		for _, size := range []int{0, 1, 16384 - 10, 16384, 65530, 65535, 65536, 300_000, 5 << 20} {
			for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
				r, err := client.UnaryCall(context.Background(), &pb.SimpleRequest{ResponseSize: int32(size), Payload: &pb.Payload{Body: make([]byte, size)}}, options...)
				if err != nil || len(r.Payload.Body) != size {
					t.Fatalf("%d bytes, window %d: %v", size, window, err)
				}
			}
		}
	}
}

// Many calls at a time on one connection, with answers of many sizes, and some that are given up.
func TestManyCalls(t *testing.T) {
	k := newTestKit(t, Options{StreamsMax: 300})
	client := pb.NewTestServiceClient(k.dial())
	done := make(chan error, 64)
	for worker := range cap(done) {
		go func() {
			for i := range 20 {
				ctx, cancel := context.WithCancel(context.Background())
				size := worker * i * 50
				if (worker+i)%7 == 0 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				r, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: int32(size), Payload: &pb.Payload{Body: make([]byte, size/3)}})
				cancel()
				if status.Code(err) == codes.Canceled {
					continue
				}
				if err == nil && len(r.Payload.Body) != size {
					err = errors.New("an answer of another size")
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	c := k.onlyConn()
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.streams) == 0 && c.unread == 0 && c.granted == 0 && c.orphans == 0
	})
}

// A server that streams without end leaves room for others on the connection.
func TestStreamsTakeTurns(t *testing.T) {
	k := newTestKit(t, Options{})
	client := pb.NewTestServiceClient(k.dial())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 3 {
		endless := &pb.StreamingOutputCallRequest{}
		for range 100_000 {
			endless.ResponseParameters = append(endless.ResponseParameters, &pb.ResponseParameters{Size: 10_000})
		}
		stream, err := client.StreamingOutputCall(ctx, endless)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, err := stream.Recv(); err != nil {
					return
				}
			}
		}()
	}
	for range 20 {
		if _, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 100_000}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServiceInfo(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	r.call(1)
	r.want(1, "200 0")
	g := grpc.NewServer()
	g.RegisterService(&holdDesc, k)
	pb.RegisterTestServiceServer(g, nullService{})
	want := g.GetServiceInfo()
	got := k.server.GetServiceInfo()
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for name, w := range want {
		byName := func(a, b grpc.MethodInfo) int { return strings.Compare(a.Name, b.Name) }
		a, b := slices.Clone(got[name].Methods), slices.Clone(w.Methods)
		slices.SortFunc(a, byName)
		slices.SortFunc(b, byName)
		if !slices.Equal(a, b) || got[name].Metadata != w.Metadata {
			t.Errorf("%s: %v, want %v", name, got[name], w)
		}
	}
	for what, register := range map[string]func(){
		"twice":             func() { New(Options{}).register(&holdDesc, &holdDesc) },
		"while it serves":   func() { k.server.RegisterService(&oddDesc, nil) },
		"what does not fit": func() { New(Options{}).RegisterService(&pb.TestService_ServiceDesc, k) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a service was registered %s", what)
				}
			}()
			register()
		}()
	}
}

// register registers services one after the other.
func (s *Server) register(list ...*grpc.ServiceDesc) {
	for _, d := range list {
		s.RegisterService(d, nil)
	}
}

// The peer of a connection over TLS has its certificates.
func TestTLS(t *testing.T) {
	certificate := selfSigned(t)
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	seen := make(chan asked, 1)
	k := newKit(t, Options{Unary: []grpc.UnaryServerInterceptor{mirror(seen)}})
	k.listener = tls.NewListener(k.listener, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	pb.RegisterTestServiceServer(k.server, nullService{})
	k.serve()
	client := pb.NewTestServiceClient(k.dial(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{certificate}, ServerName: "localhost"}))))
	if _, err := client.UnaryCall(context.Background(), &pb.SimpleRequest{Payload: &pb.Payload{Body: make([]byte, 100_000)}}); err != nil {
		t.Fatal(err)
	}
	info, ok := (<-seen).peer.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || info.State.PeerCertificates[0].Subject.CommonName != "somebody" ||
		info.SecurityLevel != credentials.PrivacyAndIntegrity {
		t.Errorf("%+v", info)
	}
	raw, err := net.Dial("tcp", k.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	raw.Write([]byte(http2.ClientPreface))
	if _, err := io.Copy(io.Discard, raw); errors.Is(err, context.DeadlineExceeded) {
		t.Error("a client without TLS is still connected")
	}
}

// One field of the metadata is found as the library finds it, in contexts of any server.
func TestMetadataValue(t *testing.T) {
	k := newKit(t, Options{})
	seen := make(chan string, 1)
	k.server.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Fields", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Look", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			v, ok := MetadataValue(stream.Context(), "fruit")
			_, other := MetadataValue(stream.Context(), "vegetable")
			seen <- fmt.Sprintf("%s %v %v", v, ok, other)
			return nil
		}},
	}}, nil)
	k.serve()
	r := k.rawClient().hello()
	r.headers(1, true, callFields("/test.Fields/Look", "fruit", "pear", "fruit", "plum")...)
	if got := <-seen; got != "pear true false" {
		t.Error(got)
	}
	others := metadata.NewIncomingContext(t.Context(), metadata.Pairs("Fruit", "fig"))
	if v, ok := MetadataValue(others, "fruit"); v != "fig" || !ok {
		t.Error(v, ok)
	}
	if _, ok := MetadataValue(t.Context(), "fruit"); ok {
		t.Error("found where there is none")
	}
}
