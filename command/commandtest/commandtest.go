package commandtest

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"keelson/command"
)

// Generator makes commands over a small space of keys and leases, so that they meet each other.
type Generator struct {
	R *rand.Rand
	// Keys is the number of different keys. Besides them there are ranges, empty keys and keys out of the ordinary.
	Keys int
	// Leases is the number of different lease ids.
	Leases int
	// Members is the number of different member ids, from 1 on, and of different peer URLs. 0: 4.
	Members int
	// Revision is about where the store stands: revisions are drawn around it.
	Revision int64
	// Tree adds ops of the v2 tree.
	Tree bool
	// Users has ops about users and roles among the others, and commands made under users' names.
	Users bool
	// AuthRevision is about where users and roles stand: what commands were admitted at is drawn around it.
	AuthRevision uint64
	// Wild lets fields take any value, also those that no proposer would write.
	Wild bool
}

// Command makes one command.
func (g *Generator) Command() command.Command {
	c := command.Command{Op: g.Op()}
	if g.chance(2) {
		c.Time = g.R.Int64()
	}
	switch {
	case g.Users:
		c.User, c.AuthRevision = g.Caller()
	case g.Wild && g.chance(8):
		c.User, c.AuthRevision = "root", g.R.Uint64N(10)
	}
	return c
}

// Op makes one op, of any kind that stands alone in the log.
func (g *Generator) Op() command.Op {
	if g.Tree && g.chance(4) {
		return g.TreeOp()
	}
	if g.Users && g.chance(4) {
		return g.AuthOp()
	}
	switch n := g.R.IntN(100); {
	case n < 35:
		return g.Put()
	case n < 45:
		return g.DeleteRange()
	case n < 65:
		return g.Txn(3)
	case n < 69:
		return &command.Compact{Revision: g.revision()}
	case n < 80:
		return &command.LeaseGrant{ID: g.lease(), TTLSeconds: g.int(1000)}
	case n < 87:
		return g.LeaseRevoke()
	case n < 89:
		return g.LeaseCheckpoint()
	case n < 90:
		return g.MembershipChange() // out of its place
	case n < 91:
		return &command.MemberPublish{ID: g.member(), Name: "m", ClientURLs: []string{"http://localhost:2379"}}
	case n < 92:
		return &command.MemberUpdate{ID: g.member(), PeerURLs: g.peerURLs()}
	case n < 93:
		if g.chance(2) {
			return &command.Downgrade{Target: []string{"", "3.6.0", "3.5.0"}[g.R.IntN(3)]}
		}
		return &command.ClusterVersion{Version: "3.7.0"}
	case n < 94:
		return &command.HashCheck{Index: g.R.Uint64N(100), Hash: g.R.Uint64(), From: 1}
	case n < 98:
		// Cleared twice as often as raised: a raised alarm refuses most other commands.
		return &command.Alarm{Member: g.R.Uint64N(3), Type: int32(g.R.IntN(3)), Raise: g.chance(3)}
	}
	return &command.Noop{}
}

// LeaseRevoke makes a LeaseRevoke, as a client or as a leader asks for it. It hardly ever names a grant that there is.
func (g *Generator) LeaseRevoke() *command.LeaseRevoke {
	o := &command.LeaseRevoke{ID: g.lease(), Term: g.R.Uint64N(4)}
	if g.chance(2) {
		o.GrantIndex, o.GrantOrdinal = g.R.Uint64N(50), g.R.Uint32N(3)
	}
	if g.Wild && g.chance(6) {
		o.GrantIndex, o.GrantOrdinal = g.R.Uint64(), g.R.Uint32()
	}
	return o
}

// LeaseCheckpoint makes a LeaseCheckpoint, as a leader records or forgets. It hardly ever names a grant that there is.
func (g *Generator) LeaseCheckpoint() *command.LeaseCheckpoint {
	o := &command.LeaseCheckpoint{}
	if g.chance(2) {
		o.Term = g.R.Uint64N(4)
	}
	for range g.R.IntN(4) {
		l := command.LeaseRemaining{ID: g.lease(), RemainingSeconds: g.int(100)}
		if g.chance(2) {
			l.GrantIndex, l.GrantOrdinal, l.CheckpointIndex = g.R.Uint64N(50), g.R.Uint32N(3), g.R.Uint64N(3)
		}
		if g.Wild && g.chance(6) {
			l.GrantIndex, l.GrantOrdinal, l.CheckpointIndex = g.R.Uint64(), g.R.Uint32(), g.R.Uint64()
		}
		o.Leases = append(o.Leases, l)
	}
	return o
}

// MembershipChange makes one of the ops that travel inside a change of raft's configuration.
func (g *Generator) MembershipChange() command.Op {
	switch g.R.IntN(5) {
	case 0, 1:
		o := &command.MemberAdd{ID: g.member(), PeerURLs: g.peerURLs(), IsLearner: g.chance(2), LearnersMax: 1 + g.int(3)}
		o.AutoPromote = g.chance(3)
		return o
	case 2:
		return &command.MemberPromote{ID: g.member()}
	}
	return &command.MemberRemove{ID: g.member()}
}

func (g *Generator) members() int { return cmp.Or(g.Members, 4) }

