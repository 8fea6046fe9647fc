package node

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/env"
	"keelson/replica"
)

// heard is a network that keeps what it is given.
type heard struct{ ms []*raftpb.Message }

func (h *heard) Send(ms []*raftpb.Message) { h.ms = append(h.ms, ms...) }

func (h *heard) ConnectedSince(uint64) (time.Duration, bool) { return 0, true }

// take forgets what it returns: type, receiver and commit index of each message.
func (h *heard) take() (said []word) {
	for _, m := range h.ms {
		said = append(said, word{m.GetType(), m.GetTo(), m.GetCommit(), len(m.GetEntries())})
	}
	h.ms = nil
	return said
}

type word struct {
	kind    raftpb.MessageType
	to      uint64
	commit  uint64
	entries int
}

func (w word) message() *raftpb.Message {
	return &raftpb.Message{Type: w.kind.Enum(), To: new(w.to), Commit: new(w.commit), Entries: make([]*raftpb.Entry, w.entries)}
}

// beatClock is a clock with one timer, which fires when the test says so.
type beatClock struct {
	env.Clock
	beats chan time.Time
	runs  atomic.Bool
	waits atomic.Int64 // how often the loop has begun to wait for the timer
	fired int64
}

func newBeatClock() *beatClock { return &beatClock{beats: make(chan time.Time)} }

func (c *beatClock) NewTimer(d time.Duration) env.Timer {
	c.Reset(d)
	return c
}

func (c *beatClock) C() <-chan time.Time {
	c.waits.Add(1)
	return c.beats
}

func (c *beatClock) Stop() bool               { return c.runs.Swap(false) }
func (c *beatClock) Reset(time.Duration) bool { return c.runs.Swap(true) }

// beat has the timer fire, if it runs, and returns when the loop waits again.
func (c *beatClock) beat() (ran bool) {
	if ran = c.runs.Swap(false); ran {
		c.beats <- time.Time{}
		c.fired++
		until(func() bool { return c.waits.Load() > c.fired })
	}
	return ran
}

const (
	app       = raftpb.MsgApp
	heartbeat = raftpb.MsgHeartbeat
	read      = raftpb.MsgReadIndexResp
	timeout   = raftpb.MsgTimeoutNow
)

