package v3

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"keelson/api/identity"
	"keelson/state/auth"
	"keelson/watch"
)

// watchService is the service Watch. What is watched and when it is told lives in package watch; here are the messages.
type watchService struct {
	pb.UnimplementedWatchServer
	s *Services
}

// Watch serves one stream: the handler's goroutine receives, and the hub sends when there is something to send. When
// the client has nothing more to ask, its watchers live on until the call ends.
func (w *watchService) Watch(stream pb.Watch_WatchServer) error {
	sender := &watchSender{s: w.s, stream: stream, failed: make(chan error, 1)}
	ws := w.s.o.Hub.NewStream(sender)
	// Receiving waits inside the hub while the client does not take its replies: this wakes it up.
	defer context.AfterFunc(stream.Context(), ws.Close)()
	err := w.receive(stream, ws, sender)
	if errors.Is(err, io.EOF) {
		select {
		case <-stream.Context().Done():
			err = stream.Context().Err()
		case err = <-sender.failed:
		}
	}
	sender.ended.Store(true)
	ws.Close()
	// Receiving may learn of the cancellation a moment before the context does.
	if errors.Is(stream.Context().Err(), context.Canceled) || status.Code(err) == codes.Canceled {
		return rpctypes.ErrGRPCWatchCanceled
	}
	return wireError(err)
}

// receive passes on requests until the client ends or breaks off. A response that could not be sent for another reason
// shows with the next request: until then the handler can't know.
func (w *watchService) receive(stream pb.Watch_WatchServer, ws *watch.Stream, sender *watchSender) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			w.s.noteBroken("watch", true, err)
			return err
		}
		select {
		case err := <-sender.failed:
			return err
		default:
		}
		switch u := r.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			if u.CreateRequest != nil {
				r := watchRequest(u.CreateRequest)
				r.Authorize, r.Permit = w.permission(stream.Context())
				ws.Create(r)
			}
		case *pb.WatchRequest_CancelRequest:
			if u.CancelRequest != nil {
				ws.Cancel(u.CancelRequest.WatchId)
			}
		case *pb.WatchRequest_ProgressRequest:
			if u.ProgressRequest != nil {
				ws.Progress()
			}
		}
	}
}

// permission decides about a watch: who asks and whether he may when it is created, and later on whether he still has the
// right. The reasons are for the client. A watch from a time when nobody had to say who he is goes on, and so does one whose
// token has ended. But who did say with a token who he is, is held to it: others may count on what the token may watch
// (package proxy joins the watches of all who show the same one).
func (w *watchService) permission(ctx context.Context) (authorize func(key, end []byte) string, permit func() string) {
	var user string
	if !w.s.o.Member.Users().Enabled() {
		var ok bool
		if user, ok = w.volunteer(ctx); !ok {
			return nil, nil
		}
	}
	var request auth.Watch
	authorize = func(key, end []byte) string {
		request = auth.Watch{Key: key, End: end} // the end as it was sent: what it stands for is for package auth to say
		admitted, err := w.s.admitCaller(ctx, request)
		if err != nil {
			return wireError(err).Error()
		}
		if who, ok := auth.CallerOf(admitted); ok {
			user = who.User
		}
		return ""
	}
	permit = func() string {
		users := w.s.o.Member.Users()
		if err := users.Authorize(auth.Caller{User: user, Revision: users.Revision()}, request, nil); err != nil {
			return wireError(err).Error()
		}
		return ""
	}
	return authorize, permit
}

// volunteer is who shows a token although nobody has to say here who he is. Who does so has heard otherwise, or will: he waits for
// what the others have acknowledged. ok is false if the token names nobody, and users are still not demanded.
func (w *watchService) volunteer(ctx context.Context) (user string, ok bool) {
	if !identity.ShowsToken(ctx) {
		return "", false
	}
	if v, err := w.s.o.Member.Read(ctx); err == nil {
		v.Close()
	}
	who, err := w.s.o.Identity.Caller(ctx)
	return who.User, err == nil || w.s.o.Member.Users().Enabled()
}

func watchRequest(r *pb.WatchCreateRequest) watch.Request {
	to := watch.Request{
		WatchID:        r.WatchId,
		Key:            r.Key,
		End:            r.RangeEnd,
		Start:          r.StartRevision,
		PrevKV:         r.PrevKv,
		ProgressNotify: r.ProgressNotify,
		Fragment:       r.Fragment,
	}
	for _, f := range r.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			to.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			to.NoDelete = true
		}
	}
	return to
}

// watchSender encodes the hub's responses.
type watchSender struct {
	s      *Services
	stream grpc.ServerStream
	// ended: the handler returns, nothing more may be sent.
	ended atomic.Bool
	// failed takes the error of sending (capacity 1); the hub sends nothing after it.
	failed chan error
}

// Send implements watch.Sender.
func (w *watchSender) Send(r *watch.Response) error {
	if w.ended.Load() {
		return rpctypes.ErrGRPCWatchCanceled
	}
	h := w.s.header(r.Revision)
	start := w.s.o.Clock.Monotonic()
	err := w.stream.SendMsg(watchReply(&h, r))
	if w.s.o.Observe.WatchSent != nil {
		w.s.o.Observe.WatchSent(responseKind(r), r.Count(), w.s.o.Clock.Monotonic()-start)
	}
	if err != nil {
		w.s.noteBroken("watch", false, err)
		select {
		case w.failed <- err:
		default:
		}
	}
	return err
}

func responseKind(r *watch.Response) WatchResponse {
	switch {
	case r.Created || r.Canceled:
		return WatchControl
	case len(r.Events) == 0:
		return WatchProgress
	}
	return WatchEvents
}

// watchReply encodes a WatchResponse around the shared bytes of its events.
func watchReply(h *header, r *watch.Response) *encoded {
	size := h.sizeField() + sizeNumber(uint64(r.WatchID)) + sizeBool(r.Created) + sizeBool(r.Canceled) +
		sizeNumber(uint64(r.CompactRevision)) + sizeMessage(len(r.CancelReason)) + sizeBool(r.Fragment)
	b := h.appendField(make([]byte, 0, size))
	b = appendNumber(b, 2, uint64(r.WatchID))
	b = appendBool(b, 3, r.Created)
	b = appendBool(b, 4, r.Canceled)
	b = appendNumber(b, 5, uint64(r.CompactRevision))
	if r.CancelReason != "" {
		b = protowire.AppendString(append(b, 6<<3|2), r.CancelReason)
	}
	b = appendBool(b, 7, r.Fragment)
	pieces := make(mem.BufferSlice, 1, 1+len(r.Events))
	pieces[0] = mem.SliceBuffer(b)
	for _, e := range r.Events {
		pieces = append(pieces, mem.SliceBuffer(e))
	}
	return &encoded{pieces: pieces}
}
