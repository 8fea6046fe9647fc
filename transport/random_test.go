package transport

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// TestRandom runs a few members that send to each other while connections break, fall silent, members leave and come
// back at other addresses. Whatever arrives is in order, at most once, and from who sent it; and when all is well again,
// everything arrives.
func TestRandom(t *testing.T) {
	eachSeed(t, *rounds, func(t *testing.T, r *rand.Rand) {
		c := &cluster{t: t, r: r, next: make(map[[2]uint64]uint64)}
		for id := uint64(1); id <= 3; id++ {
			c.start(id)
		}
		c.rewire()
		for range 60 {
			c.fault()
			for range 20 {
				c.send()
			}
			time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond)
		}
		c.heal()
		c.check()
	})
}

type cluster struct {
	t        *testing.T
	r        *rand.Rand
	members  []*member
	networks []*lines
	all      []*member            // also those that were replaced
	next     map[[2]uint64]uint64 // number of the last message, by sender and receiver
}

func (c *cluster) start(id uint64) {
	network := &lines{}
	m := newMember(c.t, id, impatient, func(o *Options) {
		o.Dial = network.dial
		o.MessagesBytesMax = 64 << 10
	})
	c.all = append(c.all, m)
	if int(id) > len(c.members) {
		c.members, c.networks = append(c.members, m), append(c.networks, network)
		return
	}
	c.members[id-1], c.networks[id-1] = m, network
}

// rewire tells everybody where everybody is.
func (c *cluster) rewire() {
	for _, m := range c.members {
		m.knows(slices.DeleteFunc(slices.Clone(c.members), func(o *member) bool { return o == m })...)
	}
}

func (c *cluster) fault() {
	i := c.r.IntN(len(c.members))
	m, network := c.members[i], c.networks[i]
	switch c.r.IntN(12) {
	case 0, 1:
		network.cut()
	case 2:
		network.silence(true)
	case 3:
		network.silence(false)
	case 4:
		m.knows()
	case 5:
		c.rewire()
	case 6: // it restarts somewhere else
		m.server.Close()
		m.transport.Stop()
		c.start(m.id)
		c.rewire()
	}
}

// send sends a message of each sort, numbered, from somebody to somebody.
func (c *cluster) send() {
	from, to := c.members[c.r.IntN(len(c.members))], c.members[c.r.IntN(len(c.members))]
	if from == to {
		return
	}
	way := [2]uint64{from.id, to.id}
	c.next[way]++
	from.send(from.append(to, c.next[way], c.r.IntN(9000)), from.beat(to, c.next[way]))
}

// heal makes everything well, and checks that everybody reaches everybody.
func (c *cluster) heal() {
	for _, n := range c.networks {
		n.silence(false)
		n.cut()
	}
	c.rewire()
	for _, from := range c.members {
		for _, to := range c.members {
			if from == to {
				continue
			}
			way := [2]uint64{from.id, to.id}
			poll(c.t, fmt.Sprintf("a way from %d to %d", from.id, to.id), func() bool {
				c.next[way]++
				n := c.next[way]
				from.send(from.append(to, n, 0), from.beat(to, n))
				to.mu.Lock()
				defer to.mu.Unlock()
				return len(to.numbers(from.id, raftpb.MsgApp)) > 0 && len(to.numbers(from.id, raftpb.MsgHeartbeat)) > 0 &&
					to.numbers(from.id, raftpb.MsgApp)[len(to.numbers(from.id, raftpb.MsgApp))-1]+50 > n
			})
		}
	}
	for _, from := range c.members {
		for _, to := range c.members {
			if from != to {
				from.waitLive(to.id)
			}
		}
	}
}

func (c *cluster) check() {
	for _, m := range c.all {
		m.mu.Lock()
		for from := uint64(1); from <= 3; from++ {
			for _, typ := range []raftpb.MessageType{raftpb.MsgApp, raftpb.MsgHeartbeat} {
				list := m.numbers(from, typ)
				if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
					c.t.Errorf("member %d got %v from %d in the order %v", m.id, typ, from, list)
				}
			}
		}
		for _, got := range m.received {
			if got.GetTo() != m.id || got.GetType() == raftpb.MsgApp && got.Entries[0].GetIndex() != got.GetCommit()+1 {
				c.t.Errorf("member %d got %v", m.id, got)
			}
		}
		m.mu.Unlock()
	}
}
