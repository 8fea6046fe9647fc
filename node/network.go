package node

import (
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

// Network carries messages to other members.
type Network interface {
	// Send sends each message to its receiver, or loses it. It does not wait, and does not call the node back before it returns. The
	// messages are not changed afterwards.
	Send(messages []*raftpb.Message)
	// ConnectedSince tells since when (monotonic) a connection to a member stands; ok is false if there is none.
	ConnectedSince(id uint64) (since time.Duration, ok bool)
}

// receivedBytesMax bounds the messages from others that are not looked at yet. What comes beyond is lost, which raft puts
// up with. A single message may exceed it: it would come again and again.
const receivedBytesMax = 64 << 20

// received counts what is in the inbox from other members.
type received struct {
	bytes   atomic.Int64
	dropped atomic.Uint64
}

// admit counts a message, unless there are too many.
func (r *received) admit(size int64) bool {
	if now := r.bytes.Add(size); now <= receivedBytesMax || now == size {
		return true
	}
	r.bytes.Add(-size)
	r.dropped.Add(1)
	return false
}

// Receive takes messages from another member, and owns them from here on, but not the slice. It does not wait.
func (n *Node) Receive(ms ...*raftpb.Message) {
	n.take(ms)
	n.move()
}

// ReceiveEntries is Receive for a goroutine that brings nothing but entries and proposals of one member, and may wait for the log: a
// few small ones are written and applied when it returns.
func (n *Node) ReceiveEntries(ms ...*raftpb.Message) {
	if n.take(ms) > briefBytesMax {
		n.move()
	} else {
		n.helpBriefly()
	}
}

// take puts messages into the inbox, and returns their size.
func (n *Node) take(ms []*raftpb.Message) (bytes int64) {
	for _, m := range ms {
		size := messageBytes(m)
		bytes += size
		if n.received.admit(size) {
			n.events.put(replica.Message{Message: m})
		}
	}
	return bytes
}

// messageBytes is about what a message takes in memory.
func messageBytes(m *raftpb.Message) int64 {
	size := int64(200 + len(m.GetContext()))
	for _, e := range m.GetEntries() {
		size += int64(100 + len(e.GetData()))
	}
	return size
}

// Unreachable tells that something sent to a member may be lost.
func (n *Node) Unreachable(id uint64) { n.tell(replica.Unreachable{ID: id}) }

// tell gives the replica an event, at once if nobody is at it.
func (n *Node) tell(ev replica.Event) {
	n.events.put(ev)
	n.move()
}

// move makes the step move if nobody is at it.
func (n *Node) move() {
	if !n.mover.turn.try(n.mover.move) {
		n.events.signal()
		return
	}
	n.appends.nudge()
	n.applies.nudge()
}

// send gives messages to the network; a snapshot goes its own way.
func (n *Node) send(ms []*raftpb.Message) {
	kept := ms
	for i, m := range ms {
		if m.GetType() != raftpb.MsgSnap {
			continue
		}
		kept = append([]*raftpb.Message(nil), ms[:i]...)
		for _, m := range ms[i:] {
			if m.GetType() == raftpb.MsgSnap {
				n.snapshots.send(m)
			} else {
				kept = append(kept, m)
			}
		}
		break
	}
	if len(kept) > 0 && n.o.Network != nil {
		n.commits.send(kept)
	}
}
