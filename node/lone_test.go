package node

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
)

// newDuo makes a lone voter, member 1, and member 2, which it can teach.
func newDuo(t *testing.T) *trio {
	c := &trio{t: t, wires: &wires{members: map[uint64]*Node{}, cut: map[uint64]bool{}}}
	t.Cleanup(c.end)
	for _, id := range []uint64{1, 2} {
		e := c.wires.connect(id)
		c.ends = append(c.ends, e)
		r := newMemberRig(t, id, []uint64{1}, vfs.NewMem(), "/", 1<<20, func(o *Options) {
			o.Network, o.RequestTimeout, o.StrictReconfiguration = e, 20*time.Second, true
		})
		c.rigs = append(c.rigs, r)
		c.plug(id, r.node)
	}
	until(func() bool { return c.rigs[0].node.Status().Leading })
	return c
}

// teach adds member 2 as a learner, and waits until it knows.
func (c *trio) teach(autoPromote bool) {
	c.t.Helper()
	add := &command.MemberAdd{ID: 2, PeerURLs: []string{"http://127.0.0.1:2"}, IsLearner: true, AutoPromote: autoPromote, LearnersMax: 1}
	result, err := c.rigs[0].node.ChangeMembers(context.Background(), add)
	c.rigs[0].must(err)
	c.rigs[0].must(result.Refusal)
	until(func() bool { return c.rigs[1].node.Status().Learner })
}

// cut cuts a member off, or connects it again.
func (c *trio) cut(id uint64, off bool) {
	c.wires.mu.Lock()
	defer c.wires.mu.Unlock()
	c.wires.cut[id] = off
}

// A learner acknowledges what it has applied, and the lone voter who leads may not have applied it yet: its reads wait.
func TestLoneVotersReadSeesWhatItsLearnerAcknowledged(t *testing.T) {
	c := newDuo(t)
	voter, learner := c.rigs[0], c.rigs[1]
	voter.get("a") // from here on it may read without asking
	c.teach(false)
	voter.get("a")

	voter.node.applier.turn.mu.Lock() // a long application is under way
	unlock := sync.OnceFunc(voter.node.applier.turn.mu.Unlock)
	defer unlock()
	learner.propose(&command.Put{Key: []byte("a"), Value: []byte("1")})
	read := make(chan string, 1)
	go func() { read <- voter.get("a") }()
	until(func() bool {
		r := voter.node.reads
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(read) > 0 || len(r.waiting) > 0
	})
	unlock()
	if got := <-read; got != "1" {
		t.Errorf("read %q after the learner had acknowledged a write", got)
	}
}

// A learner that has caught up and is gone is not made a voter unasked: the voters would lose their quorum with it.
func TestOnlyConnectedLearnersPromoteThemselves(t *testing.T) {
	c := newDuo(t)
	voter := c.rigs[0]
	c.teach(true)  // to no effect yet: the voter does not count as started
	for range 20 { // so many that being one entry behind is no reason
		voter.propose(&command.Put{Key: []byte("a")})
	}
	until(func() bool { p := voter.node.Progress(); return p[1].Match == p[0].Match })
	c.cut(2, true)
	until(func() bool { return !voter.node.Progress()[1].Active })
	voter.propose(&command.MemberPublish{ID: 1, Name: "started"})
	p := promotions{asked: map[uint64]time.Duration{}}
	if p.tick(voter.node); len(p.asked) > 0 {
		t.Fatal("a learner that nobody hears of is to be a voter")
	}
	c.cut(2, false)
	until(func() bool { p.tick(voter.node); return !c.rigs[1].node.Status().Learner })
}
