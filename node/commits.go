package node

import (
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/env"
	"keelson/replica"
)

// commitBeat is how often held messages are looked at. One is held for two beats at most.
const commitBeat = time.Millisecond

// commits holds a leader's messages back that tell a follower nothing but that more is committed. What is appended next tells
// it, too, and in a steady stream of writes that comes soon: then each write costs two messages to a follower and an
// answer to each, of which nobody has anything. Only a follower that waits for the application of what it has asked for is told at once.
//
// A message that is held may as well have been delayed by the network, and one that is dropped for a newer one lost.
type commits struct {
	network Network // nil: there is nobody to tell
	timer   env.Timer

	mu    sync.Mutex
	beats bool // the timer runs: somebody is going to look at what is held
	peers map[uint64]*follower
}

// follower is what is known of one.
type follower struct {
	asked uint64          // it waits for the application of entries up to here; 0: it does not
	told  uint64          // of commits
	held  *raftpb.Message // nil: nothing
	old   bool            // held has been looked at once
}

// take is what is held, to be sent now.
func (f *follower) take() *raftpb.Message {
	m := f.held
	f.told, f.held = max(f.told, m.GetCommit()), nil
	return m
}

func newCommits(network Network, clock env.Clock) *commits {
	t := clock.NewTimer(time.Hour)
	t.Stop()
	return &commits{network: network, timer: t, peers: make(map[uint64]*follower)}
}

// reset forgets everything: there is another leader, or another term.
func (c *commits) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.peers)
}

// await notes who waits for the application of entries up to last: those whose proposals are among the events.
func (c *commits) await(events []replica.Event, last uint64) {
	for _, ev := range events {
		if m, ok := ev.(replica.Message); ok && m.GetType() == raftpb.MsgProp {
			c.mu.Lock()
			c.of(m.GetFrom()).asked = last
			c.mu.Unlock()
		}
	}
}

// of is what is known of a member. The caller holds mu.
func (c *commits) of(id uint64) *follower {
	f := c.peers[id]
	if f == nil {
		f = new(follower)
		c.peers[id] = f
	}
	return f
}

// send sends what is not held.
func (c *commits) send(ms []*raftpb.Message) {
	c.mu.Lock()
	defer c.mu.Unlock() // also so that what is held goes before what comes later
	now := make([]*raftpb.Message, 0, len(ms))
	for _, m := range ms {
		now = c.add(now, m)
	}
	if len(now) > 0 {
		c.network.Send(now)
	}
}

// add adds to now what is to be sent of m and of what is held for the same member.
func (c *commits) add(now []*raftpb.Message, m *raftpb.Message) []*raftpb.Message {
	switch m.GetType() {
	case raftpb.MsgApp:
	case raftpb.MsgHeartbeat:
		f := c.of(m.GetTo())
		f.told = max(f.told, m.GetCommit())
		return append(now, m)
	default:
		if f := c.peers[m.GetTo()]; f != nil && f.held != nil { // the answer to a read is of use once that is applied
			now = append(now, f.take())
		}
		return append(now, m)
	}
	f := c.of(m.GetTo())
	// One that tells nothing new asks how far the follower is, because something may be lost.
	if len(m.GetEntries()) == 0 && f.told >= f.asked && f.told > 0 && m.GetCommit() > max(f.told, f.held.GetCommit()) {
		f.old = f.old && f.held != nil // the older one's age
		f.held = m
		if !c.beats {
			c.beats = true
			c.timer.Reset(commitBeat)
		}
		return now
	}
	f.told = max(f.told, m.GetCommit())
	if f.held.GetCommit() <= f.told {
		f.held = nil
	}
	return append(now, m)
}

// flush sends what is held.
func (c *commits) flush() { c.tell(func(*follower) bool { return true }) }

// tell sends what is held for some followers, and sees to it that somebody looks at what is left.
func (c *commits) tell(which func(*follower) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var now []*raftpb.Message
	left := false
	for _, f := range c.peers {
		switch {
		case f.held == nil:
		case which(f):
			now = append(now, f.take())
		default:
			f.old, left = true, true
		}
	}
	if c.beats = left; left {
		c.timer.Reset(commitBeat)
	}
	if len(now) > 0 {
		c.network.Send(now)
	}
}

// tellCommits is the loop that sends what has been held for long.
func (n *Node) tellCommits() {
	c := n.commits
	defer c.timer.Stop()
	for {
		select {
		case <-c.timer.C():
			c.tell(func(f *follower) bool { return f.old })
		case <-n.stopped.Done():
			return
		}
	}
}
