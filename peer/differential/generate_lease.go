package differential

import (
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leaseIDs are those the client chooses. They are few, so that grants collide.
var leaseIDs = []int64{1, 2, 3, 7, 1 << 40, math.MaxInt64, -1, -9, math.MinInt64}

// live returns the leases of the model in order; named ones, whose id the server chose, only if asked for.
func (g *Generator) live(named bool) (ids []int64) {
	for id := range g.run.leases {
		if named || id < slotBase || id >= slotEnd {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// lease returns one to ask about: mostly a live one.
func (g *Generator) lease(named bool) int64 {
	if live := g.live(named); len(live) > 0 && g.chance(0.7) {
		return pick(g, live...)
	}
	return pick(g, append(leaseIDs, 0, 4711)...)
}

// attachable returns a lease to put keys on. A server-chosen id never is: it would be in values and hashes.
func (g *Generator) attachable(wild bool) int64 {
	if wild && g.chance(0.05) {
		return pick(g, append(leaseIDs, 4711)...)
	}
	if live := g.live(false); len(live) > 0 {
		return pick(g, live...)
	}
	return 0
}

func (g *Generator) leaseGrant() Op {
	// Times to live are so far apart that the order of expiry does not hang on when exactly a lease was granted.
	request := &pb.LeaseGrantRequest{ID: pick(g, leaseIDs...), TTL: ttlLong * int64(1+g.rng.IntN(20))}
	op := Op{Kind: KindLeaseGrant, Request: request}
	switch g.rng.IntN(12) {
	case 0, 1:
		if len(g.run.leases) < 30 {
			g.slots++
			request.ID, op.Slot = 0, slotBase+g.slots
		}
	case 2:
		request.TTL = pick(g, int64(9_000_000_000), 9_000_000_001, math.MaxInt64)
	}
	return op
}

// shortGrant asks for less than the minimum TTL under an id that nothing else uses.
func (g *Generator) shortGrant() Op {
	return Op{Kind: KindShortGrant, Request: &pb.LeaseGrantRequest{ID: 5000, TTL: pick(g, int64(0), 1, -1, math.MinInt64, 2)}}
}

// leaveToExpire comes rarely, because it takes seconds, and not while an alarm could forbid the expiry.
func (g *Generator) leaveToExpire() Op {
	if g.expiry > 0 || len(g.alarms) > 0 {
		return Op{Kind: KindSync}
	}
	g.expiry = 1500
	var on [][]byte
	for _, i := range g.rng.Perm(len(keys))[:1+g.rng.IntN(5)] {
		on = append(on, keys[i])
	}
	return Op{Kind: KindExpiry, Keys: on, Request: &pb.PutRequest{Lease: 6000, Value: g.value()}}
}

func (g *Generator) keepAlive() Op {
	op := Op{Kind: KindKeepAlive}
	for range 1 + g.rng.IntN(4) {
		op.Leases = append(op.Leases, g.lease(true))
	}
	return op
}
