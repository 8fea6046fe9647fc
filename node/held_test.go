package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"keelson/command"
	"keelson/replica"
	"keelson/state"
)

// crowd is proposals with callers who note what becomes of their commands.
type crowd struct {
	t *testing.T
	*proposals
	now      time.Duration
	outcomes map[string]int // by caller: commands that got a result
	failures map[string]error
	joined   int
	order    []string // of results
}

func newCrowd(t *testing.T) *crowd {
	return &crowd{t: t, proposals: newProposals(1), outcomes: map[string]int{}, failures: map[string]error{}}
}

func (c *crowd) send(who string, op command.Op, bytes int) error {
	_, _, err := c.join(make([]byte, bytes), sender{ctx: WithFlow(context.Background(), who), op: op, call: func(_ *state.Result, _ bool, err error) {
		if err != nil {
			c.failures[who] = err
			return
		}
		c.outcomes[who]++
		c.order = append(c.order, who)
	}}, c.now)
	if err == nil {
		c.joined++
	}
	return err
}

// round has everything that may be proposed at once proposed and settled.
func (c *crowd) round() (commands int) {
	for _, ev := range c.take(nil, c.now) {
		b := c.proposed[ev.(replica.Propose).ID]
		commands += len(b.waiters)
		c.settle(b.id, make([]state.Result, len(b.waiters)))
	}
	return commands
}

// fill sends small commands until some are held.
func (c *crowd) fill(who string, op command.Op, held int) {
	c.t.Helper()
	for c.held.commands < held {
		if err := c.send(who, op, 100); err != nil {
			c.t.Fatal(err)
		}
	}
}

func TestWhoAsksLittleDoesNotWaitBehindWhoAsksMuch(t *testing.T) {
	c := newCrowd(t)
	c.fill("many", &command.Put{}, 20_000)
	if err := c.send("one", &command.Put{}, 100); err != nil {
		t.Fatal(err)
	}
	if c.round(); c.outcomes["one"] != 0 {
		t.Fatal("a command that was held was in a batch already")
	}
	if n := c.round(); c.outcomes["one"] != 1 {
		t.Errorf("%d commands later the one command is still held", n)
	}
}

