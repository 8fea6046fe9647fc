package differential

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// stableSortMax is up to how many entries etcd's sort keeps equal ones in order.
const stableSortMax = 12

// unknownTexts are the errors that etcd sends as Unknown although it has a code for them.
var unknownTexts = map[string]codes.Code{
	"etcdserver: too many requests":                                         codes.ResourceExhausted,
	"etcdserver: re-configuration failed due to not enough started members": codes.FailedPrecondition,
}

// accept rewrites the candidate's answer to the reference's wherever docs/differences.md says that the difference is one we
// stand by. It returns the rules that were used. Both answers may be changed.
func (r *Run) accept(op Op, reference, candidate *Answer) (used []string) {
	if code, ok := unknownTexts[reference.Text]; ok && reference.Code == codes.Unknown && candidate.Text == reference.Text && candidate.Code == code {
		candidate.Code = codes.Unknown
		used = append(used, "status-unknown")
	}
	if request, ok := op.Request.(*pb.HashKVRequest); ok && r.acceptHashAtFloor(request, reference, candidate) {
		return append(used, "hash-at-floor")
	}
	if len(reference.Messages) != 1 || len(candidate.Messages) != 1 {
		return used
	}
	if r.acceptStreamTarget(op, reference, candidate) {
		used = append(used, "stream-target")
	}
	switch request := op.Request.(type) {
	case *pb.RangeRequest:
		a, aok := reference.Messages[0].(*pb.RangeResponse)
		b, bok := candidate.Messages[0].(*pb.RangeResponse)
		if aok && bok {
			return append(used, r.acceptRange(op.Meta, request, a.Header.GetRevision(), a, b)...)
		}
	case *pb.TxnRequest:
		a, aok := reference.Messages[0].(*pb.TxnResponse)
		b, bok := candidate.Messages[0].(*pb.TxnResponse)
		if aok && bok {
			return append(used, r.acceptTxn(op.Meta, request, a.Header.GetRevision(), a, b)...)
		}
	}
	return used
}

// streamPage is how many pairs etcd reads for the first chunk of a stream, if the request has no smaller limit.
const streamPage = 10

// acceptStreamTarget puts the reference's unary answer in the place of its streamed one, if that was sorted chunk by
// chunk. Nothing was written since.
func (r *Run) acceptStreamTarget(op Op, reference, candidate *Answer) bool {
	request, ok := op.Request.(*pb.RangeRequest)
	if !ok || op.Kind != KindRangeStream || request.SortTarget == pb.RangeRequest_KEY || proto.Equal(reference.Messages[0], candidate.Messages[0]) {
		return false
	}
	page := int64(streamPage)
	if request.Limit > 0 {
		page = min(page, request.Limit)
	}
	unary := r.again(Op{Kind: KindRange, Request: request, Meta: op.Meta})
	streamed, ok := candidate.Messages[0].(*pb.RangeResponse)
	if !ok || len(unary.Messages) != 1 || unary.Messages[0].(*pb.RangeResponse).Count <= page {
		return false
	}
	asked := unary.Messages[0].(*pb.RangeResponse)
	r.acceptRange(op.Meta, request, asked.Header.GetRevision(), asked, streamed)
	if !proto.Equal(asked, streamed) {
		return false
	}
	*reference = unary
	return true
}

// acceptHashAtFloor takes over the candidate's hash at a floor, present or past, if the two were taken in different ways
// and each in one of the right ones.
func (r *Run) acceptHashAtFloor(request *pb.HashKVRequest, reference, candidate *Answer) bool {
	revision := request.Revision
	if revision == 0 {
		revision = r.revision
	}
	i := slices.Index(r.floors, revision)
	if i < 0 {
		return false
	}
	last, before := i == len(r.floors)-1, int64(-1)
	if i > 0 {
		before = r.floors[i-1]
	}
	right := func(a *Answer) (compacted int64, ok bool) {
		if len(a.Messages) == 0 {
			return 0, !last && a.Text == compactedText
		}
		h, ok := a.Messages[0].(*pb.HashKVResponse)
		return h.GetCompactRevision(), ok && h.HashRevision == revision && h.Header.GetRevision() == r.revision &&
			(h.CompactRevision == before || (last && h.CompactRevision == revision))
	}
	a, aok := right(reference)
	b, bok := right(candidate)
	if !aok || !bok || a == b {
		return false
	}
	*reference = *candidate
	return true
}

// compactedText is what a read below the floor is told.
const compactedText = "etcdserver: mvcc: required revision has been compacted"

// acceptTxn applies the rules for ranges to every range of the branch that both sides took.
func (r *Run) acceptTxn(meta []string, request *pb.TxnRequest, revision int64, a, b *pb.TxnResponse) (used []string) {
	ops := request.Failure
	if a.Succeeded {
		ops = request.Success
	}
	if a.Succeeded != b.Succeeded || len(a.Responses) != len(ops) || len(b.Responses) != len(ops) {
		return nil
	}
	for i, op := range ops {
		if q := op.GetRequestRange(); q != nil {
			used = append(used, r.acceptRange(meta, q, revision, a.Responses[i].GetResponseRange(), b.Responses[i].GetResponseRange())...)
		}
		if t := op.GetRequestTxn(); t != nil {
			x, y := a.Responses[i].GetResponseTxn(), b.Responses[i].GetResponseTxn()
			if x != nil && y != nil {
				used = append(used, r.acceptTxn(meta, t, revision, x, y)...)
			}
		}
	}
	return used
}

