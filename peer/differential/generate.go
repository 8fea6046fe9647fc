package differential

import (
	"fmt"
	"math"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Generator chooses operations by a seed and by what the run has learned. The same seed against the same answers gives
// the same operations.
type Generator struct {
	rng     *rand.Rand
	run     *Run
	options Options
	choices []choice
	total   int // sum of the weights

	values int      // counts the values made
	slots  int64    // counts the leases with server-chosen ids
	expiry int      // operations until the next lease may be left to expire
	alarms []*alarm // raised and not yet taken back
}

// alarm is one that was raised, and after how many more operations it is taken back.
type alarm struct {
	request *pb.AlarmRequest
	left    int
}

// choice is one kind of operation, how often it comes relative to the others, and how it is made.
type choice struct {
	kind   Kind
	weight int
	make   func() Op
}

// NewGenerator makes operations for a run.
func NewGenerator(options Options, run *Run) *Generator {
	g := &Generator{rng: rand.New(rand.NewPCG(options.Seed, 0)), run: run, options: options, expiry: 200, slots: int64(len(run.sides[0].leases))}
	all := []choice{
		{KindRange, 220, func() Op { return Op{Kind: KindRange, Request: g.rangeRequest(true)} }},
		{KindRangeStream, 70, func() Op { return Op{Kind: KindRangeStream, Request: g.rangeStreamRequest()} }},
		{KindPut, 270, g.put},
		{KindDelete, 70, func() Op { return Op{Kind: KindDelete, Request: g.deleteRequest()} }},
		{KindTxn, 190, func() Op { return Op{Kind: KindTxn, Request: g.txnRequest()} }},
		{KindCompact, 9, g.compact},
		{KindHashKV, 25, func() Op { return Op{Kind: KindHashKV, Request: &pb.HashKVRequest{Revision: g.revision()}} }},
		{KindLeaseGrant, 35, g.leaseGrant},
		{KindLeaseRevoke, 14, func() Op { return Op{Kind: KindLeaseRevoke, Request: &pb.LeaseRevokeRequest{ID: g.lease(true)}} }},
		{KindLeaseTTL, 30, func() Op {
			return Op{Kind: KindLeaseTTL, Request: &pb.LeaseTimeToLiveRequest{ID: g.lease(true), Keys: g.chance(0.6)}}
		}},
		{KindLeases, 10, func() Op { return Op{Kind: KindLeases, Request: &pb.LeaseLeasesRequest{}} }},
		{KindKeepAlive, 15, g.keepAlive},
		{KindShortGrant, 3, g.shortGrant},
		{KindExpiry, 2, g.leaveToExpire},
		{KindAlarm, 5, g.alarm},
		{KindUnknown, 2, func() Op { return Op{Kind: KindUnknown, Request: &pb.RangeRequest{Key: g.key()}} }},
		{KindWatch, 110, g.watch},
		{KindWatchHalfClose, 2, func() Op { return Op{Kind: KindWatchHalfClose, Stream: g.rng.IntN(streamsMax)} }},
		{KindWatchClose, 6, func() Op {
			return Op{Kind: KindWatchClose, Stream: g.rng.IntN(streamsMax), Kill: g.chance(0.3) && !g.options.Gentle}
		}},
		{KindSync, 15, func() Op { return Op{Kind: KindSync} }},
		{KindRestart, 3, func() Op { return Op{Kind: KindRestart, Kill: g.chance(0.5), Both: g.chance(0.2)} }},
	}
	for _, c := range all {
		if options.Without[c.kind] || (c.kind == KindRestart && !options.Restarts) {
			continue
		}
		g.choices = append(g.choices, c)
		g.total += c.weight
	}
	return g
}

// Next returns the next operation.
func (g *Generator) Next() Op {
	g.expiry--
	for i, a := range g.alarms {
		if a.left--; a.left <= 0 {
			g.alarms = append(g.alarms[:i], g.alarms[i+1:]...)
			return Op{Kind: KindAlarm, Request: &pb.AlarmRequest{
				Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.request.MemberID, Alarm: a.request.Alarm,
			}}
		}
	}
	at := g.rng.IntN(g.total)
	for _, c := range g.choices {
		if at -= c.weight; at < 0 {
			op := c.make()
			if op.Meta == nil && g.chance(0.02) {
				op.Meta = g.metadata()
			}
			return op
		}
	}
	panic(fmt.Sprintf("differential: weight %d of %d", at, g.total))
}

// Last returns the operations that take back what must not outlive the run, and hear the streams out.
func (g *Generator) Last() (ops []Op) {
	for _, a := range g.alarms {
		ops = append(ops, Op{Kind: KindAlarm, Request: &pb.AlarmRequest{
			Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.request.MemberID, Alarm: a.request.Alarm,
		}})
	}
	g.alarms = nil
	return append(ops, Op{Kind: KindWatchEnd})
}

func (g *Generator) chance(p float64) bool { return g.rng.Float64() < p }

func pick[T any](g *Generator, from ...T) T { return from[g.rng.IntN(len(from))] }

// metadata returns call metadata that must not change the answer of a member that has a leader and no auth.
func (g *Generator) metadata() []string {
	return pick(g, []string{"hasleader", "true"}, []string{"hasleader", "false"}, []string{"client-api-version", "3.7"},
		[]string{"token", "root.1"}, []string{"authorization", "Bearer x"}, []string{"client-api-version", "", "x-other", "1"})
}

// keys is the whole key space: small, so that everything meets; with prefixes of each other and the bytes that end
// ranges. Fourteen of them share a prefix, which is more than a sort keeps in order by accident.
var keys = func() [][]byte {
	all := []string{"a", "a/", "a/1", "a/2", "a/\xff", "b", "b\x00", "b\x00\x00", "c\xff", "\x00", "\x00\x00", "\xff", "\xff\xff", "zz"}
	for i := range 14 {
		all = append(all, fmt.Sprintf("k%02d", i))
	}
	var out [][]byte
	for _, k := range all {
		out = append(out, []byte(k))
	}
	return out
}()

// key returns one of the keys.
func (g *Generator) key() []byte { return keys[g.rng.IntN(len(keys))] }

// interval returns a key and range end: one key, a prefix, everything from a key on, everything, or any two keys, which
// may well be in the wrong order. wild ones have an empty key now and then.
func (g *Generator) interval(wild bool) (key, end []byte) {
	key = g.key()
	if wild && g.chance(0.01) {
		key = nil
	}
	switch g.rng.IntN(12) {
	case 0, 1, 2, 3:
		return key, nil
	case 4, 5:
		return key, prefixEnd(key)
	case 6:
		return key, []byte{0}
	case 7:
		return []byte{0}, []byte{0}
	case 8:
		return []byte("k"), []byte("l")
	case 9:
		return key, append(append([]byte{}, key...), 0)
	}
	return key, g.key()
}

// prefixEnd returns the end of the range of keys that begin with prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// value returns an empty, a common, a unique, a binary or a longer value.
func (g *Generator) value() []byte {
	switch g.rng.IntN(10) {
	case 0:
		return nil
	case 1, 2, 3:
		return []byte(pick(g, "x", "y", "z"))
	case 4:
		return []byte{0, 0xff, byte(g.rng.IntN(256))}
	case 5:
		long := make([]byte, pick(g, 20, 50, 100, 3000))
		for i := range long {
			long[i] = byte('a' + (i+g.values)%26)
		}
		return long
	}
	g.values++
	return fmt.Appendf(nil, "v%d", g.values)
}

// revision returns a revision worth asking for: none, now, the floor, their neighbours, anything between, or nonsense.
func (g *Generator) revision() int64 {
	now, floor := g.run.revision, g.run.compacted
	switch g.rng.IntN(16) {
	case 0, 1, 2, 3, 4:
		return 0
	case 5:
		return now
	case 6:
		return now + 1
	case 7:
		return now - 1
	case 8:
		return floor
	case 9:
		return floor + 1
	case 10:
		return floor - 1
	case 11:
		return pick(g, -1, -2, math.MinInt64, math.MaxInt64, now+1000, 1)
	}
	return floor + g.rng.Int64N(now-floor+1)
}

// readable returns a revision that a read gets an answer for.
func (g *Generator) readable() int64 {
	now, floor := g.run.revision, g.run.compacted
	return pick(g, 0, 0, 0, now, max(floor, 1), max(floor, 1)+g.rng.Int64N(now-max(floor, 1)+1))
}

func (g *Generator) compact() Op {
	now, floor := g.run.revision, g.run.compacted
	request := &pb.CompactionRequest{Revision: g.revision(), Physical: g.chance(0.5)}
	if g.chance(0.7) && now > floor {
		// A little history stays readable, most of the time.
		request.Revision = floor + 1 + g.rng.Int64N(now-floor)
	}
	// A floor of 0, which a new store accepts once, is forgotten by etcd when it restarts.
	if request.Revision == 0 && g.options.Restarts {
		request.Revision = -1
	}
	return Op{Kind: KindCompact, Request: request}
}

func (g *Generator) alarm() Op {
	member := pick(g, uint64(0), 1, 77, math.MaxUint64)
	kind := pick(g, pb.AlarmType_NONE, pb.AlarmType_NOSPACE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)
	action := pick(g, pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE)
	request := &pb.AlarmRequest{Action: action, MemberID: member, Alarm: kind}
	if action == pb.AlarmRequest_ACTIVATE && kind != pb.AlarmType_NONE {
		g.alarms = append(g.alarms, &alarm{request: request, left: 2 + g.rng.IntN(25)})
	}
	if action == pb.AlarmRequest_GET {
		request.MemberID = 0
	}
	return Op{Kind: KindAlarm, Request: request}
}
