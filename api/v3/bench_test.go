package v3

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/command"
	"keelson/state"
)

// BenchmarkRange is a get of one key from the decoded request to the encoded reply, interceptor included.
func BenchmarkRange(b *testing.B) {
	s := serve(b, nil)
	s.put(b, "key", string(make([]byte, 256)))
	service, intercept, ctx := &kv{s.services}, s.services.Unary(), context.Background()
	r := &pb.RangeRequest{Key: []byte("key")}
	handler := func(ctx context.Context, req any) (any, error) { return service.Range(ctx, req.(*pb.RangeRequest)) }
	b.ReportAllocs()
	for b.Loop() {
		reply, err := intercept(ctx, r, &grpc.UnaryServerInfo{}, handler)
		if err != nil {
			b.Fatal(err)
		}
		reply.(*encoded).free()
	}
}

// BenchmarkRangeList is a list of 1000 pairs of 256 bytes.
func BenchmarkRangeList(b *testing.B) {
	s := serve(b, nil)
	for i := range 1000 {
		s.put(b, fmt.Sprintf("key%04d", i), string(make([]byte, 256)))
	}
	service, ctx := &kv{s.services}, context.Background()
	r := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	b.ReportAllocs()
	for b.Loop() {
		reply, err := service.Range(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		reply.(*encoded).free()
	}
}

// instantMember takes proposals without carrying them out.
type instantMember struct{ *soloMember }

func (instantMember) Propose(context.Context, command.Op) (state.Result, error) {
	return state.Result{Revision: 1 << 30}, nil
}

// BenchmarkPut is what this layer adds to a put, interceptor included.
func BenchmarkPut(b *testing.B) {
	s := serve(b, func(o *Options) { o.Member = instantMember{o.Member.(*soloMember)} })
	service, intercept, ctx := &kv{s.services}, s.services.Unary(), context.Background()
	r := &pb.PutRequest{Key: []byte("key"), Value: make([]byte, 256)}
	handler := func(ctx context.Context, req any) (any, error) { return service.Put(ctx, req.(*pb.PutRequest)) }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := intercept(ctx, r, &grpc.UnaryServerInfo{}, handler); err != nil {
			b.Fatal(err)
		}
	}
}