// member makes the id of a member; 0 and the one after the last stand for nobody.
func (g *Generator) member() uint64 {
	if g.Wild && g.chance(8) {
		return g.R.Uint64()
	}
	return g.R.Uint64N(uint64(g.members()) + 2)
}

func (g *Generator) peerURLs() []string {
	var urls []string
	for range 1 + g.R.IntN(2) {
		urls = append(urls, fmt.Sprintf("http://m%d:2380", g.R.IntN(2*g.members())))
	}
	if g.Wild && g.chance(6) {
		return append(urls, "", "\xff", urls[0])
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// Put makes a Put.
func (g *Generator) Put() *command.Put {
	p := &command.Put{Key: g.Key(), Value: g.value(), PrevKV: g.chance(3)}
	if g.chance(3) {
		p.Lease = g.lease()
	}
	if g.chance(8) {
		p.IgnoreValue = true
		if !g.Wild {
			p.Value = nil
		}
	}
	if g.chance(8) {
		p.IgnoreLease = true
		if !g.Wild {
			p.Lease = 0
		}
	}
	return p
}

// DeleteRange makes a DeleteRange.
func (g *Generator) DeleteRange() *command.DeleteRange {
	key, end := g.Selector()
	return &command.DeleteRange{Key: key, End: end, PrevKV: g.chance(2)}
}

// Range makes a Range.
func (g *Generator) Range() *command.Range {
	r := &command.Range{Limit: g.int(5), SortOrder: int32(g.R.IntN(3)), SortTarget: int32(g.R.IntN(5))}
	r.Key, r.End = g.Selector()
	if g.chance(3) {
		r.Revision = g.revision()
	}
	if g.Wild && g.chance(4) {
		r.SortOrder, r.SortTarget = g.R.Int32(), -g.R.Int32()
	}
	r.KeysOnly, r.CountOnly = g.chance(5), g.chance(8)
	if g.chance(4) {
		r.ModRevisionMin, r.CreateRevisionMax = g.revision(), g.revision()
	}
	if g.chance(8) {
		r.ModRevisionMax, r.CreateRevisionMin = g.revision(), g.revision()
	}
	return r
}

// Txn makes a Txn with others at most depth deep in it.
func (g *Generator) Txn(depth int) *command.Txn {
	t := &command.Txn{}
	for range g.R.IntN(3) {
		t.Compares = append(t.Compares, g.Compare())
	}
	t.Success, t.Failure = g.ops(depth), g.ops(depth)
	return t
}

func (g *Generator) ops(depth int) []command.Op {
	var ops []command.Op
	for range g.R.IntN(4) {
		switch n := g.R.IntN(10); {
		case n < 4:
			ops = append(ops, g.Put())
		case n < 6:
			ops = append(ops, g.Range())
		case n < 8:
			ops = append(ops, g.DeleteRange())
		case depth > 1:
			ops = append(ops, g.Txn(depth-1))
		}
	}
	return ops
}

// Compare makes a Compare.
func (g *Generator) Compare() command.Compare {
	c := command.Compare{Target: int32(g.R.IntN(5)), Result: int32(g.R.IntN(4)), Number: g.revision(), Value: g.value()}
	c.Key, c.End = g.Selector()
	if g.chance(2) {
		c.End = nil
	}
	if g.Wild && g.chance(4) {
		c.Target, c.Result = g.R.Int32(), -g.R.Int32()
	}
	return c
}

// Selector makes a range: of one key, of some, or of all.
func (g *Generator) Selector() (key, end []byte) {
	key = g.Key()
	switch g.R.IntN(6) {
	case 0:
		return key, []byte{0}
	case 1:
		return []byte{0}, []byte{0}
	case 2, 3:
		return key, g.Key()
	}
	return key, nil
}

// Key makes a key.
func (g *Generator) Key() []byte {
	if g.Wild && g.chance(16) {
		return [][]byte{nil, {}, {0}, {0, 0}, {0xff}, {0xff, 0xff}, make([]byte, 300)}[g.R.IntN(7)]
	}
	return []byte{'k', byte('a' + g.R.IntN(g.Keys))}
}

func (g *Generator) value() []byte {
	v := make([]byte, g.R.IntN(12))
	for i := range v {
		v[i] = byte('0' + g.R.IntN(10))
	}
	return v
}

// lease makes an id around 0 that is rarely 0 itself.
func (g *Generator) lease() int64 {
	if g.Wild && g.chance(8) {
		return []int64{0, -1, math.MaxInt64, math.MinInt64}[g.R.IntN(4)]
	}
	id := int64(1 + g.R.IntN(g.Leases))
	if id%2 == 0 {
		return -id
	}
	return id
}

func (g *Generator) revision() int64 {
	if g.Wild && g.chance(6) {
		return []int64{-1, math.MaxInt64, math.MinInt64, 1 << 40}[g.R.IntN(4)]
	}
	return max(g.Revision-10+g.R.Int64N(12), 0)
}

func (g *Generator) int(max int64) int64 {
	if g.Wild && g.chance(6) {
		return []int64{-1, math.MaxInt64, math.MinInt64, 1 << 40}[g.R.IntN(4)]
	}
	return g.R.Int64N(max)
}

func (g *Generator) chance(oneIn int) bool { return g.R.IntN(oneIn) == 0 }
