package v3

import (
	"bytes"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// requestsDecodedHere are new ones of each kind.
func requestsDecodedHere() []proto.Message {
	return []proto.Message{new(pb.RangeRequest), new(pb.PutRequest)}
}

// sameAsLibrarys decodes b here and by the library: the same message or the same error.
func sameAsLibrarys(t *testing.T, b []byte) {
	t.Helper()
	ours := codec{encoding.GetCodecV2(grpcproto.Name)}
	for i, got := range requestsDecodedHere() {
		want := requestsDecodedHere()[i]
		gotErr, wantErr := ours.UnmarshalKept(bytes.Clone(b), got), proto.Unmarshal(b, want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%T from %x: %v, want %v", got, b, gotErr, wantErr)
		}
		if gotErr == nil && !proto.Equal(got, want) {
			t.Fatalf("%T from %x: %v, want %v", got, b, got, want)
		}
	}
}

// Requests are what the library makes of them, whatever comes: every field, fields twice, unknown ones, other types, damage.
func TestRequestsEqualTheLibrarys(t *testing.T) {
	rnd := seeded(t)
	for range *roundsFlag {
		var b []byte
		for range rnd.IntN(8) {
			b = appendRandomField(b, rnd)
		}
		sameAsLibrarys(t, b)
		if len(b) > 0 {
			sameAsLibrarys(t, b[:rnd.IntN(len(b))])
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			sameAsLibrarys(t, b)
		}
	}
}

func appendRandomField(b []byte, rnd *rand.Rand) []byte {
	number := protowire.Number(1 + rnd.IntN(15))
	switch kind := rnd.IntN(20); {
	case kind == 0:
		return protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), rnd.Uint64())
	case kind == 1:
		return protowire.AppendFixed32(protowire.AppendTag(b, number, protowire.Fixed32Type), rnd.Uint32())
	case kind == 2 || number > 2 && kind < 18:
		return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(edge(rnd)))
	}
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), randomBytes(rnd, rnd.IntN(20)))
}

// Fields share the memory of the request, and can't grow into each other.
func TestRequestsShareMemory(t *testing.T) {
	b, err := proto.Marshal(&pb.PutRequest{Key: []byte("key"), Value: []byte("value")})
	if err != nil {
		t.Fatal(err)
	}
	m := new(pb.PutRequest)
	if !decodePut(m, b) || &m.Key[0] != &b[2] || cap(m.Key) != 3 || cap(m.Value) != 5 {
		t.Errorf("%v", m)
	}
}

func FuzzRequests(f *testing.F) {
	for _, m := range []proto.Message{
		&pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: -1, PrevKv: true},
		&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 3, SortOrder: pb.RangeRequest_DESCEND, MaxModRevision: 7},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameAsLibrarys(t, b) })
}
