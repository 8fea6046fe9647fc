package v3

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// TestRangeStream: trap 39. Whatever is asked, the chunks merge to what Range answers, and only the last has a header.
func TestRangeStream(t *testing.T) {
	s := serve(t, func(o *Options) { o.MaxRequestBytes = 20_000 })
	for i := range 100 {
		s.put(t, fmt.Sprintf("k%03d", i), strings.Repeat("v", i*7))
	}
	s.put(t, "k050", "again") // 102
	for _, r := range []*pb.RangeRequest{
		{Key: []byte("k"), RangeEnd: []byte("l")},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 1},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 10},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 31},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 100},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 101},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: -5},
		{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 1<<63 - 1},
		{Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true, Limit: 3, KeysOnly: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), Revision: 60},
		{Key: []byte("k"), RangeEnd: []byte("l"), SortOrder: pb.RangeRequest_ASCEND, Serializable: true},
		{Key: []byte("k"), RangeEnd: []byte("l"), SortTarget: pb.RangeRequest_VALUE},
		{Key: []byte("k"), RangeEnd: []byte("k010"), SortTarget: pb.RangeRequest_MOD, Limit: 4, KeysOnly: true},
		{Key: []byte("k050")},
		{Key: []byte("k050"), Revision: 53},
		{Key: []byte("nothing")},
		{Key: []byte("z"), RangeEnd: []byte("a")},
		{Key: []byte{0}, RangeEnd: []byte{0}},
	} {
		t.Run(fmt.Sprint(r), func(t *testing.T) {
			chunks, merged, err := s.stream(t, r)
			if err != nil {
				t.Fatal(err)
			}
			wantMessage(t, "merged", merged, s.get(t, r))
			for i, c := range chunks[:len(chunks)-1] {
				if c.Header != nil || c.Count != 0 || c.More || len(c.Kvs) == 0 {
					t.Errorf("chunk %d of %d: header %v, count %d, more %v, %d pairs", i, len(chunks), c.Header, c.Count, c.More, len(c.Kvs))
				}
			}
			if first := len(chunks[0].Kvs); first > streamFirstKeys && r.SortTarget == pb.RangeRequest_KEY {
				t.Errorf("the first chunk has %d pairs", first)
			}
		})
	}
	for name, c := range map[string]struct {
		r    *pb.RangeRequest
		want error
	}{
		"empty key":  {&pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		"bad sort":   {&pb.RangeRequest{Key: []byte("k"), SortTarget: 9}, rpctypes.ErrGRPCInvalidSortOption},
		"descending": {&pb.RangeRequest{Key: []byte("k"), SortOrder: pb.RangeRequest_DESCEND}, errStreamSort},
		"filter":     {&pb.RangeRequest{Key: []byte("k"), MinModRevision: 1}, errStreamFilter},
		"future":     {&pb.RangeRequest{Key: []byte("k"), Revision: 1000}, rpctypes.ErrGRPCFutureRev},
	} {
		_, _, err := s.stream(t, c.r)
		wantError(t, name, err, c.want)
	}
}

// TestRangeStreamOfLargeValues: chunks of values that are larger than they should be shrink to one pair.
func TestRangeStreamOfLargeValues(t *testing.T) {
	s := serve(t, func(o *Options) { o.MaxRequestBytes = 10_000 })
	for i := range 40 {
		s.put(t, fmt.Sprintf("k%03d", i), strings.Repeat("v", 9_900))
	}
	chunks, merged, err := s.stream(t, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil || len(merged.Kvs) != 40 {
		t.Fatalf("%d pairs, %v", len(merged.Kvs), err)
	}
	for i, c := range chunks {
		if n := proto.Size(c); n > 32_000 {
			t.Errorf("chunk %d has %d bytes", i, n)
		}
	}
}

// pausedStream is a server's stream that hands each message over before the next one is made.
type pausedStream struct {
	grpc.ServerStream
	ctx  context.Context
	sent func(*pb.RangeResponse)
}

func (p *pausedStream) Context() context.Context { return p.ctx }

func (p *pausedStream) SendMsg(m any) error {
	pieces, err := Codec().Marshal(m)
	if err != nil {
		return err
	}
	defer pieces.Free()
	r := new(pb.RangeStreamResponse)
	if err := proto.Unmarshal(pieces.Materialize(), r); err != nil {
		return err
	}
	p.sent(r.RangeResponse)
	return nil
}

// TestRangeStreamOverTime: writes between chunks do not show, the header is that of the start, and a compaction ends the
// stream after what was sent.
func TestRangeStreamOverTime(t *testing.T) {
	s := serve(t, nil)
	for i := range 100 {
		s.put(t, fmt.Sprintf("k%03d", i), "old")
	}
	service := &kv{s.services}
	var got []*pb.RangeResponse
	all := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	err := service.RangeStream(all, &pausedStream{ctx: t.Context(), sent: func(r *pb.RangeResponse) {
		got = append(got, r)
		s.put(t, fmt.Sprintf("k%03d", len(got)*20), "new")
		s.put(t, fmt.Sprintf("kx%d", len(got)), "new")
	}})
	if err != nil {
		t.Fatal(err)
	}
	merged := &pb.RangeResponse{}
	for _, r := range got {
		proto.Merge(merged, r)
	}
	if len(got) < 3 || len(merged.Kvs) != 100 || merged.Count != 100 || merged.Header.Revision != 101 {
		t.Errorf("%d chunks, %d pairs, count %d, header %v", len(got), len(merged.Kvs), merged.Count, merged.Header)
	}
	for _, kv := range merged.Kvs {
		if string(kv.Value) != "old" {
			t.Errorf("%s was written during the stream", kv.Key)
		}
	}
	pairs := 0
	err = service.RangeStream(all, &pausedStream{ctx: t.Context(), sent: func(r *pb.RangeResponse) {
		if pairs += len(r.Kvs); pairs == streamFirstKeys {
			if err := s.call(t, &pb.CompactionRequest{Revision: s.put(t, "k000", "newer")}); err != nil {
				t.Error(err)
			}
		}
	}})
	wantError(t, "compacted under way", err, rpctypes.ErrGRPCCompacted)
	if pairs == 0 || pairs >= 100 {
		t.Errorf("%d pairs were sent before the compaction", pairs)
	}
	if used := s.services.reads.budget.used; used != 0 {
		t.Errorf("%d bytes of the budget are lost", used)
	}
}
