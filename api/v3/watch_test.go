package v3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/node"
)

// watcher is a client's watch stream.
type watcher struct {
	t      testing.TB
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
}

// open opens a watch stream with metadata given as pairs.
func (s *server) open(t testing.TB, pairs ...string) *watcher {
	t.Helper()
	c, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx(t), pairs...))
	stream, err := s.watch.Watch(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	return &watcher{t, stream, cancel}
}

func (w *watcher) send(r *pb.WatchRequest) {
	w.t.Helper()
	if err := w.stream.Send(r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watcher) create(r *pb.WatchCreateRequest) {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
}

func (w *watcher) stop(id int64) {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (w *watcher) progress() {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (w *watcher) recv() *pb.WatchResponse {
	w.t.Helper()
	r, err := w.stream.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *watcher) want(what string, want *pb.WatchResponse) {
	w.t.Helper()
	wantMessage(w.t, what, w.recv(), want)
}

// end is the status that the call ended with.
func (w *watcher) end() error {
	w.t.Helper()
	for {
		if _, err := w.stream.Recv(); err != nil {
			return err
		}
	}
}

func putEvent(kv *mvccpb.KeyValue) *mvccpb.Event { return &mvccpb.Event{Kv: kv} }

func deleteEvent(key string, rev int64) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}}
}

func created(id, rev int64) *pb.WatchResponse {
	return &pb.WatchResponse{Header: fullHeader(rev), WatchId: id, Created: true}
}

// TestWatchOverTheWire: traps 43, 44, 47, 50, 51, 52, 54, 55.
func TestWatchOverTheWire(t *testing.T) {
	s := serve(t, nil)
	w := s.open(t)
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c")})
	w.want("first", created(0, 1))
	w.create(&pb.WatchCreateRequest{RangeEnd: []byte{0}, PrevKv: true, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, 77}})
	w.want("second, of everything that is deleted", created(1, 1))
	w.create(&pb.WatchCreateRequest{Key: []byte("c"), WatchId: -7, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}})
	w.want("third, with an id of its own", created(-7, 1))

	if _, err := s.kv.Txn(ctx(t), &pb.TxnRequest{Success: ops{putOp("a"), putOp("b"), putOp("d")}}); err != nil {
		t.Fatal(err)
	}
	w.want("one revision", &pb.WatchResponse{Header: fullHeader(2), Events: []*mvccpb.Event{
		putEvent(pair("a", "", 2, 2, 1)), putEvent(pair("b", "", 2, 2, 1))}})
	s.put(t, "c", "1")
	w.want("put", &pb.WatchResponse{Header: fullHeader(3), WatchId: -7, Events: []*mvccpb.Event{putEvent(pair("c", "1", 3, 3, 1))}})
	if err := s.call(t, &pb.DeleteRangeRequest{Key: []byte("c")}); err != nil {
		t.Fatal(err)
	}
	gone := deleteEvent("c", 4)
	gone.PrevKv = pair("c", "1", 3, 3, 1)
	w.want("delete", &pb.WatchResponse{Header: fullHeader(4), WatchId: 1, Events: []*mvccpb.Event{gone}})

	w.stop(99) // unknown: no answer
	w.stop(0)
	w.want("cancel", &pb.WatchResponse{Header: fullHeader(4), Canceled: true})
	s.put(t, "a", "unseen")
	w.progress()
	w.want("progress", &pb.WatchResponse{Header: fullHeader(5), WatchId: -1})
}

// TestWatchRejections: traps 45 and 46, and negative start revisions.
func TestWatchRejections(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "a", "1")
	w := s.open(t)
	refused := func(reason string) *pb.WatchResponse {
		return &pb.WatchResponse{Header: fullHeader(2), WatchId: -1, Created: true, Canceled: true, CancelReason: reason}
	}
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("b")})
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: -1})
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte{0}})
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), WatchId: 5})
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), WatchId: 5})
	w.want("end below key", refused("mvcc: watcher range is empty"))
	w.want("end at key", refused("mvcc: watcher range is empty"))
	w.want("negative revision", refused("etcdserver: mvcc: required revision has been compacted"))
	w.want("no id was used up", created(0, 2))
	w.want("id of its own", created(5, 2))
	w.want("same id", refused("mvcc: duplicate watch ID provided on the WatchStream"))
}

