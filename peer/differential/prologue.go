package differential

import (
	"fmt"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Prologue returns operations that a run should begin with: cases that chance meets too rarely, because they need several
// things to come together.
func Prologue() (ops []Op) {
	for _, t := range duplicateMatrix() {
		ops = append(ops, Op{Kind: KindTxn, Request: t})
	}
	ops = append(ops, betterReason()...)
	return append(ops, largeWatch()...)
}

// betterReason asks for what is refused for two reasons at a time, under each of two alarms.
func betterReason() (ops []Op) {
	for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: kind}
		clear := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: kind}
		ops = append(ops, Op{Kind: KindAlarm, Request: raise},
			Op{Kind: KindLeaseGrant, Request: &pb.LeaseGrantRequest{ID: 1, TTL: math.MaxInt64}},
			Op{Kind: KindLeaseRevoke, Request: &pb.LeaseRevokeRequest{ID: 1}},
			Op{Kind: KindPut, Request: &pb.PutRequest{Key: []byte("a"), Lease: 1}},
			Op{Kind: KindPut, Request: &pb.PutRequest{Key: []byte("a"), IgnoreValue: true}},
			Op{Kind: KindTxn, Request: &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: []byte("a"), Revision: 1 << 40})}}},
			Op{Kind: KindCompact, Request: &pb.CompactionRequest{Revision: 1 << 40}},
			Op{Kind: KindAlarm, Request: clear})
	}
	return ops
}

// duplicateMatrix is which keys a transaction may name twice: puts and deletes of one level, of nested transactions and
// of their branches. Only overlaps that every server has to refuse, or to take, are in it.
func duplicateMatrix() []*pb.TxnRequest {
	put := func(key string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("d")}}}
	}
	del := func(key, end string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
	}
	list := func(ops ...*pb.RequestOp) []*pb.RequestOp { return ops }
	nested := func(success, failure []*pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: success, Failure: failure}}}
	}
	get := func(key, end string) *pb.RequestOp {
		return rangeOp(&pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)})
	}
	var all []*pb.TxnRequest
	for _, ops := range [][]*pb.RequestOp{
		list(put("a"), put("a")),
		list(put("a"), put("b")),
		list(put("a"), del("a", "")),
		list(del("a", ""), put("a")),
		list(put("b"), del("a", "c")),
		list(del("a", "b"), put("b")),
		list(del("b", "a"), put("b")),
		list(put("b"), del("b", "b")),
		list(del("b", "a"), nested(list(put("b"), put("a")), nil)),
		list(del("a", "c"), del("b", "d"), del("a", "")),
		list(put("a"), get("a", "b"), get("\x00", "\x00")),
		list(get("a", ""), del("a", ""), get("a", "")),
		list(put("a"), nested(list(put("a")), nil)),
		list(nested(list(put("a")), nil), put("a")),
		list(put("a"), nested(nil, list(put("a")))),
		list(nested(list(put("a")), list(put("a")))),
		list(nested(list(put("a")), nil), nested(list(put("a")), nil)),
		list(nested(list(put("a")), nil), nested(nil, list(put("a")))),
		list(nested(list(put("a")), nil), nested(list(put("b")), nil)),
		list(nested(list(put("a"), put("a")), nil)),
		list(nested(list(nested(list(put("a")), nil)), nil), put("a")),
		list(del("a", "c"), nested(list(put("b")), nil)),
		list(nested(list(del("a", "c")), nil), put("b")),
		list(nested(list(del("a", "c")), nil), del("b", "")),
		list(put("a"), &pb.RequestOp{}),
		list(put("")),
		list(nested(list(put("")), nil)),
		list(nested(list(rangeOp(&pb.RangeRequest{Key: []byte("a"), SortTarget: 9})), nil)),
		list(put("c"), rangeOp(&pb.RangeRequest{Key: []byte("a"), Revision: 1 << 40})),
		list(nested(nil, list(rangeOp(&pb.RangeRequest{Key: []byte("a"), Revision: 1 << 40}))), put("c")),
	} {
		all = append(all, &pb.TxnRequest{Success: ops}, &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("never")}}, Success: ops, Failure: list(get("a", ""))})
	}
	return all
}

// largeWatch has more to tell than fits into one message if the client wants it in pieces: twelve values of 400 kB.
func largeWatch() (ops []Op) {
	value := make([]byte, 400_000)
	for i := range 12 {
		value[0] = byte(i)
		key := fmt.Appendf(nil, "large/%d", i%3)
		ops = append(ops, Op{Kind: KindPut, Request: &pb.PutRequest{Key: key, Value: append([]byte{}, value...)}})
	}
	for _, fragment := range []bool{true, false} {
		create := &pb.WatchCreateRequest{Key: []byte("large/"), RangeEnd: []byte("large0"), StartRevision: 2, PrevKv: true, Fragment: fragment}
		ops = append(ops, Op{Kind: KindWatch, Request: &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}}, Op{Kind: KindSync})
	}
	drop := Op{Kind: KindDelete, Request: &pb.DeleteRangeRequest{Key: []byte("large/"), RangeEnd: []byte("large0"), PrevKv: true}}
	return append(ops, drop, Op{Kind: KindSync}, Op{Kind: KindWatchClose})
}
