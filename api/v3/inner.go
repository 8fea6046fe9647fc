package v3

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inner makes calls of these services on behalf of another call, within the process. They pass the same checks as if the
// client had made them itself, with its credentials, because they are carried out by the same methods with the same context,
// behind the same decision who may.
type inner struct{ s *Services }

// txn is KV.Txn.
func (i inner) txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	ctx, err := i.s.authorize(ctx, pb.KV_Txn_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	e, err := (&kv{i.s}).Txn(ctx, r)
	if err != nil {
		return nil, err
	}
	reply := new(pb.TxnResponse)
	return reply, e.(*encoded).decode(reply) // which it is: the calls that are made of others are not deferred
}

// get is KV.Range.
func (i inner) get(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	ctx, err := i.s.authorize(ctx, pb.KV_Range_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	if err := checkRange(r); err != nil {
		return nil, err
	}
	e, err := (&kv{i.s}).readNow(ctx, r)
	if err != nil {
		return nil, err
	}
	reply := new(pb.RangeResponse)
	return reply, e.decode(reply)
}

// grant is Lease.LeaseGrant.
func (i inner) grant(ctx context.Context, ttlSeconds int64) (int64, error) {
	r := &pb.LeaseGrantRequest{TTL: ttlSeconds}
	ctx, err := i.s.authorize(ctx, pb.Lease_LeaseGrant_FullMethodName, r)
	if err != nil {
		return 0, err
	}
	reply, err := (&leaseService{s: i.s}).LeaseGrant(ctx, r)
	return reply.GetID(), err
}

// revoke is Lease.LeaseRevoke.
func (i inner) revoke(ctx context.Context, id int64) error {
	r := &pb.LeaseRevokeRequest{ID: id}
	ctx, err := i.s.authorize(ctx, pb.Lease_LeaseRevoke_FullMethodName, r)
	if err != nil {
		return err
	}
	_, err = (&leaseService{s: i.s}).LeaseRevoke(ctx, r)
	return err
}

// decode turns an encoded reply into its message, for a receiver in this process.
func (e *encoded) decode(to proto.Message) error {
	pieces := e.take()
	defer pieces.Free()
	return proto.Unmarshal(pieces.Materialize(), to)
}

// innerWatch is a Watch stream whose client is in this process. Close it.
type innerWatch struct {
	grpc.ServerStream // nil: whatever is not below is not used
	ctx               context.Context
	end               context.CancelFunc

	requests  []*pb.WatchRequest // not received by the handler yet; only its goroutine looks
	responses chan *pb.WatchResponse
	ended     chan struct{}
	err       error // set before ended is closed
}

// watch is Watch.Watch with the given requests.
func (i inner) watch(ctx context.Context, creates ...*pb.WatchCreateRequest) *innerWatch {
	ctx, end := context.WithCancel(ctx)
	w := &innerWatch{ctx: ctx, end: end, responses: make(chan *pb.WatchResponse), ended: make(chan struct{})}
	for _, c := range creates {
		w.requests = append(w.requests, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}})
	}
	go func() {
		defer close(w.ended)
		w.err = (&watchService{s: i.s}).Watch(&grpc.GenericServerStream[pb.WatchRequest, pb.WatchResponse]{ServerStream: w})
	}()
	return w
}

// next returns the next response; an error says why there will be none.
func (w *innerWatch) next() (*pb.WatchResponse, error) {
	select {
	case r := <-w.responses:
		return r, nil
	case <-w.ended:
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		return nil, w.err
	}
}

// close ends the stream and returns when its handler has ended.
func (w *innerWatch) close() {
	w.end()
	<-w.ended
}

// Context implements grpc.ServerStream.
func (w *innerWatch) Context() context.Context { return w.ctx }

// RecvMsg implements grpc.ServerStream: after the requests, the end of the call.
func (w *innerWatch) RecvMsg(m any) error {
	if len(w.requests) == 0 {
		<-w.ctx.Done()
		return w.ctx.Err()
	}
	m.(*pb.WatchRequest).RequestUnion = w.requests[0].RequestUnion
	w.requests = w.requests[1:]
	return nil
}

// SendMsg implements grpc.ServerStream.
func (w *innerWatch) SendMsg(m any) error {
	r := new(pb.WatchResponse)
	if err := m.(*encoded).decode(r); err != nil {
		return err
	}
	select {
	case w.responses <- r:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// composite is the error of a call that is made of others: what these were refused with reaches the client as Unknown,
// with their text, by which clients tell errors apart. Only the end of the call itself keeps its code.
func composite(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if cause := context.Cause(ctx); isEnd(cause) {
			return cause
		}
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.Unknown, rpctypes.ErrorDesc(wireError(err)))
}

// longCalls are the calls under way, other than streams, that wait for other clients. They end with the services.
type longCalls struct {
	mu      sync.Mutex
	open    map[*context.CancelCauseFunc]struct{}
	closed  bool
	running sync.WaitGroup // added to under mu, while not closed
}

// run runs a call with a context that also ends with the services.
func (l *longCalls) run(ctx context.Context, call func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if !l.add(&end) {
		return rpctypes.ErrGRPCStopped
	}
	defer l.remove(&end)
	return composite(ctx, call(ctx))
}

func (l *longCalls) add(end *context.CancelCauseFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if l.open == nil {
		l.open = map[*context.CancelCauseFunc]struct{}{}
	}
	l.open[end] = struct{}{}
	l.running.Add(1)
	return true
}

func (l *longCalls) remove(end *context.CancelCauseFunc) {
	l.mu.Lock()
	delete(l.open, end)
	l.mu.Unlock()
	l.running.Done()
}

// endAll ends the calls under way.
func (l *longCalls) endAll(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for end := range l.open {
		(*end)(cause)
	}
}

// shutdown ends all calls and lets no more begin.
func (l *longCalls) shutdown() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.endAll(rpctypes.ErrGRPCStopped)
}

// wait returns when all calls have ended.
func (l *longCalls) wait() { l.running.Wait() }
