package rpc

import (
	"context"
	"math"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// expect reads frames until one is of the kind that is wanted.
func expect[F http2.Frame](r *rawClient) F {
	r.t.Helper()
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			r.t.Fatal(err)
		}
		if found, ok := f.(F); ok {
			return found
		}
	}
}

func TestGracefulStop(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	r.headers(1, false, callFields(holdPath)...)
	<-k.entered
	stopped := make(chan struct{})
	go func() {
		k.server.GracefulStop()
		close(stopped)
	}()
	first := expect[*http2.GoAwayFrame](r)
	if first.LastStreamID != math.MaxInt32 || first.ErrCode != http2.ErrCodeNo || string(first.DebugData()) != "graceful_stop" {
		t.Errorf("first %v", first)
	}
	ping := expect[*http2.PingFrame](r)
	r.call(3) // sent before the client knew
	r.check(r.framer.WritePing(true, ping.Data))
	r.headers(5, false, callFields(holdPath)...) // it should have known
	second := expect[*http2.GoAwayFrame](r)
	if second.LastStreamID != 3 || second.ErrCode != http2.ErrCodeNo {
		t.Errorf("second %v", second)
	}
	select {
	case <-stopped:
		t.Error("stopped while a call was under way")
	default:
	}
	k.release <- struct{}{}
	r.want(1, "200 0")
	<-stopped
	r.wantClosed()
	if len(k.entered) > 0 {
		t.Error("a call behind the end was carried out")
	}
	if err := k.server.Serve(k.listener); err != ErrStopped {
		t.Errorf("serving again: %v", err)
	}
}

// A client that does not answer the ping is given some time, and its calls theirs.
func TestStopCutsGracefulStopShort(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	r.headers(1, false, callFields(holdPath)...)
	<-k.entered
	silent := k.rawClient() // has not even said hello
	defer silent.conn.Close()
	stopped := make(chan struct{})
	go func() {
		k.server.GracefulStop()
		close(stopped)
	}()
	expect[*http2.GoAwayFrame](r)
	silent.wantClosed()
	k.server.Stop()
	<-stopped
	if err := <-k.left; err != context.Canceled {
		t.Errorf("the context ended with %v", err)
	}
	r.wantClosed()
}

// Real clients lose no call when a server stops in order.
func TestGracefulStopUnderLoad(t *testing.T) {
	var servers []*kit
	for range 2 {
		servers = append(servers, newTestKit(t, Options{}))
	}
	current := make(chan string, 1)
	current <- servers[0].listener.Addr().String()
	conn := servers[0].dial(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		address := <-current
		current <- address
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}))
	client := pb.NewTestServiceClient(conn)
	done := make(chan error, 16)
	stop := make(chan struct{})
	for range cap(done) {
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if _, err := client.UnaryCall(context.Background(), &pb.SimpleRequest{ResponseSize: 10_000}, grpc.WaitForReady(true)); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	<-current
	current <- servers[1].listener.Addr().String()
	servers[0].server.GracefulStop()
	close(stop)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestKeepalive(t *testing.T) {
	timeout := 40 * time.Millisecond
	for !livesWhileItAnswers(t, timeout) {
		if timeout *= 4; timeout > 3*time.Second { // less than that may be too little on a busy machine
			t.Fatal("the connection of a client that answers is closed")
		}
	}
}

// livesWhileItAnswers has a client answer five pings, and reports whether they came. From then on it does not answer.
func livesWhileItAnswers(t *testing.T, timeout time.Duration) bool {
	k := newTestKit(t, Options{KeepaliveTime: 20 * time.Millisecond, KeepaliveTimeout: timeout})
	r := k.rawClient().hello()
	for answered := 0; answered < 5; {
		f, err := r.framer.ReadFrame()
		if err != nil {
			return false
		}
		if ping, ok := f.(*http2.PingFrame); ok {
			if r.framer.WritePing(true, ping.Data) != nil {
				return false
			}
			answered++
		}
	}
	r.wantClosed()
	return true
}

// Pings are counted as grpc-go counts them: data and headers from the server forgive, so do calls that take long.
func TestPingEnforcement(t *testing.T) {
	ping := func(r *rawClient) {
		r.check(r.framer.WritePing(false, [8]byte{1}))
		expect[*http2.PingFrame](r)
	}
	k := newTestKit(t, Options{PingTimeMin: time.Nanosecond})
	r := k.rawClient().hello()
	r.headers(1, false, callFields(holdPath)...)
	for range 20 {
		ping(r)
	}
	k.release <- struct{}{}
	r.want(1, "200 0")
	for range 3 { // the first is forgiven
		ping(r)
	}
	r.framer.WritePing(false, [8]byte{1})
	r.framer.WritePing(false, [8]byte{1})
	if a := r.want(0, "goaway ENHANCE_YOUR_CALM"); a.debug != "too_many_pings" {
		t.Errorf("debug %q", a.debug)
	}

	k = newTestKit(t, Options{PingTimeMin: time.Nanosecond, IdlePings: true})
	r = k.rawClient().hello()
	for range 20 {
		ping(r)
	}
}

// closeListener makes connections that close only once something else has happened.
type closeListener struct {
	net.Listener
	before func()
}

func (l *closeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return closeConn{c, l.before}, nil
}

type closeConn struct {
	net.Conn
	before func()
}

func (c closeConn) Close() error {
	c.before()
	return c.Conn.Close()
}

// Handlers hear of the end of their connection at once, and not when everything that was ready is written and it is closed.
func TestEndOfConnectionEndsCallsFirst(t *testing.T) {
	k := newKit(t, Options{})
	k.server.RegisterService(&holdDesc, k)
	left := make(chan struct{})
	k.listener = &closeListener{k.listener.(stingyListener).Listener, func() {
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Error("the connection is closed, and a call does not know")
		}
	}}
	k.serve()
	r := k.rawClient().hello()
	r.headers(1, false, callFields(holdPath)...)
	<-k.entered
	r.check(r.conn.Close())
	if err := <-k.left; err != context.Canceled {
		t.Errorf("the call ended with %v", err)
	}
	close(left)
}
