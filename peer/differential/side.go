package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"keelson/peer/process"
)

// messageLimit is how large a message the client takes and sends: above any server's limit, so that the server decides.
const messageLimit = 1 << 30

// Side is one server and the connection to it. It belongs to the goroutine of the run.
type Side struct {
	name   string
	server *process.Server
	dial   []grpc.DialOption

	conn   *grpc.ClientConn
	leases map[int64]int64 // slot -> the id this server chose
	slots  map[int64]int64 // the reverse
}

// NewSide takes a running server.
//
// Errors: none that depend on the network; the connection is made when first used.
func NewSide(name string, server *process.Server, dial ...grpc.DialOption) (*Side, error) {
	s := &Side{name: name, server: server, dial: dial, leases: map[int64]int64{}, slots: map[int64]int64{}}
	return s, s.connect()
}

// connect makes a new connection, in place of the old one if there is one.
func (s *Side) connect() error {
	s.Close()
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageLimit), grpc.MaxCallSendMsgSize(messageLimit)),
	}, s.dial...)
	conn, err := grpc.NewClient("passthrough:///"+s.server.Addr(), options...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", s.name, err)
	}
	s.conn = conn
	return nil
}

// Close drops the connection; the server goes on.
func (s *Side) Close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// restart stops the server, starts it again and connects anew.
func (s *Side) restart(kill bool) error {
	s.Close()
	stop := s.server.Stop
	if kill {
		stop = s.server.Kill
	}
	if err := stop(); err != nil {
		return fmt.Errorf("restart %s: %w", s.name, err)
	}
	if _, err := s.server.Start(); err != nil {
		return fmt.Errorf("restart %s: %w", s.name, err)
	}
	return s.connect()
}

// Answer is what one side made of one operation.
type Answer struct {
	Code     codes.Code
	Text     string          // status message; empty for OK
	Messages []proto.Message // replies in order, normalised
	Fault    string          // a promise this side broke all by itself
}

// String prints the answer, one message a line.
func (a Answer) String() string {
	s := fmt.Sprintf("%v %q", a.Code, a.Text)
	for _, m := range a.Messages {
		s += "\n    {" + printed(m) + "}"
	}
	if a.Fault != "" {
		s += "\n    fault: " + a.Fault
	}
	return s
}

// do executes any operation that is not a watch or a restart.
func (s *Side) do(op Op) Answer {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if op.Meta != nil {
		ctx = metadata.AppendToOutgoingContext(ctx, op.Meta...)
	}
	var a Answer
	switch op.Kind {
	case KindRangeStream:
		a = s.rangeStream(ctx, op.Request.(*pb.RangeRequest))
	case KindKeepAlive:
		a = s.keepAlive(ctx, op.Leases)
	default:
		a = s.unary(ctx, op)
	}
	for _, m := range a.Messages {
		s.normalise(m)
	}
	return a
}

func (s *Side) unary(ctx context.Context, op Op) Answer {
	call := calls[op.Kind]
	answer := call.answer()
	if err := s.conn.Invoke(ctx, call.method, s.translated(op.Request), answer); err != nil {
		return refused(err)
	}
	if granted, ok := answer.(*pb.LeaseGrantResponse); ok && op.Slot != 0 {
		if granted.ID <= 0 {
			return Answer{Messages: []proto.Message{answer}, Fault: fmt.Sprintf("chose lease id %d", granted.ID)}
		}
		s.leases[op.Slot], s.slots[granted.ID] = granted.ID, op.Slot
	}
	return Answer{Messages: []proto.Message{answer}}
}

// refused is the answer that is an error.
func refused(err error) Answer {
	st := status.Convert(err)
	return Answer{Code: st.Code(), Text: st.Message()}
}

// rangeStream merges the chunks into the one response they stand for, and checks that only the last one has a header.
func (s *Side) rangeStream(ctx context.Context, request *pb.RangeRequest) Answer {
	stream, err := pb.NewKVClient(s.conn).RangeStream(ctx, request)
	if err != nil {
		return refused(err)
	}
	merged := &pb.RangeResponse{}
	var fault string
	last := false
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !last {
				fault = "the stream ended without a chunk that has a header"
			}
			return Answer{Messages: []proto.Message{merged}, Fault: fault}
		}
		if err != nil {
			a := refused(err)
			a.Fault = fault
			return a
		}
		part := chunk.GetRangeResponse()
		if last {
			fault = "a chunk followed the one with the header"
		}
		if part.GetHeader() != nil {
			last = true
			merged.Header, merged.More, merged.Count = part.Header, part.More, part.Count
		} else if part.GetMore() || part.GetCount() != 0 {
			fault = "a chunk before the last one had more or count"
		}
		merged.Kvs = append(merged.Kvs, part.GetKvs()...)
	}
}

// keepAlive asks for each id in turn on one stream, then ends it and expects the server to do the same.
func (s *Side) keepAlive(ctx context.Context, ids []int64) Answer {
	stream, err := pb.NewLeaseClient(s.conn).LeaseKeepAlive(ctx)
	if err != nil {
		return refused(err)
	}
	var a Answer
	for _, id := range ids {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: s.actual(id)}); err != nil && !errors.Is(err, io.EOF) {
			return refused(err)
		}
		reply, err := stream.Recv()
		if err != nil {
			refusal := refused(err)
			refusal.Messages = a.Messages
			return refusal
		}
		a.Messages = append(a.Messages, reply)
	}
	if err := stream.CloseSend(); err != nil {
		return refused(err)
	}
	if extra, err := stream.Recv(); err == nil {
		a.Fault = fmt.Sprintf("a reply nobody asked for: %s", printed(extra))
	} else if !errors.Is(err, io.EOF) {
		refusal := refused(err)
		refusal.Messages = a.Messages
		return refusal
	}
	return a
}

// actual turns the name of a lease into the id this server knows it by.
func (s *Side) actual(id int64) int64 {
	if chosen, ok := s.leases[id]; ok {
		return chosen
	}
	return id
}

// translated returns the request with lease names replaced.
func (s *Side) translated(request proto.Message) proto.Message {
	switch r := request.(type) {
	case *pb.LeaseRevokeRequest:
		return &pb.LeaseRevokeRequest{ID: s.actual(r.ID)}
	case *pb.LeaseTimeToLiveRequest:
		return &pb.LeaseTimeToLiveRequest{ID: s.actual(r.ID), Keys: r.Keys}
	}
	return request
}

// named turns an id this server chose back into the name of the lease.
func (s *Side) named(id int64) int64 {
	if slot, ok := s.slots[id]; ok {
		return slot
	}
	return id
}

// normalise makes equal, in place, what two correct servers may answer differently.
func (s *Side) normalise(m proto.Message) {
	switch r := m.(type) {
	case *pb.LeaseGrantResponse:
		r.ID = s.named(r.ID)
	case *pb.LeaseKeepAliveResponse:
		r.ID = s.named(r.ID)
	case *pb.LeaseTimeToLiveResponse:
		r.ID = s.named(r.ID)
		slices.SortFunc(r.Keys, slices.Compare)
		if r.TTL <= r.GrantedTTL && r.TTL > r.GrantedTTL-ttlSlack && r.GrantedTTL >= ttlLong {
			r.TTL = r.GrantedTTL
		}
	case *pb.LeaseLeasesResponse:
		// The order, nearest expiry first, is checked on each side against the model; see leaseOrder.
		for _, l := range r.Leases {
			l.ID = s.named(l.ID)
		}
	}
	normaliseHeaders(m.ProtoReflect())
}
