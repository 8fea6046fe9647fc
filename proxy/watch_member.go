package proxy

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// memberStream is a watch stream to a member. It opens by itself; what is asked of it before waits.
type memberStream struct {
	requests *requests
	cancel   context.CancelFunc
	done     chan struct{} // closed when nothing of it runs any more
	// pending are ids of watchers whose creation has not been answered, in their order: a refusal does not say its id.
	pending []int64
	lastID  int64
	answers int // replies about the stream's progress that have come
}

// unanswered is at most how many questions for progress may still be answered. (A member that is behind does not answer.)
func (m *memberStream) unanswered() int { return m.requests.questions() - m.answers }

// openMember begins a stream. receive is called with every message, in order and from one goroutine, and then ended once, with the
// reason.
func (h *watchHub) openMember(ctx context.Context, receive func(r *pb.WatchResponse, raw []byte), ended func(error)) *memberStream {
	ctx, cancel := context.WithCancel(ctx)
	m := &memberStream{requests: newRequests(), cancel: cancel, done: make(chan struct{})}
	go func() { // until cancel, or the member ends it
		defer close(m.done)
		defer cancel()
		ended(m.run(ctx, h, receive))
	}()
	return m
}

func (m *memberStream) run(ctx context.Context, h *watchHub, receive func(*pb.WatchResponse, []byte)) error {
	stream, err := h.open(ctx)
	if err != nil {
		return err
	}
	go m.requests.send(stream) // until the stream has ended
	for {
		var f frame
		if err := stream.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		if h.change != nil {
			if f.bytes, err = h.change(f.bytes); err != nil {
				return status.Error(codes.Internal, err.Error())
			}
		}
		r := new(pb.WatchResponse)
		if err := proto.Unmarshal(f.bytes, r); err != nil {
			return status.Errorf(codes.Internal, "proxy: a member's watch response: %v", err)
		}
		receive(r, f.bytes)
	}
}

// create asks for a watcher under an id of the proxy's, and returns that.
func (m *memberStream) create(c *pb.WatchCreateRequest) int64 {
	m.lastID++
	c = proto.Clone(c).(*pb.WatchCreateRequest)
	c.WatchId = m.lastID
	m.pending = append(m.pending, m.lastID)
	m.requests.create(c)
	return m.lastID
}

// answered returns the id of the watcher that a reply to a creation is about.
func (m *memberStream) answered(r *pb.WatchResponse) int64 {
	for i, id := range m.pending {
		if id == r.WatchId || r.WatchId == noWatcher {
			m.pending = append(m.pending[:i], m.pending[i+1:]...)
			return id
		}
	}
	return 0
}

// opener opens watch streams to members.
type opener func(ctx context.Context) (grpc.ClientStream, error)
