package v3

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"keelson/env"
	"keelson/node"
)

type requestCounts struct {
	mu   sync.Mutex
	list []string
}

func (c *requestCounts) Count(kind, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, kind+" "+version)
}

// unary sends a request past the interceptor, as if it had come with the metadata.
func (s *Services) unary(t testing.TB, req any, pairs ...string) error {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(pairs...))
	_, err := s.Unary()(ctx, req, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return nil, nil })
	return err
}

func (s *Services) streaming(t testing.TB, method string, pairs ...string) error {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(pairs...))
	return s.Stream()(nil, &serverStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: method},
		func(any, grpc.ServerStream) error { return nil })
}

// TestAdmissionOrder: section 1.3. Everything is wrong at first, and is put right one thing after the other.
func TestAdmissionOrder(t *testing.T) {
	capable, counts := false, &requestCounts{}
	s := serve(t, func(o *Options) { o.Capable, o.Requests = func() bool { return capable }, counts })
	s.set(func(st *node.Status) { st.Learner, st.Leader = true, 0 })
	bad, good := []string{"client-api-version", "\xff", "hasleader", "true"}, []string{"client-api-version", "3.7", "hasleader", "true"}
	both := func(what string, want error, pairs []string) {
		t.Helper()
		for kind, err := range map[string]error{
			"unary":  s.services.unary(t, &pb.PutRequest{}, pairs...),
			"stream": s.services.streaming(t, pb.Watch_Watch_FullMethodName, pairs...),
		} {
			if err != want {
				t.Errorf("%s, %s: %v, want %v", what, kind, err, want)
			}
		}
	}
	both("capability", rpctypes.ErrGRPCNotCapable, bad)
	capable = true
	both("learner", rpctypes.ErrGRPCNotSupportedForLearner, bad)
	s.set(func(st *node.Status) { st.Learner = false })
	both("version", rpctypes.ErrGRPCInvalidClientAPIVersion, bad)
	if len(counts.list) != 0 {
		t.Errorf("refused before counting, but counted: %v", counts.list)
	}
	both("leader", rpctypes.ErrGRPCNoLeader, good)
	both("leader, not insisted upon", nil, []string{"hasleader", "yes"})
	s.set(func(st *node.Status) { st.Leader = 1 })
	both("nothing", nil, good)
	slices.Sort(counts.list)
	want := []string{"stream 3.7", "stream 3.7", "stream unknown", "unary 3.7", "unary 3.7", "unary unknown"}
	if !slices.Equal(counts.list, want) {
		t.Errorf("counted %v, want %v", counts.list, want)
	}
}

// TestLearnerServes: section 1.3, rule 2, and trap 99.
func TestLearnerServes(t *testing.T) {
	s := serve(t, nil)
	s.set(func(st *node.Status) { st.Learner = true })
	for _, req := range []any{&pb.StatusRequest{}, &pb.RangeRequest{Key: []byte("k"), Serializable: true}} {
		if err := s.call(t, req); err != nil {
			t.Errorf("%T: %v", req, err)
		}
	}
	local := rangeOp("k", "")
	local.GetRequestRange().Serializable = true
	for _, req := range []any{
		&pb.RangeRequest{Key: []byte("k")}, put("k", "v"), &pb.DeleteRangeRequest{Key: []byte("k")}, &pb.TxnRequest{},
		&pb.TxnRequest{Success: ops{local}}, &pb.CompactionRequest{}, &pb.LeaseGrantRequest{}, &pb.LeaseLeasesRequest{},
		&pb.MemberListRequest{}, &pb.HashKVRequest{}, &pb.AlarmRequest{}, &pb.LeaseTimeToLiveRequest{}, &pb.MemberAddRequest{},
		&pb.MemberRemoveRequest{}, &pb.MemberUpdateRequest{}, &pb.MemberPromoteRequest{}, &pb.MoveLeaderRequest{},
	} {
		wantError(t, fmt.Sprintf("%T", req), s.call(t, req), rpctypes.ErrGRPCNotSupportedForLearner)
	}
	_, _, err := s.stream(t, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	wantError(t, "RangeStream", err, rpctypes.ErrGRPCNotSupportedForLearner)
	wantError(t, "Watch", s.open(t).end(), rpctypes.ErrGRPCNotSupportedForLearner)
	if err := s.services.streaming(t, pb.Maintenance_Snapshot_FullMethodName); err != nil {
		t.Errorf("Snapshot: %v", err)
	}
}

// receiving is a handler that never ends by itself.
func receiving(s grpc.ServerStream) error { return s.RecvMsg(new(pb.WatchRequest)) }

// TestLeaderWatch: section 1.5. Three looks in a row without a leader end a stream that insists on one, two do not, and
// others go on.
func TestLeaderWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call, hangUp := context.WithCancel(t.Context())
		var leader, ended, otherEnded atomic.Bool
		leader.Store(true)
		w := newLeaderWatch(env.SystemClock(), time.Second, leader.Load)
		o := newOpenStreams(w)
		var end error
		go func() {
			end = o.run(&serverStream{ctx: call}, true, receiving)
			ended.Store(true)
		}()
		go func() {
			o.run(&serverStream{ctx: call}, false, receiving)
			otherEnded.Store(true)
		}()
		time.Sleep(10*time.Second + time.Second/2)
		leader.Store(false)
		time.Sleep(2 * time.Second)
		leader.Store(true)
		time.Sleep(time.Second)
		leader.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ended.Load() {
			t.Fatalf("ended early: %v", end)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !ended.Load() || end != rpctypes.ErrGRPCNoLeader {
			t.Fatalf("ended %v: %v", ended.Load(), end)
		}
		if otherEnded.Load() {
			t.Error("a stream that does not insist on a leader has ended")
		}
		hangUp()
		o.shutdown()
		o.wait()
		if w.stop != nil || len(w.streams) != 0 || len(o.open) != 0 {
			t.Error("it goes on looking for nobody")
		}
	})
}