// TestWatchFromThePast: traps 48, 56, 57, 62 in what they look like on the wire.
func TestWatchFromThePast(t *testing.T) {
	s := serve(t, nil)
	for i := range 5 {
		s.put(t, "a", fmt.Sprint(i)) // up to 6
	}
	if err := s.call(t, &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	w := s.open(t)
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 4})
	w.want("from the floor", created(0, 6))
	var got []*mvccpb.Event
	for len(got) < 3 {
		r := w.recv()
		wantHeader(t, "catching up", r.Header, 6)
		got = append(got, r.Events...)
	}
	for i, e := range got {
		wantMessage(t, "event", e, putEvent(pair("a", fmt.Sprint(i+2), 2, int64(i+4), int64(i+3))))
	}
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 3})
	w.want("from below the floor", created(1, 6))
	w.want("compacted", &pb.WatchResponse{
		Header: fullHeader(0), WatchId: 1, Canceled: true, CompactRevision: 4})
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: 8})
	w.want("from the future", created(2, 6))
	s.put(t, "b", "7")
	s.put(t, "b", "8")
	w.want("its first event", &pb.WatchResponse{Header: fullHeader(8), WatchId: 2, Events: []*mvccpb.Event{putEvent(pair("b", "8", 7, 8, 2))}})
}

// TestWatchNullRequests: trap 72. A request without content is passed over.
func TestWatchNullRequests(t *testing.T) {
	s := serve(t, nil)
	w := s.open(t)
	w.send(&pb.WatchRequest{})
	w.progress() // nobody watches: no answer
	w.stop(0)    // nobody to stop: no answer
	w.create(&pb.WatchCreateRequest{Key: []byte("a")})
	w.want("created", created(0, 1))
}

