package rpc

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

const laterPath = "/test.Later/Unary"

// laterService hands its answers to the test.
type laterService struct {
	handed chan *Deferred  // nil: the handler had to answer itself
	ends   chan error      // causes that OnEnd was told of
	before func(*Deferred) // called before the handler returns; nil: nothing is
}

func newLaterService() *laterService {
	return &laterService{handed: make(chan *Deferred, 1000), ends: make(chan error, 1000)}
}

func (l *laterService) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "test.Later", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Unary",
		Handler: func(_ any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
			r := new(pb.SimpleRequest)
			if err := decode(r); err != nil {
				return nil, err
			}
			return around(ctx, r, &grpc.UnaryServerInfo{FullMethod: laterPath}, func(ctx context.Context, req any) (any, error) {
				d := Defer(ctx)
				l.handed <- d
				if d == nil {
					return new(pb.SimpleResponse), nil
				}
				d.OnEnd(func(cause error) error {
					l.ends <- cause
					return status.FromContextError(cause).Err()
				})
				if l.before != nil {
					l.before(d)
				}
				return d, nil
			})
		},
	}}}
}

// counted is an interceptor that tells of each outcome.
func counted(outcomes chan error) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		reply, err := next(ctx, req)
		if d, ok := reply.(*Deferred); ok {
			d.Then(func(err error) { outcomes <- err })
		} else {
			outcomes <- err
		}
		return reply, err
	}
}

func newLaterKit(t *testing.T, o Options) (*kit, *laterService, chan error) {
	l, outcomes := newLaterService(), make(chan error, 1000)
	o.Deferred, o.Unary = []string{laterPath}, []grpc.UnaryServerInterceptor{counted(outcomes)}
	k := newKit(t, o)
	k.server.RegisterService(l.desc(), nil)
	pb.RegisterTestServiceServer(k.server, nullService{})
	k.serve()
	return k, l, outcomes
}

func (r *rawClient) later(stream uint32, more ...string) {
	r.t.Helper()
	r.headers(stream, false, callFields(laterPath, more...)...)
	r.data(stream, true, prefixed(""))
}

func TestDeferred(t *testing.T) {
	k, l, outcomes := newLaterKit(t, Options{})
	r := k.rawClient().hello()
	r.later(1)
	r.later(3)
	first, second := <-l.handed, <-l.handed
	r.call(5) // nobody waits for them
	r.want(5, "200 0")
	<-outcomes
	second.Complete(new(pb.SimpleResponse), nil)
	r.want(3, "200 0")
	first.Complete(nil, status.Error(codes.Aborted, "no"))
	r.want(1, "200 10 no")
	first.Complete(new(pb.SimpleResponse), nil) // too late
	if a, b := <-outcomes, <-outcomes; a != nil || status.Code(b) != codes.Aborted {
		t.Errorf("outcomes %v, %v", a, b)
	}

	l.before = func(d *Deferred) { d.Complete(new(pb.SimpleResponse), nil) } // before anybody could ask to be told
	r.later(7)
	r.want(7, "200 0")
	if err := <-outcomes; err != nil {
		t.Error(err)
	}
	if len(l.ends) > 0 || len(outcomes) > 0 {
		t.Errorf("%d ends, %d outcomes too many", len(l.ends), len(outcomes))
	}
}