// acceptRange applies the rules for one range, whose answer was given at a revision or, within a transaction that made it, just before.
func (r *Run) acceptRange(meta []string, request *pb.RangeRequest, revision int64, reference, candidate *pb.RangeResponse) (used []string) {
	a, b := reference, candidate
	if a == nil || b == nil || proto.Equal(a, b) {
		return nil
	}
	again := func(q *pb.RangeRequest) (kvs []*mvccpb.KeyValue) {
		for _, m := range r.again(Op{Kind: KindRange, Request: q, Meta: meta}).Messages {
			kvs = append(kvs, m.(*pb.RangeResponse).Kvs...)
		}
		return kvs
	}
	if acceptLeases(request, revision, a, b, again) {
		used = append(used, "keys-only-lease")
	}
	if a.Count > stableSortMax && request.SortTarget != pb.RangeRequest_KEY && acceptSortTies(request, a, b) {
		used = append(used, "sort-ties")
	}
	return used
}

// acceptLeases completes the reference's pairs without values, which have no leases, by the leases that it shows with the values,
// if the candidate has those. again asks the reference for pairs.
func acceptLeases(request *pb.RangeRequest, revision int64, a, b *pb.RangeResponse, again func(*pb.RangeRequest) []*mvccpb.KeyValue) bool {
	leased := func(kv *mvccpb.KeyValue) bool { return kv.Lease != 0 }
	if !request.KeysOnly || request.SortTarget == pb.RangeRequest_VALUE || slices.ContainsFunc(a.Kvs, leased) || !slices.ContainsFunc(b.Kvs, leased) {
		return false
	}
	if request.Revision > 0 {
		revision = request.Revision
	}
	type version struct {
		key string
		mod int64
	}
	leases := map[version]int64{}
	for _, at := range []int64{revision - 1, revision} {
		whole := &pb.RangeRequest{Key: request.Key, RangeEnd: request.RangeEnd, Revision: max(at, 1)}
		for _, kv := range again(whole) {
			leases[version{string(kv.Key), kv.ModRevision}] = kv.Lease
		}
	}
	for _, kv := range b.Kvs {
		if kv.Lease != leases[version{string(kv.Key), kv.ModRevision}] {
			return false
		}
	}
	for _, kv := range a.Kvs {
		kv.Lease = leases[version{string(kv.Key), kv.ModRevision}]
	}
	return true
}

// acceptSortTies gives the candidate's pairs the reference's order if both are sorted alike and the candidate keeps
// equal ones in key order. At the end of a limited answer the two may have kept different ones among equals.
func acceptSortTies(request *pb.RangeRequest, a, b *pb.RangeResponse) bool {
	if len(a.Kvs) != len(b.Kvs) {
		return false
	}
	known := map[string]*mvccpb.KeyValue{}
	for _, kv := range a.Kvs {
		known[string(kv.Key)] = kv
	}
	for i, kv := range b.Kvs {
		if sortCompare(request, a.Kvs[i], kv) != 0 {
			return false
		}
		if i > 0 && sortCompare(request, b.Kvs[i-1], kv) == 0 && bytes.Compare(b.Kvs[i-1].Key, kv.Key) >= 0 {
			return false
		}
		same, ok := known[string(kv.Key)]
		atEnd := b.More && sortCompare(request, kv, b.Kvs[len(b.Kvs)-1]) == 0
		if (ok && !proto.Equal(same, kv)) || (!ok && !atEnd) {
			return false
		}
	}
	b.Kvs = a.Kvs
	return true
}

// sortCompare orders two pairs by what the request sorts by.
func sortCompare(request *pb.RangeRequest, x, y *mvccpb.KeyValue) int {
	switch request.SortTarget {
	case pb.RangeRequest_KEY:
		return bytes.Compare(x.Key, y.Key)
	case pb.RangeRequest_VERSION:
		return cmp.Compare(x.Version, y.Version)
	case pb.RangeRequest_CREATE:
		return cmp.Compare(x.CreateRevision, y.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(x.ModRevision, y.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(x.Value, y.Value)
	}
	panic(fmt.Sprintf("differential: answer to sort target %d", request.SortTarget))
}

// compare says how the answers differ, or returns "".
func (r *Run) compare(op Op, reference, candidate Answer) string {
	if candidate.Fault != "" {
		return "the candidate broke a promise: " + candidate.Fault
	}
	if reference.Fault != "" {
		return "the reference broke a promise, so the harness is wrong: " + reference.Fault
	}
	r.accept(op, &reference, &candidate)
	switch {
	case reference.Code != candidate.Code:
		return fmt.Sprintf("code %v, want %v", candidate.Code, reference.Code)
	case reference.Text != candidate.Text:
		return fmt.Sprintf("text %q, want %q", candidate.Text, reference.Text)
	case len(reference.Messages) != len(candidate.Messages):
		return fmt.Sprintf("%d messages, want %d", len(candidate.Messages), len(reference.Messages))
	}
	for i, m := range reference.Messages {
		if !proto.Equal(m, candidate.Messages[i]) {
			return fmt.Sprintf("message %d: %s", i, firstDifference(rendered(m), rendered(candidate.Messages[i])))
		}
	}
	return ""
}

// firstDifference shows where two renderings part.
func firstDifference(want, got string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	around := func(s string) string { return s[max(0, i-60):min(len(s), i+80)] }
	return fmt.Sprintf("got ...%s... want ...%s...", around(got), around(want))
}
