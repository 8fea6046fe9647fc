package sim

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/replica"
)

// network carries messages between hosts: late, more than once, out of order, to the wrong one, or not at all.
type network struct {
	w     *world
	links [][]link // from, to
	ring  bool     // each host reaches its two neighbours only
}

// link is one direction between two hosts.
type link struct {
	cut  bool
	slow time.Duration // on top of the usual delay
	last time.Duration // when the last message arrives, of those that keep their order
	told time.Duration // until then, nobody is told that messages are lost
}

func newNetwork(w *world) *network {
	n := &network{w: w}
	for range w.hosts {
		n.links = append(n.links, make([]link, len(w.hosts)))
	}
	return n
}

// send takes a message from a member. From now on it shares nothing with the sender.
func (n *network) send(m *member, msg *raftpb.Message) {
	w := n.w
	to := w.addresses[msg.GetTo()]
	if to == nil {
		w.violate("%v sends a message to a stranger: %s", m, raft.DescribeMessage(msg, nil))
	}
	l := &n.links[m.host.index][to.index]
	if l.cut || w.rng.IntN(100) < w.air.lossPercent {
		n.lost(m, msg)
		return
	}
	n.transmit(m.host, to, msg)
	if w.rng.IntN(100) < w.air.repeatPercent {
		w.reach("a message came twice", true)
		n.transmit(m.host, to, msg)
	}
	if w.chance(w.air.astray) {
		if other := w.hosts[w.rng.IntN(len(w.hosts))]; other != to && other != m.host {
			w.reach("a message went astray", true)
			n.transmit(m.host, other, msg)
		}
	}
}

// lost drops a message; the sender sometimes gets to know.
func (n *network) lost(m *member, msg *raftpb.Message) {
	w := n.w
	// What a connection that breaks makes known, it makes known once.
	if l := &n.links[m.host.index][w.addresses[msg.GetTo()].index]; w.now >= l.told && w.rng.IntN(3) == 0 {
		l.told = w.now + tickInterval
		w.after(time.Millisecond, "unreachable", m, func() { m.step(replica.Unreachable{ID: msg.GetTo()}) })
	}
}

func (n *network) transmit(from, to *host, msg *raftpb.Message) {
	w := n.w
	l := &n.links[from.index][to.index]
	at := w.now + time.Duration(w.rng.Int64N(int64(w.air.delayMax)))
	if l.slow > 0 {
		at += l.slow/2 + time.Duration(w.rng.Int64N(int64(l.slow)))
	}
	if !w.air.disorder {
		at = max(at, l.last)
		l.last = at
	}
	msg = proto.Clone(msg).(*raftpb.Message)
	sent := w.now
	what := fmt.Sprintf("from %v: %v term %d index %d", from, msg.GetType(), msg.GetTerm(), msg.GetIndex())
	w.enter(event{at: at, what: what, h: to, f: func() {
		if to.member == nil || l.cut || sent < from.silenced {
			w.tracef("lost on the way")
			return
		}
		if w.removed(to.member, from, msg.GetFrom()) {
			return
		}
		w.reach("a message came to the successor at its receiver's address", to.id != msg.GetTo() && w.addresses[msg.GetTo()] == to)
		if w.bug("accept-wrong-receiver") {
			msg.To = new(to.id)
		}
		to.member.step(replica.Message{Message: msg})
		if msg.GetType() == raftpb.MsgTimeoutNow && w.air.splits && w.rng.IntN(2) == 0 {
			n.isolate(from) // it does not hear that leadership was taken
			w.after(3*time.Second, "", nil, n.clear)
		}
	}})
}

// isAlone reports whether nobody hears a host.
func (n *network) isAlone(h *host) bool {
	for to, l := range n.links[h.index] {
		if to != h.index && !l.cut {
			return false
		}
	}
	return len(n.links) > 1
}

// removed tells a sender that it was removed, if the receiver knows so much.
func (w *world) removed(to *member, from *host, sender uint64) bool {
	if !to.hasRemoved(sender) {
		return false
	}
	if from.id == sender && from.member != nil {
		w.reach("a member was told that it is removed", !from.member.leaving)
		from.member.leaveLater()
	}
	return true
}

