package proxy

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// rewritten is a message after a change of its bytes.
func rewritten(t *testing.T, change func([]byte) ([]byte, error), in, out proto.Message) proto.Message {
	t.Helper()
	b, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = change(b); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNamespaceOfRequests(t *testing.T) {
	all := namespace("ns/").rewrites()
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("p")}}}
	inner := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("d"), RangeEnd: []byte("e")}}}}}}}
	wantPut := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("ns/p")}}}
	wantInner := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("ns/d"), RangeEnd: []byte("ns/e")}}}}}}}
	for _, c := range []struct {
		method        string
		in, want, out proto.Message
	}{
		{"KV/Range", &pb.RangeRequest{Key: []byte("a"), Limit: 3}, &pb.RangeRequest{Key: []byte("ns/a"), Limit: 3}, new(pb.RangeRequest)},
		{"KV/Range", &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, &pb.RangeRequest{Key: []byte("ns/\x00"), RangeEnd: []byte("ns0")}, new(pb.RangeRequest)},
		{"KV/Put", &pb.PutRequest{Key: []byte("a"), Value: []byte("v")}, &pb.PutRequest{Key: []byte("ns/a"), Value: []byte("v")}, new(pb.PutRequest)},
		{"KV/Txn", &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("c")}}, Success: []*pb.RequestOp{put}, Failure: []*pb.RequestOp{inner}},
			&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("ns/c")}}, Success: []*pb.RequestOp{wantPut}, Failure: []*pb.RequestOp{wantInner}}, new(pb.TxnRequest)},
		{"Watch/Watch", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("w")}}},
			&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("ns/w")}}}, new(pb.WatchRequest)},
		{"Watch/Watch", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 1}}},
			&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 1}}}, new(pb.WatchRequest)},
	} {
		if got := rewritten(t, all["/etcdserverpb."+c.method].request, c.in, c.out); !proto.Equal(got, c.want) {
			t.Errorf("%s: %v became %v, want %v", c.method, c.in, got, c.want)
		}
	}
	// A lock without a name is still one within the namespace.
	for _, c := range []struct{ in, want []byte }{
		{nil, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("ns/"))},
		{protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 7),
			protowire.AppendBytes(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 7), 1, protowire.BytesType), []byte("ns/"))},
	} {
		if got, err := all["/v3lockpb.Lock/Lock"].request(c.in); err != nil || string(got) != string(c.want) {
			t.Errorf("%x became %x, %v", c.in, got, err)
		}
	}
	if _, err := all["/v3lockpb.Lock/Lock"].request([]byte{0x0a, 0x7f}); err == nil {
		t.Error("a message that breaks off was rewritten")
	}
}

func TestNamespaceOfReplies(t *testing.T) {
	all := namespace("ns/").rewrites()
	pair := func(key string) *mvccpb.KeyValue { return &mvccpb.KeyValue{Key: []byte(key), ModRevision: 5} }
	for _, c := range []struct {
		method        string
		in, want, out proto.Message
	}{
		{"KV/Range", &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{pair("ns/a"), pair("ns/ns/b")}}, &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{pair("a"), pair("ns/b")}}, new(pb.RangeResponse)},
		{"KV/Put", &pb.PutResponse{PrevKv: pair("ns/a")}, &pb.PutResponse{PrevKv: pair("a")}, new(pb.PutResponse)},
		{"KV/DeleteRange", &pb.DeleteRangeResponse{PrevKvs: []*mvccpb.KeyValue{pair("ns/a")}}, &pb.DeleteRangeResponse{PrevKvs: []*mvccpb.KeyValue{pair("a")}}, new(pb.DeleteRangeResponse)},
		{"Watch/Watch", &pb.WatchResponse{Events: []*mvccpb.Event{{Kv: pair("ns/a"), PrevKv: pair("ns/a")}}}, &pb.WatchResponse{Events: []*mvccpb.Event{{Kv: pair("a"), PrevKv: pair("a")}}}, new(pb.WatchResponse)},
		{"Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("ns/a")}}, &pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("a")}}, new(pb.LeaseTimeToLiveResponse)},
	} {
		if got := rewritten(t, all["/etcdserverpb."+c.method].reply, c.in, c.out); !proto.Equal(got, c.want) {
			t.Errorf("%s: %v became %v, want %v", c.method, c.in, got, c.want)
		}
	}
}
