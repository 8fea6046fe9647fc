package proxy

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// end is one end of a stream whose other end is the test: what the proxy sends comes out of sent, what is put into toProxy it gets.
type end struct {
	ctx     context.Context
	sent    chan proto.Message
	toProxy chan proto.Message
}

func newEnd(ctx context.Context) *end {
	return &end{ctx: ctx, sent: make(chan proto.Message, 16), toProxy: make(chan proto.Message, 16)}
}

func (e *end) RecvMsg(m any) error {
	select {
	case r := <-e.toProxy:
		var err error
		m.(*frame).bytes, err = proto.Marshal(r)
		return err
	case <-e.ctx.Done():
		return io.EOF
	}
}

func (e *end) send(m proto.Message) error {
	select {
	case e.sent <- m:
		return nil
	case <-e.ctx.Done():
		return e.ctx.Err()
	}
}

// memberEnd is a stream to a member.
type memberEnd struct {
	grpc.ClientStream
	*end
}

func (e memberEnd) Context() context.Context  { return e.ctx }
func (e memberEnd) RecvMsg(m any) error       { return e.end.RecvMsg(m) }
func (e memberEnd) SendMsg(m any) error       { return e.send(m.(*pb.WatchRequest)) }
func (e memberEnd) reply(r *pb.WatchResponse) { e.toProxy <- r }
func (e memberEnd) progress(revision, id int64) {
	e.reply(&pb.WatchResponse{Header: at(revision), WatchId: id})
}

// clientEnd is a client's stream.
type clientEnd struct {
	grpc.ServerStream
	*end
}

func (e clientEnd) Context() context.Context { return e.ctx }
func (e clientEnd) RecvMsg(m any) error      { return e.end.RecvMsg(m) }
func (e clientEnd) SendMsg(m any) error {
	f, r := m.(*frame), new(pb.WatchResponse)
	if err := proto.Unmarshal(append(f.bytes[:len(f.bytes):len(f.bytes)], f.tail...), r); err != nil {
		return err
	}
	return e.send(r)
}

func at(revision int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: revision} }

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// joinedBehind joins the watcher of a client that has had everything up to revision 200 to a group at a member that is at revision 100.
func joinedBehind(t *testing.T) (client clientEnd, group memberEnd, streams <-chan memberEnd, over <-chan error) {
	t.Helper()
	opened := make(chan memberEnd, 4)
	hub := newWatchHub(func(ctx context.Context) (grpc.ClientStream, error) {
		m := memberEnd{end: newEnd(ctx)}
		opened <- m
		return m, nil
	}, nil, newWatchMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(context.Background())
	client = clientEnd{end: newEnd(ctx)}
	served := make(chan error, 1)
	go func() { served <- hub.serve(client, nil) }()
	t.Cleanup(func() {
		cancel()
		for range 100 { // what it has sent meanwhile
			select {
			case <-client.sent:
				continue
			default:
			}
			break
		}
	})
	client.toProxy <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), WatchId: 7}}}
	own := next(t, opened)
	next(t, own.sent) // create
	own.reply(&pb.WatchResponse{Header: at(200), WatchId: 1, Created: true})
	if r := next(t, client.sent).(*pb.WatchResponse); !r.Created || r.WatchId != 7 {
		t.Fatal(r)
	}
	next(t, own.sent) // progress
	own.progress(200, noWatcher)
	group = next(t, opened)
	next(t, group.sent) // create
	group.reply(&pb.WatchResponse{Header: at(100), WatchId: 1, Created: true})
	next(t, own.sent) // progress
	own.progress(200, noWatcher)
	select {
	case <-own.ctx.Done(): // it is in the group, and has no use for a stream of its own
	case <-time.After(patience):
		t.Fatal("the client's own stream stays")
	}
	return client, group, opened, served
}

func event(revision int64) *pb.WatchResponse {
	return &pb.WatchResponse{Header: at(revision), WatchId: 1, Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: revision}}}}
}

// A compaction that a group's watcher has fallen behind of ends those of its clients' watchers that have, and the others go on from
// where they are.
func TestCompactionOfAGroupThatIsBehind(t *testing.T) {
	client, group, streams, _ := joinedBehind(t)
	group.reply(&pb.WatchResponse{WatchId: 1, Canceled: true, CompactRevision: 201})
	own := next(t, streams)
	if c := next(t, own.sent).(*pb.WatchRequest).GetCreateRequest(); c.GetStartRevision() != 201 || string(c.GetKey()) != "k" {
		t.Fatalf("it goes on with %v", c)
	}
	own.reply(&pb.WatchResponse{Header: at(210), WatchId: 1, Created: true})
	own.reply(event(205))
	if r := next(t, client.sent).(*pb.WatchResponse); r.WatchId != 7 || len(r.Events) != 1 || r.Events[0].Kv.ModRevision != 205 {
		t.Errorf("the client is told %v", r)
	}

	client, group, _, _ = joinedBehind(t)
	group.reply(&pb.WatchResponse{WatchId: 1, Canceled: true, CompactRevision: 202})
	if r := next(t, client.sent).(*pb.WatchResponse); r.WatchId != 7 || !r.Canceled || r.CompactRevision != 202 {
		t.Errorf("who is behind the compaction is told %v", r)
	}

	client, group, _, _ = joinedBehind(t)
	group.reply(event(300)) // the member is no longer behind
	next(t, client.sent)
	group.reply(&pb.WatchResponse{WatchId: 1, Canceled: true, CompactRevision: 400})
	if r := next(t, client.sent).(*pb.WatchResponse); r.CompactRevision != 400 {
		t.Errorf("who is behind the compaction is told %v", r)
	}
}

// Who may not watch any more when he has to go on alone is sent away to find that out.
func TestRefusedAfterACompactionOfTheGroup(t *testing.T) {
	_, group, streams, over := joinedBehind(t)
	group.reply(&pb.WatchResponse{WatchId: 1, Canceled: true, CompactRevision: 150})
	own := next(t, streams)
	next(t, own.sent)
	own.reply(&pb.WatchResponse{Header: at(210), WatchId: noWatcher, Created: true, Canceled: true, CancelReason: "denied"})
	if err := next(t, over); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}