func TestFlowsShareByBytes(t *testing.T) {
	c := newCrowd(t)
	c.fill("small", &command.Put{}, 20_000)
	for range 30 {
		if err := c.send("large", &command.Put{}, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	c.round() // what came before anything was held
	clear(c.outcomes)
	for range 8 {
		c.round()
	}
	small, large := c.outcomes["small"]*100, c.outcomes["large"]<<20
	if small == 0 || large == 0 || c.outcomes["small"] == 20_000 || c.outcomes["large"] == 30 {
		t.Fatalf("%v: not a comparison", c.outcomes)
	}
	if apart := large - small; apart < -(2<<20) || apart > 2<<20 {
		t.Errorf("%d bytes of small commands, %d of large ones", small, large)
	}
}

func TestDeletesHaveTurnsOfTheirOwn(t *testing.T) {
	c := newCrowd(t)
	c.fill("puts", &command.Put{}, 10_000)
	for range 1000 {
		if err := c.send("deletes", &command.DeleteRange{}, 50); err != nil {
			t.Fatal(err)
		}
	}
	c.round()
	clear(c.outcomes)
	c.round()
	if c.outcomes["deletes"] != 1000 || c.outcomes["puts"] < 1000 {
		t.Errorf("in one round: %v", c.outcomes)
	}
}

func TestWhatIsUnderWayIsBounded(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		c := newCrowd(t)
		c.fill("a", &command.Put{}, 1)
		for range 1000 {
			if err := c.send("b", &command.Put{}, size); err != nil {
				break
			}
		}
		for c.held.commands > 0 {
			events := c.take(nil, c.now)
			if c.bytes > underWayBytesMax+4*len(events)+4*c.commands || c.commands > underWayCommandsMax {
				t.Fatalf("%d bytes of %d commands under way", c.bytes, c.commands)
			}
			for _, ev := range events {
				b := c.proposed[ev.(replica.Propose).ID]
				c.settle(b.id, make([]state.Result, len(b.waiters)))
			}
		}
	}
}

func TestWhoAsksMostIsRefusedFirst(t *testing.T) {
	c := newCrowd(t)
	n := 0
	for ; c.send("many", &command.Put{}, 100) == nil; n++ {
	}
	if held := n - underWayCommandsMax; held < heldCommandsMax/2-1 || held > heldCommandsMax/2+1 {
		t.Errorf("one flow could have %d commands held, of %d", held, heldCommandsMax)
	}
	for i := range 100 {
		if err := c.send("one"+string(rune('0'+i)), &command.Put{}, 100); err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
	}
	if err := c.send("many", &command.DeleteRange{}, 100); err != nil {
		t.Errorf("a delete of a caller whose puts are refused: %v", err)
	}
	c = newCrowd(t)
	for ; c.send("many", &command.Put{}, 1<<20) == nil; n++ {
	}
	if c.held.bytes < heldBytesMax/2-2<<20 || c.held.bytes > heldBytesMax/2 {
		t.Errorf("one flow has %d bytes held", c.held.bytes)
	}
	if err := c.send("one", &command.Put{}, 1<<20); err != nil {
		t.Error(err)
	}
}

func TestEverybodyTogetherIsBounded(t *testing.T) {
	c := newCrowd(t)
	flow := 0
	for err := error(nil); err == nil; flow++ {
		err = c.send(string(rune(flow)), &command.Put{}, 64<<10)
	}
	if c.held.bytes > heldBytesMax || c.held.bytes < heldBytesMax-64<<10 {
		t.Errorf("%d bytes are held", c.held.bytes)
	}
	for err := error(nil); err == nil; flow++ {
		err = c.send(string(rune(flow)), &command.DeleteRange{}, 64<<10)
	}
	if c.held.bytes > heldBytesMax+reliefBytesMax || c.held.bytes < heldBytesMax+reliefBytesMax-64<<10 {
		t.Errorf("%d bytes are held with deletes", c.held.bytes)
	}
}

func TestWhatIsHeldExpires(t *testing.T) {
	c := newCrowd(t)
	c.fill("old", &command.Put{}, 10)
	c.now = 5 * time.Second
	for _, who := range []string{"old", "new"} {
		if err := c.send(who, &command.Put{}, 100); err != nil {
			t.Fatal(err)
		}
	}
	gone := errors.New("gone")
	c.expire(time.Second, func(opened time.Duration) error {
		if opened != 0 {
			t.Errorf("what came at %v expired", opened)
		}
		return gone
	})
	if c.failures["old"] != gone || c.failures["new"] != nil || c.held.commands != 2 || c.held.bytes != 200 || c.pending() != 2 {
		t.Fatalf("%v, %d commands, %d bytes held, %d pending", c.failures, c.held.commands, c.held.bytes, c.pending())
	}
	if c.round(); c.outcomes["old"] != 1 || c.outcomes["new"] != 1 {
		t.Errorf("afterwards: %v", c.outcomes)
	}
	c.fill("more", &command.DeleteRange{}, 10)
	c.close(gone)
	if c.pending() != 0 || c.size() != 0 || c.failures["more"] != gone {
		t.Errorf("after the end %d commands wait", c.pending())
	}
	if err := c.send("late", &command.Put{}, 1); err != gone {
		t.Errorf("a command after the end: %v", err)
	}
}

// A flow's commands leave in the order in which they came, everyone gets one outcome, and the sums are right, whatever happens.
func TestRandomCrowds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 1))
	ops := []command.Op{&command.Put{}, &command.DeleteRange{}, &command.Txn{Success: []command.Op{&command.Put{}}}, &command.LeaseRevoke{}}
	for range 10 {
		p := newProposals(1)
		now := time.Duration(0)
		type stream struct{ sent, last int }
		streams := map[[2]int]*stream{}
		joined, ended, heldMax := 0, 0, 0
		send := func() {
			flow, op := min(chance.IntN(20), chance.IntN(20)), ops[chance.IntN(len(ops))]
			key := [2]int{flow, int(classOf(op))}
			s := streams[key]
			if s == nil {
				s = &stream{last: -1}
				streams[key] = s
			}
			size := 1 + chance.IntN(1<<10)
			if chance.IntN(50) == 0 {
				size <<= chance.IntN(11)
			}
			number := s.sent
			_, _, err := p.join(make([]byte, size), sender{ctx: WithFlow(context.Background(), flow), op: op, call: func(_ *state.Result, _ bool, err error) {
				ended++
				if number <= s.last && err == nil {
					t.Errorf("command %d of a flow after %d", number, s.last)
				}
				s.last = max(s.last, number)
			}}, now)
			if err == nil {
				s.sent++
				joined++
			}
		}
		for range 200 {
			for range chance.IntN(200) {
				send()
			}
			now += time.Duration(chance.IntN(3))
			var taken []replica.Event
			if chance.IntN(30) == 0 {
				taken = p.take(nil, now)
			}
			heldMax = max(heldMax, p.held.commands)
			for _, ev := range taken {
				b := p.proposed[ev.(replica.Propose).ID]
				if chance.IntN(20) == 0 {
					p.fail(b.id, ErrDropped)
				} else {
					p.settle(b.id, make([]state.Result, len(b.waiters)))
				}
			}
			if chance.IntN(60) == 0 {
				p.expire(now-60, func(time.Duration) error { return ErrTimeout })
			}
			if got := p.pending(); got != joined-ended {
				t.Fatalf("%d pending, %d joined, %d ended", got, joined, ended)
			}
		}
		p.close(ErrStopped)
		if heldMax == 0 {
			t.Error("nothing was ever held")
		}
		if joined != ended || p.size() != 0 || p.held.bytes != 0 || p.bytes != 0 || len(p.held.classes[writes].flows) != 0 {
			t.Fatalf("%d joined, %d ended; %d bytes under way, %d held", joined, ended, p.bytes, p.held.bytes)
		}
	}
}
