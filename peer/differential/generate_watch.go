package differential

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	streamsMax  = 4  // watch streams open at a time
	watchersMax = 25 // create requests on one of them
)

// watch makes one request on one of the streams: mostly creates, and on a full stream its end.
func (g *Generator) watch() Op {
	index := g.rng.IntN(streamsMax)
	op := Op{Kind: KindWatch, Stream: index}
	p := g.run.pairs[index]
	if p != nil && (p.halfClosed && g.chance(0.3) || len(p.expected) >= watchersMax) {
		return Op{Kind: KindWatchClose, Stream: index}
	}
	switch n := g.rng.IntN(20); {
	case n < 12 || p == nil:
		op.Request = &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: g.watchCreate(p)}}
		if p == nil && g.chance(0.2) {
			op.Meta = g.metadata()
		}
	case n < 15:
		op.Request = &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: g.watchID(p)}}}
	case n < 19:
		op.Request = progressRequest()
	default:
		op.Request = &pb.WatchRequest{}
	}
	return op
}

func (g *Generator) watchCreate(p *pair) *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{PrevKv: g.chance(0.4), ProgressNotify: g.chance(0.2), Fragment: g.chance(0.2)}
	r.Key, r.RangeEnd = g.interval(true)
	if g.chance(0.05) {
		r.Key = nil
	}
	now, floor := g.run.revision, g.run.compacted
	switch g.rng.IntN(12) {
	case 0, 1, 2, 3:
	case 4, 5, 6:
		r.StartRevision = max(1, floor) + g.rng.Int64N(now-max(1, floor)+1)
	case 7:
		r.StartRevision = max(1, floor)
	case 8:
		r.StartRevision = now + g.rng.Int64N(12)
	default:
		r.StartRevision = g.revision()
	}
	for range pick(g, 0, 0, 0, 0, 1, 1, 2) {
		r.Filters = append(r.Filters, pick(g, pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE, 2, -1))
	}
	// Not -1: etcd takes it, but also means "no watcher" by it, and may send such a watcher's events before the reply
	// that creates it.
	if id := g.watchID(p); id != -1 && g.chance(0.2) {
		r.WatchId = id
	}
	return r
}

// watchID returns an id that is in use, was in use, or is nobody's.
func (g *Generator) watchID(p *pair) int64 {
	if p != nil && len(p.expected) > 0 && g.chance(0.7) {
		return p.expected[g.rng.IntN(len(p.expected))].id
	}
	return pick(g, int64(1), 2, 5, -1, -7, 1000, math.MaxInt64, math.MinInt64)
}
