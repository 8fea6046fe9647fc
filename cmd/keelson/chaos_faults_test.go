package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keelson/internal/testkit"
)

// disruption is something that goes wrong with a member until the fault ends.
type disruption struct {
	name  string
	begin func(c *chaos, p *testkit.Process)
}

var disruptions = []disruption{
	{"kill", func(c *chaos, p *testkit.Process) { p.Kill(); c.down = append(c.down, p) }},
	{"stop", func(c *chaos, p *testkit.Process) { p.Stop(); c.down = append(c.down, p) }},
	{"pause", func(c *chaos, p *testkit.Process) { p.Pause(); c.paused = append(c.paused, p) }},
	{"isolate", func(c *chaos, p *testkit.Process) { c.lab.Isolate(p) }},
	{"deafen", func(c *chaos, p *testkit.Process) {
		for _, other := range c.lab.Others(p) {
			c.lab.Cut(other, p)
		}
	}},
	{"mute", func(c *chaos, p *testkit.Process) {
		for _, other := range c.lab.Others(p) {
			c.lab.Cut(p, other)
		}
	}},
	{"deafen to one", func(c *chaos, p *testkit.Process) { c.lab.Cut(c.lab.Others(p)[0], p) }},
	{"split", (*chaos).split},
	{"ring", (*chaos).ring},
	{"lossy", func(c *chaos, p *testkit.Process) { c.lab.Lossy(p, 5+int(c.draw%26)) }},
	{"all lossy", func(c *chaos, _ *testkit.Process) {
		for _, p := range c.lab.Members {
			c.lab.Lossy(p, 5+int(c.draw%10))
		}
	}},
	{"slow", func(c *chaos, p *testkit.Process) { c.lab.Slow(p, 200+int(c.draw%2000)) }},
}

// action is something that operators do. It counts itself if it is possible.
type action func(c *chaos, p *testkit.Process)

// The first harmlessActions may be done while something is wrong, and may fail then.
var actions = []action{(*chaos).moveLeader, (*chaos).compact, (*chaos).killAll, (*chaos).grow, (*chaos).remove, (*chaos).replace, (*chaos).damage}

const harmlessActions = 2

// fault does one thing to the cluster, or several at once, and has them end again. It draws as often whatever comes of it,
// so that a seed stands for the same faults each time.
func (c *chaos) fault() {
	kind, ofLeader, hold := c.rng.IntN(10), c.rng.IntN(2) == 0, time.Duration(200+c.rng.IntN(1500))*time.Millisecond
	first, second := disruptions[c.rng.IntN(len(disruptions))], disruptions[c.rng.IntN(len(disruptions))]
	act, meanwhile := actions[c.rng.IntN(len(actions))], actions[c.rng.IntN(harmlessActions)]
	order := c.rng.Perm(16)
	c.draw = c.rng.Uint64() >> 1
	leader := c.lab.Leader()
	victims := c.inOrder(order)
	if ofLeader {
		victims = append([]*testkit.Process{leader}, slices.DeleteFunc(victims, func(p *testkit.Process) bool { return p == leader })...)
	}
	if kind < 3 {
		act(c, victims[0])
		return
	}
	c.count(first.name)
	first.begin(c, victims[0])
	if kind >= 7 {
		time.Sleep(hold / 2)
		c.count(second.name)
		second.begin(c, victims[1])
	}
	if kind == 6 || kind == 9 {
		meanwhile(c, victims[1])
	}
	time.Sleep(hold)
	c.settle()
}

func (c *chaos) count(name string) {
	c.done[name]++
	c.t.Logf("%v: %s", time.Since(c.world.began).Round(time.Millisecond), name)
}

// inOrder sorts the members as a permutation says.
func (c *chaos) inOrder(order []int) (list []*testkit.Process) {
	for _, i := range order {
		if i < len(c.lab.Members) {
			list = append(list, c.lab.Members[i])
		}
	}
	return list
}

// settle ends all that is wrong.
func (c *chaos) settle() {
	c.lab.Heal()
	for _, p := range c.paused {
		p.Resume()
	}
	c.paused = nil
	down := c.down
	c.down = nil
	c.start(down...)
}