func TestCommitsAreHeld(t *testing.T) {
	proposal := func(from uint64) []replica.Event {
		return []replica.Event{replica.Message{Message: &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(from)}}}
	}
	for name, test := range map[string]struct {
		say  func(c *commits)
		sent []word
	}{
		"the first word about a commit is not held": {
			func(c *commits) { c.send([]*raftpb.Message{word{app, 9, 1, 0}.message()}) },
			[]word{{app, 9, 1, 0}},
		},
		"a commit alone is held": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message(), word{app, 3, 7, 0}.message()})
			},
			nil,
		},
		"it travels with entries": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message(), word{app, 3, 7, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 7, 2}.message(), word{app, 3, 7, 2}.message()})
				c.flush()
			},
			[]word{{app, 2, 7, 2}, {app, 3, 7, 2}},
		},
		"the newest one is told": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 8, 0}.message()})
				c.flush()
				c.flush()
			},
			[]word{{app, 2, 8, 0}},
		},
		"a question after what may be lost is not held": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 6, 0}.message()}) // nothing new
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()}) // once more
				c.flush()
			},
			[]word{{app, 2, 6, 0}, {app, 2, 7, 0}},
		},
		"what comes late takes nothing newer along": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 9, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 8, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 7, 1}.message()})
				c.flush()
			},
			[]word{{app, 2, 8, 0}, {app, 2, 7, 1}, {app, 2, 9, 0}},
		},
		"who waits is told at once, the others are not": {
			func(c *commits) {
				c.await(proposal(2), 8)
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message(), word{app, 3, 7, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 8, 0}.message(), word{app, 3, 8, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 9, 0}.message(), word{app, 3, 9, 0}.message()})
			},
			[]word{{app, 2, 7, 0}, {app, 2, 8, 0}},
		},
		"events of other kinds wait for nothing": {
			func(c *commits) {
				c.await([]replica.Event{replica.Tick{}, replica.Propose{ID: 1, Data: []byte("x")}}, 8)
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()})
			},
			nil,
		},
		"a heartbeat tells it, too, and leaves what is held": {
			func(c *commits) {
				c.await(proposal(2), 7)
				c.send([]*raftpb.Message{word{heartbeat, 2, 7, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 8, 0}.message()})
				c.send([]*raftpb.Message{word{heartbeat, 2, 7, 0}.message()})
				c.flush()
			},
			[]word{{heartbeat, 2, 7, 0}, {heartbeat, 2, 7, 0}, {app, 2, 8, 0}},
		},
		"before an answer to a read": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message(), word{app, 3, 7, 0}.message()})
				c.send([]*raftpb.Message{word{read, 2, 0, 0}.message(), word{timeout, 4, 0, 0}.message()})
				c.send([]*raftpb.Message{word{timeout, 2, 0, 0}.message()})
			},
			[]word{{app, 2, 7, 0}, {read, 2, 0, 0}, {timeout, 4, 0, 0}, {timeout, 2, 0, 0}},
		},
		"what went before an answer is told": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()})
				c.send([]*raftpb.Message{word{read, 2, 0, 0}.message()})
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()}) // so this is a question
			},
			[]word{{app, 2, 7, 0}, {read, 2, 0, 0}, {app, 2, 7, 0}},
		},
		"another leader knows nothing of it": {
			func(c *commits) {
				c.send([]*raftpb.Message{word{app, 2, 7, 0}.message()})
				c.reset()
				c.flush()
				c.send([]*raftpb.Message{word{app, 2, 3, 0}.message()})
			},
			[]word{{app, 2, 3, 0}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			net := new(heard)
			c := newCommits(net, env.SystemClock())
			c.send([]*raftpb.Message{word{app, 2, 6, 1}.message(), word{app, 3, 6, 1}.message()})
			net.take()
			test.say(c)
			if got := net.take(); !slices.Equal(got, test.sent) {
				t.Errorf("sent %v, want %v", got, test.sent)
			}
		})
	}
}

// What nothing follows on is told after two beats, and then nobody looks any more.
func TestHeldCommitsAreTold(t *testing.T) {
	net := new(heard)
	clock := newBeatClock()
	n := &Node{commits: newCommits(net, clock)}
	n.stopped, n.stop = context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.tellCommits()
	}()
	c := n.commits
	said := func() []word {
		c.mu.Lock()
		defer c.mu.Unlock()
		return net.take()
	}
	beat := func() {
		t.Helper()
		if !clock.beat() {
			t.Fatal("nobody is going to look")
		}
	}
	for round := range uint64(3) {
		at := 10 * (round + 1)
		c.send([]*raftpb.Message{word{app, 2, at, 1}.message()})
		said()
		c.send([]*raftpb.Message{word{app, 2, at + 1, 0}.message()})
		beat()                                                       // held for less than a beat
		c.send([]*raftpb.Message{word{app, 2, at + 2, 0}.message()}) // news do not make it wait longer
		beat()
		if clock.beat() {
			t.Fatalf("round %d: somebody looks for ever", round)
		}
		if got := said(); !slices.Equal(got, []word{{app, 2, at + 2, 0}}) {
			t.Fatalf("round %d: sent %v", round, got)
		}
		// What was flushed meanwhile is not told again.
		c.send([]*raftpb.Message{word{app, 2, at + 3, 0}.message()})
		c.flush()
		c.send([]*raftpb.Message{word{app, 2, at + 4, 0}.message()})
		c.flush()
		if got := said(); !slices.Equal(got, []word{{app, 2, at + 3, 0}, {app, 2, at + 4, 0}}) {
			t.Fatalf("round %d: flushed %v", round, got)
		}
		clock.beat() // it may run for what was flushed
		if clock.beat() {
			t.Fatalf("round %d: somebody looks for ever", round)
		}
		if got := said(); got != nil {
			t.Fatalf("round %d: sent again %v", round, got)
		}
	}
	c.send([]*raftpb.Message{word{app, 2, 99, 0}.message()})
	n.stop()
	<-ended
}
