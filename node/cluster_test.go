package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/leader"
	"keelson/replica"
	"keelson/state"
	"keelson/state/members"
)

// wires connect members in memory. Messages to one that is not there, or cut off, are lost.
type wires struct {
	mu      sync.Mutex
	members map[uint64]*Node
	cut     map[uint64]bool
	lossPct int
	// last cuts a member off as soon as one of its messages of this type was delivered; nil: none does.
	last    *raftpb.MessageType
	running sync.WaitGroup
}

// end is one member's end of the wires.
type end struct {
	*wires
	id      uint64
	control chan *raftpb.Message
	entries map[uint64]chan *raftpb.Message // by receiver: it may wait for its disk
	stop    chan struct{}
}

// wiredMax is the highest id of a member on wires.
const wiredMax = 5

func (w *wires) connect(id uint64) *end {
	e := &end{wires: w, id: id, control: make(chan *raftpb.Message, 1000), entries: map[uint64]chan *raftpb.Message{}, stop: make(chan struct{})}
	w.running.Go(func() { e.carry(e.control) })
	for to := range uint64(wiredMax + 1) {
		c := make(chan *raftpb.Message, 1000)
		e.entries[to] = c
		w.running.Go(func() { e.carry(c) })
	}
	return e
}

func (e *end) carry(queue <-chan *raftpb.Message) {
	for {
		select {
		case m := <-queue:
			e.deliver(m)
		case <-e.stop:
			return
		}
	}
}

func (w *wires) deliver(m *raftpb.Message) {
	w.mu.Lock()
	to := w.members[m.GetTo()]
	lost := w.cut[m.GetTo()] || w.cut[m.GetFrom()] || w.lossPct > 0 && rand.IntN(100) < w.lossPct
	if !lost && w.last != nil && m.GetType() == *w.last {
		w.cut[m.GetFrom()] = true
	}
	w.mu.Unlock()
	if to != nil && !lost {
		m := proto.Clone(m).(*raftpb.Message)
		if hasEntries(m) {
			to.ReceiveEntries(m)
		} else {
			to.Receive(m)
		}
	}
}

// hasEntries reports whether a message goes with the stream of entries.
func hasEntries(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgApp || m.GetType() == raftpb.MsgProp
}

// Send implements Network.
func (e *end) Send(ms []*raftpb.Message) {
	for _, m := range ms {
		queue := e.control
		if hasEntries(m) {
			queue = e.entries[m.GetTo()]
		}
		select {
		case queue <- m:
		default:
		}
	}
}

// ConnectedSince implements Network.
func (e *end) ConnectedSince(uint64) (time.Duration, bool) { return 0, true }

// trio is a cluster of three.
type trio struct {
	t     *testing.T
	wires *wires
	rigs  []*rig
	ends  []*end
	stall []*atomic.Bool // the disk of the log of each does not answer
}

func newTrio(t *testing.T) *trio { return newTrioWith(t, nil) }

func newTrioWith(t *testing.T, tune func(*Options)) *trio {
	c := &trio{t: t, wires: &wires{members: map[uint64]*Node{}, cut: map[uint64]bool{}}}
	ids := []uint64{1, 2, 3}
	t.Cleanup(c.end)
	for _, id := range ids {
		stall := new(atomic.Bool)
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.Contains(op.Path, "wal") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
				until(func() bool { return !stall.Load() })
			}
			return nil
		}))
		e := c.wires.connect(id)
		c.stall, c.ends = append(c.stall, stall), append(c.ends, e)
		r := newMemberRig(t, id, ids, fs, "/", 1<<20, func(o *Options) {
			o.Network, o.RequestTimeout = e, 20*time.Second
			if tune != nil {
				tune(o)
			}
		})
		c.rigs = append(c.rigs, r)
		c.plug(id, r.node)
	}
	return c
}

// newCalmTrio is a trio with an election timeout for which no test waits: who leads goes on to, unless it gives leadership away.
func newCalmTrio(t *testing.T) *trio {
	c := newTrioWith(t, func(o *Options) { o.Election = 3 * time.Second })
	c.rigs[rand.IntN(len(c.rigs))].node.tell(replica.Campaign{})
	return c
}

func (c *trio) plug(id uint64, n *Node) {
	c.wires.mu.Lock()
	defer c.wires.mu.Unlock()
	c.wires.members[id] = n
}

// end runs when the rigs have stopped.
func (c *trio) end() {
	for _, e := range c.ends {
		close(e.stop)
	}
	c.wires.running.Wait()
}

// leader waits until everybody agrees on who leads.
func (c *trio) leader() (i int) {
	until(func() bool {
		i = -1
		for k, r := range c.rigs {
			if r.node.Status().Leading {
				i = k
			}
		}
		for _, r := range c.rigs {
			if i < 0 || r.node.Status().Leader != c.rigs[i].id {
				return false
			}
		}
		return true
	})
	return i
}