// start starts members together; nobody waits for one that has to wait for another.
func (c *chaos) start(members ...*testkit.Process) {
	for _, p := range members {
		if err := p.Begin(); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, p := range members {
		if err := p.AwaitReady(); err != nil {
			c.t.Fatalf("%s: %v", p.Name, err)
		}
	}
}

// split parts the members, one of them with as many others as make just no majority.
func (c *chaos) split(p *testkit.Process) {
	others := c.lab.Others(p)
	few := len(others)/2 - 1
	for _, a := range append([]*testkit.Process{p}, others[:few]...) {
		for _, b := range others[few:] {
			c.lab.Cut(a, b)
			c.lab.Cut(b, a)
		}
	}
}

// ring lets each member talk to two others at most. Of three the last two lose each other.
func (c *chaos) ring(p *testkit.Process) {
	all := append([]*testkit.Process{p}, c.lab.Others(p)...)
	for i, a := range all {
		for j, b := range all {
			distance := (i - j + len(all)) % len(all)
			if distance > 1 && distance < len(all)-1 || len(all) == 3 && i+j == 3 {
				c.lab.Cut(a, b)
			}
		}
	}
}

func (c *chaos) killAll(*testkit.Process) {
	c.count("kill all")
	for _, p := range c.lab.Members {
		p.Kill()
	}
	c.start(c.lab.Members...)
}

// moveLeader may be overtaken, or be asked of members that cannot.
func (c *chaos) moveLeader(p *testkit.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	to, err := p.Status()
	if err != nil {
		return
	}
	for _, leader := range c.lab.Members {
		if s, err := leader.Status(); err == nil && s.Leader == s.Header.MemberId {
			c.count("move the leader")
			_, _ = leader.Client().MoveLeader(ctx, to.Header.MemberId)
			return
		}
	}
}

// compact drops a part of the history.
func (c *chaos) compact(*testkit.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	client := c.lab.Client()
	defer client.Close()
	r, err := client.Get(ctx, "x")
	if err != nil {
		return
	}
	to := r.Header.Revision / 4
	if to <= c.compacted {
		return
	}
	c.count("compact")
	c.compacted = to // also when there is no answer: it may come into effect at any time
	_, _ = client.Compact(ctx, to)
}

// grow adds a learner, lets it catch up and vote.
func (c *chaos) grow(*testkit.Process) {
	if !c.lab.Roomy() || len(c.lab.Members) > 5 {
		return
	}
	c.count("grow")
	p, id := c.lab.Add(true)
	c.keepLog(p)
	c.start(p)
	c.insist("promote "+p.Name, []string{"can only promote a learner member", "member is not a learner"}, func(ctx context.Context) error {
		_, err := c.lab.Members[0].Client().MemberPromote(ctx, id)
		return err
	})
	c.serve(c.lab.Members)
}

// remove removes a running member for ever, if three are left.
func (c *chaos) remove(p *testkit.Process) {
	if len(c.lab.Members) < 4 {
		return
	}
	c.count("remove")
	c.leaveAs(p, c.id(p))
	if state := p.AwaitExit(); state.ExitCode() != 0 {
		c.t.Errorf("a removed member ends with %v", state)
	}
	c.lab.Vacate(p)
}

// replace removes a member that is lost with its disk, and adds another one at its address.
func (c *chaos) replace(p *testkit.Process) {
	c.count("replace")
	id := c.id(p)
	p.Kill()
	c.leaveAs(p, id)
	c.lab.Vacate(p)
	fresh, _ := c.lab.Add(false)
	c.keepLog(fresh)
	c.start(fresh)
	c.serve(c.lab.Members)
}

// damage kills a member and spoils its store: it comes back by itself, with another member's state and its own log.
func (c *chaos) damage(p *testkit.Process) {
	c.count("damage")
	p.Kill()
	pattern := "*.sst"
	if c.draw%2 == 0 {
		pattern = "marker.manifest.*"
	}
	files, err := filepath.Glob(filepath.Join(p.DataDir, "member", "state*", pattern))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, path := range files {
		truncate(c.t, path, size(c.t, path)/2)
		if c.draw%2 == 0 {
			remove(c.t, path)
		}
	}
	c.start(p)
	if len(files) > 0 && !p.Says("put another member's state in the place of the damaged one") {
		c.t.Errorf("%s has not noticed that %s are damaged", p.Name, files)
	}
}

func (c *chaos) id(p *testkit.Process) uint64 {
	return p.AwaitStatus().Header.MemberId
}

func (c *chaos) leaveAs(p *testkit.Process, id uint64) {
	c.lab.Members = c.lab.Others(p)
	c.serve(c.lab.Members)
	c.insist("remove "+p.Name, []string{"member not found"}, func(ctx context.Context) error {
		_, err := c.lab.Members[0].Client().MemberRemove(ctx, id)
		return err
	})
}

// insist repeats a change of the membership until it has come into effect, as its own answer or one of others tells.
func (c *chaos) insist(what string, others []string, try func(context.Context) error) {
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := try(ctx)
		cancel()
		if err == nil || slices.ContainsFunc(others, func(text string) bool {
			return strings.Contains(err.Error(), text) && !strings.Contains(err.Error(), "in sync")
		}) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
