package differential

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// eventOf makes events of a key.
type eventOf struct{ key string }

func (e *eventOf) put() *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{Key: []byte(e.key)}}
}

func (e *eventOf) del() *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(e.key)}}
}

// pairsOf makes pairs from "key=version" words.
func pairsOf(words string) (kvs []*mvccpb.KeyValue) {
	for _, word := range strings.Fields(words) {
		key, version, _ := strings.Cut(word, "=")
		kvs = append(kvs, &mvccpb.KeyValue{Key: []byte(key), Version: int64(version[0] - '0')})
	}
	return kvs
}

// TestAcceptedRules walks every rule through what it must let pass and what it must not.
func TestAcceptedRules(t *testing.T) {
	byVersion := Op{Kind: KindRange, Request: &pb.RangeRequest{SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_VERSION}}
	ranged := func(count int64, more bool, words string) Answer {
		return Answer{Messages: []proto.Message{&pb.RangeResponse{Count: count, More: more, Kvs: pairsOf(words)}}}
	}
	inTxn := func(a Answer) Answer {
		op := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: a.Messages[0].(*pb.RangeResponse)}}
		return Answer{Messages: []proto.Message{&pb.TxnResponse{Succeeded: true, Responses: []*pb.ResponseOp{op}}}}
	}
	txnByVersion := Op{Kind: KindTxn, Request: &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(byVersion.Request.(*pb.RangeRequest))}}}
	hashed := func(revision, compacted int64, hash uint32) Answer {
		return Answer{Messages: []proto.Message{&pb.HashKVResponse{
			Header: &pb.ResponseHeader{Revision: 50}, HashRevision: revision, CompactRevision: compacted, Hash: hash,
		}}}
	}
	hash := func(revision int64) Op { return Op{Kind: KindHashKV, Request: &pb.HashKVRequest{Revision: revision}} }
	refused := func(code codes.Code, text string) Answer { return Answer{Code: code, Text: text} }
	streamed := Op{Kind: KindRangeStream, Request: &pb.RangeRequest{SortTarget: pb.RangeRequest_VERSION}}
	streamedFive := Op{Kind: KindRangeStream, Request: &pb.RangeRequest{SortTarget: pb.RangeRequest_VERSION, Limit: 5}}
	streamedByKey := Op{Kind: KindRangeStream, Request: &pb.RangeRequest{}}

	leased := func(a, b int64) Answer {
		answer := ranged(2, false, "a=1 b=1")
		kvs := answer.Messages[0].(*pb.RangeResponse).Kvs
		kvs[0].Lease, kvs[1].Lease = a, b
		return answer
	}
	keysOnly := Op{Kind: KindRange, Request: &pb.RangeRequest{KeysOnly: true}}
	inTxnKeysOnly := Op{Kind: KindTxn, Request: &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(keysOnly.Request.(*pb.RangeRequest))}}}

	used := map[string]bool{}
	for _, c := range []struct {
		name                 string
		op                   Op
		reference, candidate Answer
		rule                 string // empty: a disagreement
	}{
		{"ties in key order", byVersion, ranged(13, false, "c=2 a=1 b=1"), ranged(13, false, "c=2 a=1 b=1"), "-"},
		{"ties of etcd's unstable sort", byVersion, ranged(13, false, "c=2 b=1 a=1"), ranged(13, false, "c=2 a=1 b=1"), "sort-ties"},
		{"the same within a transaction", txnByVersion, inTxn(ranged(13, false, "b=1 a=1")), inTxn(ranged(13, false, "a=1 b=1")), "sort-ties"},
		{"others kept at the limit", byVersion, ranged(13, true, "c=2 b=1"), ranged(13, true, "c=2 a=1"), "sort-ties"},
		{"others kept without a limit", byVersion, ranged(13, false, "c=2 b=1"), ranged(13, false, "c=2 a=1"), ""},
		{"ties of so few that etcd is stable", byVersion, ranged(12, false, "b=1 a=1"), ranged(12, false, "a=1 b=1"), ""},
		{"our ties out of key order", byVersion, ranged(13, false, "a=1 b=1"), ranged(13, false, "b=1 a=1"), ""},
		{"not sorted", byVersion, ranged(13, false, "c=2 a=1"), ranged(13, false, "a=1 c=2"), ""},

		{"stream sorted chunk by chunk", streamed, ranged(11, false, "a=1 c=2 c=2"), ranged(11, false, "a=1 b=2 c=3"), "stream-target"},
		{"stream sorted in our own way", streamed, ranged(11, false, "a=1 c=2 c=2"), ranged(11, false, "b=2 a=1 c=3"), ""},
		{"stream with a limit, counted wrong", streamedFive, ranged(5, false, "a=1 b=2 c=3"), ranged(6, false, "a=1 b=2 c=3"), "stream-target"},
		{"stream with a limit that holds it", streamedFive, ranged(4, false, "a=1 b=2 c=3"), ranged(5, false, "a=1 b=2 c=3"), ""},
		{"stream of one chunk", streamed, ranged(10, false, "a=1 c=2 c=2"), ranged(10, false, "a=1 b=2 c=3"), ""},
		{"stream by key", streamedByKey, ranged(11, false, "a=1 c=2 c=2"), ranged(11, false, "a=1 b=2 c=3"), ""},
		{"range", byVersion, ranged(11, false, "a=1 c=2 c=2"), ranged(11, false, "a=1 b=2 c=3"), ""},

		{"leases of keys", keysOnly, leased(0, 0), leased(7, 0), "keys-only-lease"},
		{"leases of keys within a transaction", inTxnKeysOnly, inTxn(leased(0, 0)), inTxn(leased(7, 0)), "keys-only-lease"},
		{"other leases of keys", keysOnly, leased(0, 0), leased(8, 0), ""},
		{"a lease too many", keysOnly, leased(0, 0), leased(7, 7), ""},
		{"one lease lost", keysOnly, leased(7, 0), leased(0, 0), ""},
		{"leases of pairs with values", Op{Kind: KindRange, Request: &pb.RangeRequest{}}, leased(0, 0), leased(7, 0), ""},

		{"code by the table", hash(1), refused(codes.Unknown, "etcdserver: too many requests"), refused(codes.ResourceExhausted, "etcdserver: too many requests"), "status-unknown"},
		{"code not by the table", hash(1), refused(codes.Unknown, "etcdserver: too many requests"), refused(codes.Internal, "etcdserver: too many requests"), ""},
		{"another text", hash(1), refused(codes.Unknown, "x"), refused(codes.ResourceExhausted, "x"), ""},

		{"remembered and fresh hash", hash(20), hashed(20, 10, 1), hashed(20, 20, 2), "hash-at-floor"},
		{"fresh hashes that differ", hash(20), hashed(20, 20, 1), hashed(20, 20, 2), ""},
		{"a hash with a floor that never was", hash(20), hashed(20, 10, 1), hashed(20, 15, 1), ""},
		{"a hash between floors", hash(30), hashed(30, 20, 1), hashed(30, 10, 1), ""},
		{"remembered below the floor", hash(10), hashed(10, -1, 1), refused(codes.OutOfRange, compactedText), "hash-at-floor"},
		{"compacted at the floor", hash(20), hashed(20, 10, 1), refused(codes.OutOfRange, compactedText), ""},
		{"before all revisions", hash(-1), hashed(-1, 10, 1), hashed(50, 10, 1), ""},
		{"refused otherwise", hash(10), hashed(10, -1, 1), refused(codes.Unavailable, "x"), ""},
	} {
		r := &Run{revision: 50, compacted: 20, floors: []int64{10, 20}}
		r.again = func(op Op) Answer {
			if op.Request.(*pb.RangeRequest).Revision > 0 {
				return leased(7, 0)
			}
			return ranged(c.candidate.Messages[0].(*pb.RangeResponse).Count, false, "a=1 b=2 c=3")
		}
		a, b := c.reference, c.candidate
		rules := r.accept(c.op, &a, &b)
		if (c.rule == "" || c.rule == "-") != (len(rules) == 0) || (len(rules) > 0 && rules[0] != c.rule) {
			t.Errorf("%s: rules %v", c.name, rules)
		}
		if difference := r.compare(c.op, a, b); (difference == "") != (c.rule != "") {
			t.Errorf("%s: difference %q", c.name, difference)
		}
		for _, rule := range rules {
			used[rule] = true
		}
	}

	table, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z][a-z-]*)` \\|").FindAllSubmatch(table, -1) {
		listed = append(listed, string(row[1]))
	}
	for rule := range used {
		if !slices.Contains(listed, rule) {
			t.Errorf("docs/differences.md does not list %s", rule)
		}
	}
	for _, rule := range listed {
		if !used[rule] {
			t.Errorf("docs/differences.md lists %s, which no case here uses", rule)
		}
	}
}
