package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// server is the little of an etcd that a load needs, over grpc-go: it checks what it is sent and remembers keys.
type server struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	mu       sync.Mutex
	pairs    map[string][]byte
	watchers map[*watchSession]int
	leases   map[int64]bool
	refuse   int // this many of the next puts are refused
	block    chan struct{}

	puts, gets, ranges, txns, renewals atomic.Int64
}

type watchSession struct {
	events chan *pb.WatchResponse
	prefix []string
}

// serve starts the server and returns its address.
func serve(t *testing.T, options ...grpc.ServerOption) (*server, string) {
	t.Helper()
	s := &server{pairs: map[string][]byte{}, watchers: map[*watchSession]int{}, leases: map[int64]bool{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(options...)
	pb.RegisterKVServer(g, s)
	pb.RegisterWatchServer(g, s)
	pb.RegisterLeaseServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		<-served
	})
	return s, listener.Addr().String()
}

func (s *server) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	s.puts.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		return nil, status.Error(codes.ResourceExhausted, "etcdserver: too many requests")
	}
	if block := s.block; block != nil {
		s.mu.Unlock()
		<-block
		s.mu.Lock()
	}
	s.pairs[string(r.Key)] = r.Value
	event := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: r.Key, Value: r.Value}}
	for session := range s.watchers {
		for id, prefix := range session.prefix {
			if strings.HasPrefix(string(r.Key), prefix) {
				session.events <- &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 7}, WatchId: int64(id), Events: []*mvccpb.Event{event}}
			}
		}
	}
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 7}}, nil
}

func (s *server) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	reply := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 7}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(r.RangeEnd) == 0 {
		s.gets.Add(1)
		if value, ok := s.pairs[string(r.Key)]; ok {
			reply.Kvs, reply.Count = []*mvccpb.KeyValue{{Key: r.Key, Value: value}}, 1
		}
		return reply, nil
	}
	s.ranges.Add(1)
	for key, value := range s.pairs {
		if key >= string(r.Key) && key < string(r.RangeEnd) {
			reply.Kvs = append(reply.Kvs, &mvccpb.KeyValue{Key: []byte(key), Value: value})
		}
	}
	return reply, nil
}

func (s *server) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	s.txns.Add(1)
	c := r.Compare[0]
	if len(r.Compare) != 1 || len(r.Success) != 1 || c.Result != pb.Compare_GREATER || c.Target != pb.Compare_VERSION || c.GetVersion() != -1 {
		return nil, status.Error(codes.InvalidArgument, "not the transaction of the load")
	}
	put := r.Success[0].GetRequestPut()
	if string(put.GetKey()) != string(c.Key) {
		return nil, status.Error(codes.InvalidArgument, "compares one key and puts another")
	}
	_, err := s.Put(ctx, put)
	return &pb.TxnResponse{Succeeded: true}, err
}

func (s *server) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[r.ID] {
		return nil, status.Error(codes.FailedPrecondition, "etcdserver: lease already exists")
	}
	s.leases[r.ID] = true
	return &pb.LeaseGrantResponse{ID: r.ID, TTL: r.TTL}, nil
}

func (s *server) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.renewals.Add(1)
		s.mu.Lock()
		reply := &pb.LeaseKeepAliveResponse{ID: r.ID}
		if s.leases[r.ID] {
			reply.TTL = 60
		}
		s.mu.Unlock()
		if err := stream.Send(reply); err != nil {
			return err
		}
	}
}

func (s *server) Watch(stream pb.Watch_WatchServer) error {
	session := &watchSession{events: make(chan *pb.WatchResponse, 10_000)}
	ended := make(chan struct{})
	defer func() {
		s.mu.Lock()
		delete(s.watchers, session)
		s.mu.Unlock()
		<-ended
	}()
	go func() {
		defer close(ended)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			create := r.GetCreateRequest()
			s.mu.Lock()
			session.prefix = append(session.prefix, string(create.Key))
			s.watchers[session] = len(session.prefix)
			session.events <- &pb.WatchResponse{Created: true, WatchId: int64(len(session.prefix) - 1)}
			s.mu.Unlock()
		}
	}()
	for {
		select {
		case r := <-session.events:
			if err := stream.Send(r); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
