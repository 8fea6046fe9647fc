package v3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/command/wire"
	"keelson/state"
	"keelson/state/mvcc"
)

// How many pairs a chunk of a RangeStream may hold: the first one, and any.
const (
	streamFirstKeys = 10
	streamKeysMax   = 1 << 20
)

// RangeStream answers a read in chunks, all as of one revision. Only the last one has a header, more and count.
func (k *kv) RangeStream(r *pb.RangeRequest, stream grpc.ServerStream) error {
	if err := checkRange(r); err != nil {
		return err
	}
	if err := checkRangeStream(r); err != nil {
		return err
	}
	ctx := stream.Context()
	v, err := k.s.view(ctx, r.Serializable)
	if err != nil {
		return err
	}
	h := k.s.header(v.Revision())
	// Without an order, but with something to order by, a range is sorted all the same: a cursor, which knows no order but
	// that of keys, has no part in it.
	if r.CountOnly || r.SortTarget != pb.RangeRequest_KEY {
		defer v.Close()
		return k.streamWhole(ctx, &h, v, r, stream)
	}
	c, err := v.Cursor(*wire.Range(r))
	v.Close() // a slow client must not hold on to it
	if err != nil {
		return wireError(err)
	}
	s := rangeStream{s: k.s, ctx: ctx, header: &h, cursor: c, limit: max(r.Limit, 0), keys: streamFirstKeys}
	for !s.last {
		e, err := s.next()
		if err != nil {
			return wireError(err)
		}
		if err := stream.SendMsg(wrap(e)); err != nil {
			return wireError(err)
		}
	}
	return nil
}

// streamWhole sends the answer as one chunk.
func (k *kv) streamWhole(ctx context.Context, h *header, v *state.View, r *pb.RangeRequest, stream grpc.ServerStream) error {
	reply := k.s.reads.begin(ctx, nil, false)
	sum, err := v.RangeIn(reply.keep, *wire.Range(r), reply.add)
	if reply.err != nil {
		err = reply.err
	}
	if err != nil {
		return reply.abort(wireError(err))
	}
	e, err := reply.finish(h, sum.More, sum.Count)
	if err != nil {
		return wireError(err)
	}
	return wireError(stream.SendMsg(wrap(e)))
}

// rangeStream is a RangeStream under way.
type rangeStream struct {
	s      *Services
	ctx    context.Context
	header *header
	cursor *mvcc.Cursor
	limit  int64 // 0: none
	sent   int64 // pairs so far. Invariant: sent <= limit, if there is one
	keys   int64 // how many pairs the next chunk may hold
	last   bool  // the last chunk was made
}

// next makes the next chunk.
func (r *rangeStream) next() (*encoded, error) {
	want := r.keys
	if r.limit > 0 {
		want = min(want, r.limit-r.sent)
	}
	reply := r.s.reads.begin(r.ctx, nil, false)
	bytesMax := 2 * r.s.o.MaxRequestBytes
	done, err := r.cursor.Next(want, func(kv *mvcc.KeyValue) bool {
		return reply.add(kv) && int64(reply.size) < bytesMax
	})
	if err == nil {
		err = reply.err
	}
	if err != nil {
		return nil, reply.abort(err)
	}
	r.sent += int64(reply.kvs)
	r.resize(int64(reply.size))
	if !done && (r.limit == 0 || r.sent < r.limit) {
		return reply.end(), nil
	}
	rest, err := r.cursor.Rest()
	if err != nil {
		return nil, reply.abort(err)
	}
	r.last = true
	return reply.finish(r.header, rest > 0, r.sent+rest)
}

// resize adapts the number of pairs in a chunk to the size of the last one: towards the size of a request.
func (r *rangeStream) resize(size int64) {
	switch {
	case size < r.s.o.MaxRequestBytes/2:
		r.keys = min(2*r.keys, streamKeysMax)
	case size >= 2*r.s.o.MaxRequestBytes:
		r.keys = max(r.keys/2, 1)
	}
}