// call carries a request that is no message of raft's.
func (n *network) call(m *member, to *host, what string, f func(m *member)) {
	w := n.w
	l := &n.links[m.host.index][to.index]
	if l.cut || w.rng.IntN(100) < w.air.lossPercent {
		return
	}
	at := w.now + time.Duration(w.rng.Int64N(int64(w.air.delayMax))) + l.slow
	w.enter(event{at: at, what: what, h: to, f: func() {
		if to.member != nil && !l.cut {
			f(to.member)
		}
	}})
}

// change changes the weather: most links work most of the time.
func (n *network) change() {
	w := n.w
	if w.healing || !w.air.splits || len(w.hosts) == 1 || w.rng.IntN(3) == 0 {
		return
	}
	size := len(w.hosts)
	n.ring = false
	switch w.rng.IntN(8) {
	case 0, 1:
		n.clear()
	case 2:
		n.isolate(w.hosts[w.rng.IntN(size)])
	case 3:
		side := w.rng.IntN(1 << size)
		n.each(func(a, b int, l *link) { l.cut = side>>a&1 != side>>b&1 })
		w.tracef("split %b", side)
	case 4:
		i, from := w.rng.IntN(size), w.rng.IntN(2) == 0
		n.each(func(a, b int, l *link) { l.cut = l.cut || from && a == i || !from && b == i })
		w.tracef("%v can only send: %t", w.hosts[i], !from)
	case 5:
		a, b := w.rng.IntN(size), w.rng.IntN(size)
		n.links[a][b].cut = true
		w.tracef("%v does not reach %v", w.hosts[a], w.hosts[b])
	case 6:
		n.each(func(a, b int, l *link) { l.cut = (a-b+size)%size > 1 && (b-a+size)%size > 1 })
		n.ring = size > 3
		w.tracef("a ring")
	case 7:
		i := w.rng.IntN(size)
		n.each(func(a, b int, l *link) {
			if a == i || b == i {
				l.slow = w.air.slowMax
			}
		})
		w.tracef("%v is slow to reach", w.hosts[i])
	}
	n.each(func(_, _ int, l *link) { w.reach("links are cut", l.cut) })
	if w.o.Calm {
		w.after(time.Duration(w.rng.Int64N(int64(20*time.Second))), "", nil, n.clear)
	}
}

// clear makes all links work, unless some have to stay broken.
func (n *network) clear() {
	if !n.w.healing {
		n.ring = false
		n.each(func(_, _ int, l *link) { l.cut, l.slow = false, 0 })
		n.w.tracef("all links work")
	}
}

// isolate cuts a host off from everybody, unless links have to work from now on.
func (n *network) isolate(h *host) {
	if n.w.healing {
		return
	}
	n.each(func(from, to int, l *link) { l.cut = l.cut || from == h.index || to == h.index })
	n.w.tracef("%v is cut off", h)
}

func (n *network) each(f func(from, to int, l *link)) {
	for i := range n.links {
		for k := range n.links[i] {
			if i != k {
				f(i, k, &n.links[i][k])
			}
		}
	}
}

// heal makes the links among some hosts work for good. Of the others, each one can no longer be heard, or no longer hear,
// or neither: one that can do both with a part of a quorum may well go on leading, and the rest of it hears nothing then.
func (n *network) heal(well []*host) {
	w := n.w
	isWell := make([]bool, len(w.hosts))
	for _, h := range well {
		isWell[h.index] = true
	}
	n.calm()
	for _, h := range w.hosts {
		if isWell[h.index] {
			continue
		}
		deaf := w.rng.IntN(2) == 0
		mute := !deaf || w.rng.IntN(2) == 0
		n.each(func(from, to int, l *link) { l.cut = l.cut || deaf && to == h.index || mute && from == h.index })
	}
}

// calm makes all links work, and well.
func (n *network) calm() {
	n.ring = false
	n.each(func(_, _ int, l *link) { l.cut, l.slow = false, 0 })
	n.w.air = air{delayMax: 10 * time.Millisecond, stateMax: 100 * time.Millisecond}
}

// hostOf is where a member is; nil: nowhere, or nowhere any more.
func (w *world) hostOf(id uint64) *host {
	if h := w.addresses[id]; h != nil && h.id == id {
		return h
	}
	return nil
}