// write writes through all members at once while something happens, and fails the test if a write fails, is done twice,
// or is not there at the end.
func (c *trio) write(through []int, meanwhile func()) {
	c.t.Helper()
	var stop atomic.Bool
	var writers sync.WaitGroup
	written := make([]int, len(through))
	for k, i := range through {
		writers.Go(func() {
			key := fmt.Sprintf("through %d", i)
			for !stop.Load() {
				result, err := c.rigs[i].node.Propose(context.Background(), &command.Put{Key: []byte(key), Value: []byte("v")})
				if err != nil || result.Refusal != nil {
					c.t.Errorf("write through %d: %v, %v", i, err, result.Refusal)
					return
				}
				written[k]++
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	meanwhile()
	time.Sleep(50 * time.Millisecond)
	stop.Store(true)
	writers.Wait()
	for k, i := range through {
		view := c.rigs[through[0]].read()
		kv, err := view.Get(fmt.Appendf(nil, "through %d", i))
		view.Close()
		if err != nil || kv == nil || int(kv.Version) < written[k] {
			c.t.Errorf("%d writes through %d were acknowledged, there are %v, %v", written[k], i, kv, err)
		}
	}
}

func TestAnyMemberAnswers(t *testing.T) {
	c := newTrio(t)
	for i, r := range c.rigs {
		r.propose(&command.Put{Key: []byte("a"), Value: fmt.Append(nil, i)})
		for _, other := range c.rigs {
			if got := other.get("a"); got != fmt.Sprint(i) {
				t.Errorf("wrote %d through %d, read %q through %d", i, r.id, got, other.id)
			}
		}
	}
}

// A lost leader costs those who write through the others time, not their writes.
func TestWritesGoOnWithoutTheLeader(t *testing.T) {
	c := newTrio(t)
	l := c.leader()
	others := []int{(l + 1) % 3, (l + 2) % 3}
	c.write(others, func() {
		c.wires.mu.Lock()
		c.wires.cut[c.rigs[l].id] = true
		c.wires.mu.Unlock()
		until(func() bool {
			s := c.rigs[others[0]].node.Status()
			return s.Leader != 0 && s.Leader != c.rigs[l].id
		})
	})
}

// A lossy network loses no write and repeats none.
func TestLossyNetwork(t *testing.T) {
	c := newTrio(t)
	c.leader()
	c.wires.mu.Lock()
	c.wires.lossPct = 10
	c.wires.mu.Unlock()
	c.write([]int{0, 1, 2}, func() { time.Sleep(300 * time.Millisecond) })
}

func TestMoveLeader(t *testing.T) {
	c := newCalmTrio(t)
	l := c.leader()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to := c.rigs[(l+1)%3]
	if err := to.node.MoveLeader(ctx, to.id); err != ErrNotLeader {
		t.Errorf("asked of a follower: %v", err)
	}
	if err := c.rigs[l].node.MoveLeader(ctx, 99); err != ErrBadTransferee {
		t.Errorf("to a stranger: %v", err)
	}
	c.write([]int{0, 1, 2}, func() {
		if err := c.rigs[l].node.MoveLeader(ctx, to.id); err != nil {
			t.Error(err)
		}
	})
	if got := c.leader(); c.rigs[got] != to {
		t.Errorf("%d leads", got)
	}
}

// A follower acknowledges a learner that it has added as soon as it has applied that itself. A leader that has not applied it
// yet must not take the learner for nobody, which is for the machine to refuse, and the machine knows nothing of progress.
func TestLearnerUnknownToTheLeaderIsNotPromoted(t *testing.T) {
	c := newCalmTrio(t)
	l := c.leader()
	leader, follower, ctx := c.rigs[l], c.rigs[(l+1)%3], context.Background()
	leader.propose(&command.Put{Key: []byte("a")})
	leader.node.applier.turn.mu.Lock() // a long application is under way
	unlock := sync.OnceFunc(leader.node.applier.turn.mu.Unlock)
	defer unlock()
	add := &command.MemberAdd{ID: 4, PeerURLs: []string{"http://127.0.0.1:4"}, IsLearner: true, LearnersMax: 1}
	result, err := follower.node.ChangeMembers(ctx, add)
	follower.must(err)
	follower.must(result.Refusal)
	promoted := make(chan error, 1)
	go func() {
		_, err := leader.node.ChangeMembers(ctx, &command.MemberPromote{ID: 4})
		promoted <- err
	}()
	until(func() bool {
		r := leader.node.reads
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(promoted) > 0 || len(r.waiting) > 0 || leader.node.PendingProposals() > 0
	})
	unlock()
	if err := <-promoted; err != ErrLearnerNotReady {
		t.Errorf("promotion of a learner that never ran: %v", err)
	}
}

// A leader that has given leadership away and does not hear that it was taken is the leader no more at once, not only after
// an election timeout. It must not renew leases meanwhile: the next leader would not know of it.
func TestLeasesAreNotRenewedByWhoHasGivenLeadershipAway(t *testing.T) {
	c := newTrioWith(t, func(o *Options) {
		o.Election, o.RequestTimeout = 3*time.Second, 20*time.Second
		o.Lessor = leader.LessorOptions{Extension: o.Election, StallMax: o.Election}
	})
	c.rigs[0].node.tell(replica.Campaign{})
	former := c.rigs[c.leader()]
	former.propose(&command.LeaseGrant{ID: 1, TTLSeconds: 60})
	if _, err := former.node.RenewLease(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	c.wires.mu.Lock()
	c.wires.last = raftpb.MsgTimeoutNow.Enum()
	c.wires.mu.Unlock()
	former.node.tell(replica.TransferLeader{To: c.rigs[(slices.Index(c.rigs, former)+1)%3].id})
	until(func() bool {
		return slices.ContainsFunc(c.rigs, func(r *rig) bool { return r != former && r.node.Status().Leading })
	})
	if !former.node.Status().Leading {
		t.Fatal("it knows that it does not lead")
	}
	if ttl, err := former.node.RenewLease(context.Background(), 1); err == nil {
		t.Errorf("renewed for %d seconds by a leader that is none", ttl)
	}
}

func TestVotersAreNotPromoted(t *testing.T) {
	c := newTrio(t)
	c.rigs[c.leader()].propose(&command.Put{Key: []byte("a")})
	for _, r := range c.rigs {
		leader, result, err := c.promote(r.id)
		if err != nil || result.Refusal != members.ErrNotLearner {
			t.Errorf("promotion of %d, which leads: %t: %v, refusal %v", r.id, r == leader, err, result.Refusal)
		}
	}
}

// promote asks the leader to promote a member, and again as long as it is told that this one has not caught up, or that another
// leads by now.
func (c *trio) promote(id uint64) (leader *rig, result state.Result, err error) {
	until(func() bool {
		leader = c.rigs[c.leader()]
		result, err = leader.node.ChangeMembers(context.Background(), &command.MemberPromote{ID: id})
		return !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrLearnerNotReady)
	})
	return leader, result, err
}

func TestHandOver(t *testing.T) {
	c := newCalmTrio(t)
	l := c.leader()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.write([]int{0, 1, 2}, func() {
		if err := c.rigs[l].node.HandOver(ctx); err != nil {
			t.Error(err)
		}
	})
	if got := c.leader(); got == l {
		t.Error("it still leads")
	}
}

// A successor that has just died, and is not known to be dead, costs a try and not the hand-over.
func TestHandOverPassesTheDeadBy(t *testing.T) {
	c := newCalmTrio(t)
	leader := c.rigs[c.leader()]
	leader.propose(&command.Put{Key: []byte("a")})
	var dead uint64
	until(func() bool { dead = leader.node.successor(); return dead != 0 })
	c.wires.mu.Lock()
	c.wires.cut[dead] = true
	c.wires.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := leader.node.HandOver(ctx); err != nil {
		t.Errorf("hand-over with a dead successor and a living one: %v", err)
	}
	if l := leader.node.Status().Leader; l == leader.id || l == dead {
		t.Errorf("%d leads", l)
	}
}

// A leader whose disk does not answer gives leadership away, though the others' disks are a quorum; and writes through the
// others go on.
func TestStalledLeaderGivesLeadershipAway(t *testing.T) {
	c := newTrio(t)
	l := c.leader()
	others := []int{(l + 1) % 3, (l + 2) % 3}
	defer c.stall[l].Store(false)
	c.write(others, func() {
		c.stall[l].Store(true)
		until(func() bool {
			s := c.rigs[others[0]].node.Status()
			return s.Leader != 0 && s.Leader != c.rigs[l].id
		})
	})
}

// It does so, too, when its disk stalls while nobody writes, as it marks the log as idle.
func TestLeaderStalledAtTheMarkGivesLeadershipAway(t *testing.T) {
	c := newTrio(t)
	l := c.leader()
	defer c.stall[l].Store(false)
	c.rigs[l].propose(&command.Put{Key: []byte("a")})
	appender := c.rigs[l].node.appender
	go appender.turn.take(func() { // so that nothing is appended before the mark
		c.stall[l].Store(true)
		appender.markIdle() // finds that there was work
		appender.markIdle()
	})
	until(func() bool {
		s := c.rigs[(l+1)%3].node.Status()
		return s.Leader != 0 && s.Leader != c.rigs[l].id
	})
}