// TestWatchHalfClose: when the client has nothing more to ask, events go on.
func TestWatchHalfClose(t *testing.T) {
	s := serve(t, nil)
	w := s.open(t)
	w.create(&pb.WatchCreateRequest{Key: []byte("a")})
	if err := w.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	w.want("created", created(0, 1))
	for i := range int64(3) {
		rev := s.put(t, "a", "x")
		w.want("event", &pb.WatchResponse{Header: fullHeader(rev), Events: []*mvccpb.Event{putEvent(pair("a", "x", 2, rev, i+1))}})
	}
	w.cancel()
	if err := w.end(); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

// serverStream is a watch stream without a transport, to see what the handler returns. What it receives creates a
// watcher, or is the error sent to recv.
type serverStream struct {
	grpc.ServerStream
	ctx  context.Context
	recv chan error
	sent chan *pb.WatchResponse
	fail error
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) RecvMsg(m any) error {
	select {
	case err := <-s.recv:
		m.(*pb.WatchRequest).RequestUnion = &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}
		return err
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
}

func (s *serverStream) SendMsg(m any) error {
	if s.fail != nil {
		return s.fail
	}
	pieces, err := Codec().Marshal(m)
	if err != nil {
		return err
	}
	r := new(pb.WatchResponse)
	if err := proto.Unmarshal(pieces.Materialize(), r); err != nil {
		return err
	}
	s.sent <- r
	return nil
}

// serveWatch runs the handler.
func (s *server) serveWatch(stream grpc.ServerStream) error {
	return (&watchService{s: s.services}).Watch(
		&grpc.GenericServerStream[pb.WatchRequest, pb.WatchResponse]{ServerStream: stream})
}

// TestWatchEndStatus: section 3.7. What the handler returns is what is counted, whatever the client sees.
func TestWatchEndStatus(t *testing.T) {
	s := serve(t, nil)
	for _, c := range []struct {
		name string
		end  func(st *serverStream, cancel context.CancelFunc)
		fail error
		want error
	}{
		{"client cancels", func(_ *serverStream, cancel context.CancelFunc) { cancel() }, nil, rpctypes.ErrGRPCWatchCanceled},
		{"client cancels after its last request", func(st *serverStream, cancel context.CancelFunc) {
			st.recv <- io.EOF
			cancel()
		}, nil, rpctypes.ErrGRPCWatchCanceled},
		{"transport breaks", func(st *serverStream, _ context.CancelFunc) {
			st.recv <- status.Error(codes.Unavailable, "transport is closing")
		}, nil, status.Error(codes.Unavailable, "transport is closing")},
	} {
		t.Run(c.name, func(t *testing.T) {
			streamCtx, cancel := context.WithCancel(t.Context())
			defer cancel()
			st := &serverStream{ctx: streamCtx, recv: make(chan error), sent: make(chan *pb.WatchResponse, 10), fail: c.fail}
			done := make(chan error, 1)
			go func() { done <- s.serveWatch(st) }()
			st.recv <- nil
			<-st.sent
			c.end(st, cancel)
			wantError(t, c.name, <-done, c.want)
		})
	}
	t.Run("deadline", func(t *testing.T) {
		streamCtx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		err := s.serveWatch(&serverStream{ctx: streamCtx})
		wantError(t, "deadline", err, status.Error(codes.DeadlineExceeded, context.DeadlineExceeded.Error()))
	})
	t.Run("a message can't be sent", func(t *testing.T) {
		st := &serverStream{ctx: t.Context(), recv: make(chan error), fail: status.Error(codes.ResourceExhausted, "too large")}
		done := make(chan error, 1)
		go func() { done <- s.serveWatch(st) }()
		for {
			select {
			case st.recv <- nil: // the failure shows at one of the next requests
			case err := <-done:
				wantError(t, "failed to send", err, st.fail)
				return
			}
		}
	})
	t.Run("a message can't be sent after the last request", func(t *testing.T) {
		st := &serverStream{ctx: t.Context(), recv: make(chan error), fail: status.Error(codes.ResourceExhausted, "too large")}
		done := make(chan error, 1)
		go func() { done <- s.serveWatch(st) }()
		for {
			select {
			case st.recv <- nil:
				st.recv <- io.EOF
			case err := <-done:
				wantError(t, "failed to send", err, st.fail)
				return
			}
		}
	})
	if n := s.hub.Streams(); n != 0 {
		t.Errorf("%d streams are left over", n)
	}
}

// TestWatchEndFreesEverything: traps 53 and 71 for streams of all kinds.
func TestWatchEndFreesEverything(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "a", "1")
	for _, pairs := range [][]string{nil, {"hasleader", "true"}} {
		w := s.open(t, pairs...)
		for i := range 20 {
			w.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: int64(i % 3)})
		}
		for n := 0; n < 20; {
			if w.recv().Created {
				n++
			}
		}
		w.cancel()
		if err := w.end(); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	}
	for s.hub.Streams() != 0 || s.hub.Watchers() != 0 { // the server learns of it a moment after the client
		runtime.Gosched()
	}
}

// TestIdleWatchGoroutines: an idle stream costs gRPC's goroutine for the call and one of ours, with hasleader or without.
func TestIdleWatchGoroutines(t *testing.T) {
	s := serve(t, nil)
	const streams = 50
	for _, insists := range []bool{false, true} {
		before := runtime.NumGoroutine()
		streamCtx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		for range streams {
			st := &serverStream{ctx: streamCtx, recv: make(chan error), sent: make(chan *pb.WatchResponse, 10)}
			go func() {
				done <- s.services.streams.run(st, insists, s.serveWatch)
			}()
			st.recv <- nil
			<-st.sent
		}
		for runtime.NumGoroutine() > before+2*streams+2 { // senders are about to end
			runtime.Gosched()
		}
		cancel()
		for range streams {
			if err := <-done; !errors.Is(err, rpctypes.ErrGRPCWatchCanceled) {
				t.Error(err)
			}
		}
	}
}

