package differential

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/peer/process"
)

// creator sits in a connection and changes one progress reply into the creation of a watcher.
type creator struct {
	replies int           // progress replies to let pass first
	held    chan struct{} // nil, or closed when the reply is there, which then is held back until its stream is being ended
}

func (c *creator) dial() grpc.DialOption {
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		stream, err := streamer(ctx, desc, cc, method, opts...)
		return &creatorStream{stream, c}, err
	})
}

// creatorStream is received from by one goroutine, and no other has progress replies.
type creatorStream struct {
	grpc.ClientStream
	creator *creator
}

func (s *creatorStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	reply, ok := m.(*pb.WatchResponse)
	if !ok || reply.Created || reply.WatchId != -1 {
		return nil
	}
	if s.creator.replies--; s.creator.replies != -1 {
		return nil
	}
	if s.creator.held != nil {
		close(s.creator.held)
		<-s.Context().Done()
	}
	reply.Created = true
	return nil
}

// TestLastWordsAreCompared has a candidate say something wrong when nothing more is waited for, and demands that it be
// noticed when the stream ends at the latest.
func TestLastWordsAreCompared(t *testing.T) {
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}}
	for _, c := range []struct {
		name   string
		held   bool
		stream int
		end    Op
	}{
		{"a stream that is closed", true, 0, Op{Kind: KindWatchClose}},
		{"a stream that is closed early", true, 0, Op{Kind: KindWatchClose, Kill: true}},
		{"all streams end", true, 0, Op{Kind: KindWatchEnd}},
		{"a restart", true, 0, Op{Kind: KindRestart}},
		{"the history, while it goes on", false, historyStream, Op{Kind: KindSync}},
		{"the history ends", true, historyStream, Op{Kind: KindWatchEnd}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lie := &creator{}
			if c.held {
				lie = &creator{replies: 1, held: make(chan struct{})}
			}
			reference, candidate, end, err := servers(process.Etcd, lie.dial())
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			run, disagreement, err := NewRun(reference, candidate)
			if disagreement != nil || err != nil {
				t.Fatal(disagreement, err)
			}
			defer run.Close()
			agree := func(op Op) {
				if disagreement, err := run.Step(op); disagreement != nil || err != nil {
					t.Fatal(disagreement, err)
				}
			}
			agree(Op{Kind: KindPut, Request: &pb.PutRequest{Key: []byte("a")}})
			if c.stream != historyStream {
				agree(Op{Kind: KindWatch, Stream: c.stream, Request: create})
			}
			agree(Op{Kind: KindWatch, Stream: c.stream, Request: progressRequest()})
			if c.held {
				// A request is repeated when its reply takes long, and then may have two.
				p := run.pairs[c.stream]
				p.asked++
				if err := run.send(p, progressRequest()); err != nil {
					t.Fatal(err)
				}
				<-lie.held
			}
			disagreement, err = run.Step(c.end)
			if err != nil {
				t.Fatal(err)
			}
			if disagreement == nil {
				t.Fatal("nobody noticed that a watcher was created without a request")
			}
			t.Log(disagreement.Difference)
		})
	}
}