// What is put off until everything is looked at that came is done then, and before more is waited for; also if that is the end.
func TestSoon(t *testing.T) {
	k, l, outcomes := newLaterKit(t, Options{})
	var handled, soon int
	seen := make(chan [2]int, 100)
	l.before = func(d *Deferred) {
		handled++
		d.Soon(func() {
			soon++
			seen <- [2]int{handled, soon}
			d.Complete(new(pb.SimpleResponse), nil)
		})
	}
	r := k.rawClient().hello()
	r.together(func() {
		for id := uint32(1); id < 20; id += 2 {
			r.later(id)
		}
	})
	for i := range 10 {
		if got, want := <-seen, [2]int{10, i + 1}; got != want {
			t.Errorf("handled and done %v, want %v", got, want)
		}
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	r.together(func() { // the last thing that it says
		r.later(21)
		r.framer.WriteData(0, false, []byte("of no stream"))
	})
	if got, want := <-seen, [2]int{11, 11}; got != want {
		t.Errorf("handled and done %v at the end, want %v", got, want)
	}
}

// Whatever ends a call that waits for its answer is its outcome, once.
func TestDeferredEnds(t *testing.T) {
	for name, c := range map[string]struct {
		more []string
		end  func(*rawClient)
		want error
	}{
		"reset":      {nil, func(r *rawClient) { r.framer.WriteRSTStream(1, http2.ErrCodeCancel) }, context.Canceled},
		"connection": {nil, func(r *rawClient) { r.conn.Close() }, context.Canceled},
		"deadline":   {[]string{"grpc-timeout", "3S"}, func(*rawClient) {}, context.DeadlineExceeded}, // enough to reach the handler
	} {
		t.Run(name, func(t *testing.T) {
			k, l, outcomes := newLaterKit(t, Options{})
			r := k.rawClient().hello()
			r.together(func() { r.later(1, c.more...) })
			d := receive(t, l.handed)
			c.end(r)
			if cause := receive(t, l.ends); cause != c.want {
				t.Errorf("it ended by %v", cause)
			}
			if err := receive(t, outcomes); status.Code(err) != status.FromContextError(c.want).Code() {
				t.Errorf("its outcome is %v", err)
			}
			d.Complete(new(pb.SimpleResponse), nil)
			k.server.handlers.Wait()
			if len(outcomes) > 0 {
				t.Errorf("another outcome: %v", <-outcomes)
			}
		})
	}
}

// Calls that can't be deferred are carried out on goroutines that may wait.
func TestNotDeferred(t *testing.T) {
	may := false
	k, l, _ := newLaterKit(t, Options{MayDefer: func() bool { return may }})
	r := k.rawClient().hello()
	r.later(1)
	if d := <-l.handed; d != nil {
		t.Error("deferred though it may not be")
	}
	r.want(1, "200 0")
	r.headers(3, false, callFields(laterPath, "grpc-encoding", "gzip")...)
	r.data(3, true, gzipped(""))
	r.want(3, "200 0")
	if d := <-l.handed; d != nil {
		t.Error("a compressed request is deferred")
	}
	if Defer(context.Background()) != nil {
		t.Error("any context can be deferred")
	}
}

// A server that stops in order waits for answers that are still to come.
func TestGracefulStopWaitsForDeferred(t *testing.T) {
	k, l, _ := newLaterKit(t, Options{})
	r := k.rawClient().hello()
	r.later(1)
	d := <-l.handed
	stopped := make(chan struct{})
	go func() {
		k.server.GracefulStop()
		close(stopped)
	}()
	ping := expect[*http2.PingFrame](r)
	r.check(r.framer.WritePing(true, ping.Data))
	expect[*http2.GoAwayFrame](r)
	select {
	case <-stopped:
		t.Error("it did not wait")
	default:
	}
	done := make(chan struct{})
	d.Go(func() {
		d.Complete(new(pb.SimpleResponse), nil)
		close(done)
	})
	<-done
	r.want(1, "200 0")
	<-stopped
}

// Answers and ends race in every way; each call has one outcome, and nothing is left.
func TestDeferredUnderLoad(t *testing.T) {
	k, l, outcomes := newLaterKit(t, Options{})
	var handed atomic.Int64
	stop := make(chan struct{})
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			select {
			case d := <-l.handed:
				handed.Add(1)
				answering.Go(func() { d.Complete(new(pb.SimpleResponse), nil) })
			case <-stop:
				return
			}
		}
	})
	conn := k.dial()
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if i%3 == 0 {
				time.AfterFunc(time.Duration(i)*time.Microsecond, cancel)
			}
			err := conn.Invoke(ctx, laterPath, new(pb.SimpleRequest), new(pb.SimpleResponse))
			if err != nil && !(i%3 == 0 && status.Code(err) == codes.Canceled) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	all.Wait()
	c := k.onlyConn()
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.streams) == 0 && c.orphans == 0 && c.unread == 0 && int64(len(outcomes)) == handed.Load()
	})
	close(stop)
	answering.Wait()
}