// TestWatchSlowClient: a client that reads nothing holds nobody up, and its handler ends with the call.
func TestWatchSlowClient(t *testing.T) {
	s := serve(t, nil)
	slow, quick := s.open(t), s.open(t)
	slow.create(&pb.WatchCreateRequest{Key: []byte("a")})
	quick.create(&pb.WatchCreateRequest{Key: []byte("a")})
	quick.want("created", created(0, 1))
	value := string(make([]byte, 200_000))
	for i := range int64(40) {
		rev := s.put(t, "a", value)
		if got := quick.recv(); len(got.Events) != 1 || got.Events[0].Kv.ModRevision != rev {
			t.Fatalf("event %d: %v", i, got.Header)
		}
	}
	for range 200 { // more replies than are queued
		slow.create(&pb.WatchCreateRequest{Key: []byte("b")})
	}
	slow.cancel()
	quick.cancel()
	quick.end()
	for s.hub.Streams() != 0 {
		runtime.Gosched()
	}
}

// TestWatchManyAtRandom: whatever the mix of requests, replies to creates and cancels come in the order of the requests,
// and every event comes once, in order.
func TestWatchManyAtRandom(t *testing.T) {
	rnd := seeded(t)
	s := serve(t, nil)
	w := s.open(t)
	type reply struct {
		created bool
		id      int64
	}
	expect := make(chan reply, 1000)
	seed := [2]uint64{rnd.Uint64(), rnd.Uint64()}
	send := func(r *pb.WatchRequest) bool {
		err := w.stream.Send(r)
		if err != nil {
			t.Errorf("send: %v", err)
		}
		return err == nil
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	defer w.cancel()
	asking.Go(func() {
		rnd := rand.New(rand.NewPCG(seed[0], seed[1]))
		defer close(expect)
		var live []int64
		next := int64(0)
		for range 200 {
			switch n := rnd.IntN(10); {
			case n < 4:
				create := &pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1}
				if !send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}) {
					return
				}
				expect <- reply{true, next}
				live = append(live, next)
				next++
			case n < 6 && len(live) > 0:
				i := rnd.IntN(len(live))
				stop := &pb.WatchCancelRequest{WatchId: live[i]}
				if !send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: stop}}) {
					return
				}
				expect <- reply{false, live[i]}
				live = append(live[:i], live[i+1:]...)
			default:
				s.put(t, "k", "v")
			}
		}
		if err := w.stream.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	last := map[int64]int64{}
	for want := range expect {
		for {
			got := w.recv()
			for _, e := range got.Events {
				if e.Kv.ModRevision != max(last[got.WatchId], 1)+1 {
					t.Fatalf("watcher %d: revision %d after %d", got.WatchId, e.Kv.ModRevision, last[got.WatchId])
				}
				last[got.WatchId] = e.Kv.ModRevision
			}
			if len(got.Events) > 0 {
				if last[got.WatchId] < 0 {
					t.Fatalf("watcher %d goes on after its end", got.WatchId)
				}
				continue
			}
			if got.Created != want.created || got.Canceled == want.created || got.WatchId != want.id {
				t.Fatalf("got %v, want %+v", got, want)
			}
			if got.Canceled {
				last[got.WatchId] = -1 << 62
			}
			break
		}
	}
}

// TestWatchLosesItsLeader: traps 67 and 68.
func TestWatchLosesItsLeader(t *testing.T) {
	s := serve(t, func(o *Options) { o.ElectionTimeout = 1e6 })
	strict, plain := s.open(t, "hasleader", "true"), s.open(t)
	for _, w := range []*watcher{strict, plain} {
		w.create(&pb.WatchCreateRequest{Key: []byte("a")})
		w.want("created", created(0, 1))
	}
	s.set(func(st *node.Status) { st.Leader = 0 })
	wantError(t, "the strict stream", strict.end(), rpctypes.ErrGRPCNoLeader)
	late := s.open(t, "hasleader", "true")
	wantError(t, "a strict stream afterwards", late.end(), rpctypes.ErrGRPCNoLeader)
	rev := s.put(t, "a", "1") // the member stands in for one that still gets entries
	if got := plain.recv(); len(got.Events) != 1 || got.Header.Revision != rev {
		t.Errorf("the plain stream got %v", got)
	}
}