// TestStreamsKeepOtherEnds: a stream that ends by itself keeps its own outcome.
func TestStreamsKeepOtherEnds(t *testing.T) {
	o := newOpenStreams(newLeaderWatch(env.SystemClock(), time.Hour, func() bool { return true }))
	for _, want := range []error{nil, rpctypes.ErrGRPCWatchCanceled} {
		for _, insists := range []bool{true, false} {
			got := o.run(&serverStream{ctx: t.Context()}, insists, func(grpc.ServerStream) error { return want })
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
	o.shutdown()
	o.wait()
}

// TestShutdownEndsStreams: streams end at once, whatever their handlers are doing, and no more begin; wait waits for the
// handlers.
func TestShutdownEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call, hangUp := context.WithCancel(t.Context())
		o := newOpenStreams(newLeaderWatch(env.SystemClock(), time.Second, func() bool { return true }))
		ends := make(chan error, 3)
		for _, insists := range []bool{true, false} {
			go func() { ends <- o.run(&serverStream{ctx: call}, insists, receiving) }()
		}
		go func() {
			ends <- o.run(&serverStream{ctx: call}, false, func(s grpc.ServerStream) error {
				<-s.Context().Done()
				return rpctypes.ErrGRPCWatchCanceled
			})
		}()
		synctest.Wait()
		o.shutdown()
		synctest.Wait()
		for range 3 {
			select {
			case err := <-ends:
				if err != rpctypes.ErrGRPCStopped {
					t.Errorf("an open stream ends with %v", err)
				}
			default:
				t.Error("a stream goes on")
			}
		}
		if err := o.run(&serverStream{ctx: call}, false, nil); err != rpctypes.ErrGRPCStopped {
			t.Errorf("a late stream gets %v", err)
		}
		var waited atomic.Bool
		go func() {
			o.wait()
			waited.Store(true)
		}()
		synctest.Wait()
		if waited.Load() {
			t.Error("handlers are still receiving, and nobody waits for them")
		}
		hangUp() // as the server does once the call has ended
		synctest.Wait()
		if !waited.Load() {
			t.Error("wait goes on without handlers")
		}
	})
}

// TestShutdownOverTheWire: sections 1.5 and 3.7. Whatever a client has open ends with the error that makes it go elsewhere.
func TestShutdownOverTheWire(t *testing.T) {
	s := serve(t, nil)
	w, insisting := s.open(t), s.open(t, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	for _, w := range []*watcher{w, insisting} {
		w.create(&pb.WatchCreateRequest{Key: []byte("k")})
		if r, err := w.stream.Recv(); err != nil || !r.Created {
			t.Fatal(r, err)
		}
	}
	alive, err := s.lease.LeaseKeepAlive(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: 5}); err != nil {
		t.Fatal(err)
	}
	if _, err := alive.Recv(); err != nil {
		t.Fatal(err)
	}
	s.services.Shutdown()
	for what, recv := range map[string]func() error{
		"watch":       func() error { _, err := w.stream.Recv(); return err },
		"with leader": func() error { _, err := insisting.stream.Recv(); return err },
		"keep-alive":  func() error { _, err := alive.Recv(); return err },
	} {
		wantError(t, what, recv(), rpctypes.ErrGRPCStopped)
	}
	wantError(t, "a late watch", s.open(t).end(), rpctypes.ErrGRPCStopped)
	s.put(t, "k", "v") // calls go on
}
