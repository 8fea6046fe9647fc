package bootstrap

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// service is a cluster that keeps registries: as much of the v3 API as a discovery needs.
type service struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
	etcdserverpb.UnimplementedAuthServer

	mu       sync.Mutex
	rev      int64
	pairs    map[string]*mvccpb.KeyValue
	changed  chan struct{} // closed at the next change
	password string        // of the user root; empty: there are no users
	tokens   int           // given out; only the newest is valid
	failing  []error       // what the next calls fail with, in order; nil: that one does not
	compact  int64         // watches that begin below are canceled
}

func newService() *service {
	return &service{rev: 1, pairs: map[string]*mvccpb.KeyValue{}, changed: make(chan struct{})}
}

func (s *service) set(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: s.rev, ModRevision: s.rev}
	if old := s.pairs[key]; old != nil {
		kv.CreateRevision = old.CreateRevision
	}
	s.pairs[key] = kv
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *service) value(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.pairs[key].GetValue())
}

// admit is what each call meets first.
func (s *service) admit(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failing) > 0 {
		err := s.failing[0]
		s.failing = s.failing[1:]
		if err != nil {
			return err
		}
	}
	if s.password == "" {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	switch token := md.Get(rpctypes.TokenFieldNameGRPC); {
	case len(token) == 0:
		return rpctypes.ErrGRPCUserEmpty
	case len(token[0]) != s.tokens:
		return rpctypes.ErrGRPCInvalidAuthToken
	}
	return nil
}

func (s *service) Authenticate(_ context.Context, r *etcdserverpb.AuthenticateRequest) (*etcdserverpb.AuthenticateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.password == "":
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	case r.GetName() != "root" || r.GetPassword() != s.password:
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	s.tokens++
	return &etcdserverpb.AuthenticateResponse{Token: strings.Repeat("t", s.tokens)}, nil
}

func (s *service) Range(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{Revision: s.rev}}
	for k, kv := range s.pairs {
		if k == string(r.GetKey()) || len(r.GetRangeEnd()) > 0 && k >= string(r.GetKey()) && k < string(r.GetRangeEnd()) {
			out.Kvs = append(out.Kvs, kv)
		}
	}
	if r.GetSortTarget() == etcdserverpb.RangeRequest_CREATE && r.GetSortOrder() == etcdserverpb.RangeRequest_ASCEND {
		slices.SortFunc(out.Kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	}
	if r.GetLimit() > 0 {
		out.Kvs = out.Kvs[:min(len(out.Kvs), int(r.GetLimit()))]
	}
	return out, nil
}

func (s *service) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	s.set(string(r.GetKey()), string(r.GetValue()))
	return &etcdserverpb.PutResponse{}, nil
}

func (s *service) Watch(stream etcdserverpb.Watch_WatchServer) error {
	if err := s.admit(stream.Context()); err != nil {
		return err
	}
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	create := request.GetCreateRequest()
	if err := stream.Send(&etcdserverpb.WatchResponse{Created: true}); err != nil {
		return err
	}
	for next := create.GetStartRevision(); ; {
		s.mu.Lock()
		rev, changed, compact := s.rev, s.changed, s.compact
		var events []*mvccpb.Event
		for k, kv := range s.pairs {
			if k >= string(create.GetKey()) && k < string(create.GetRangeEnd()) && kv.ModRevision >= next {
				events = append(events, &mvccpb.Event{Kv: kv})
			}
		}
		s.mu.Unlock()
		switch {
		case next < compact:
			return stream.Send(&etcdserverpb.WatchResponse{Canceled: true, CompactRevision: compact})
		case len(events) > 0:
			if err := stream.Send(&etcdserverpb.WatchResponse{Events: events}); err != nil {
				return err
			}
		}
		next = rev + 1
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// serve makes the service listen, and returns its address.
func (s *service) serve(t *testing.T, creds credentials.TransportCredentials) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if creds != nil {
		options = append(options, grpc.Creds(creds))
	}
	g := grpc.NewServer(options...)
	etcdserverpb.RegisterKVServer(g, s)
	etcdserverpb.RegisterWatchServer(g, s)
	etcdserverpb.RegisterAuthServer(g, s)
	t.Cleanup(g.Stop)
	go g.Serve(l)
	return l.Addr().String()
}
