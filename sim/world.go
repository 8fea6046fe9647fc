package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"keelson/command"
)

// Options says what to simulate.
type Options struct {
	// Seed decides everything.
	Seed uint64
	// Members is the size of the cluster, 1 to 7. 0: 1.
	Members int
	// Steps is the number of events, for each member, before the faults end and the cluster has to recover.
	Steps int
	// Calm is for long stretches in which little happens: hours in which leases run out one by one, nobody asks for much, and
	// faults come alone. There are calmStretch times as many events, and less between them.
	Calm bool
	// Bug is the name of a deliberate bug, one of Bugs. Empty: none.
	Bug string
	// Only are the things that somebody does, of all that are done in the seed; nil: all of them. See Script.
	Only Acts
	// Log gets one line for each event. May be nil.
	Log func(line string)
}

// Report says what a simulation has found.
type Report struct {
	// Failure is what went wrong; nil: nothing.
	Failure error
	// Trace is a hash of everything that happened, in order.
	Trace uint64
	// Reads is a sum over what was read from disks, and where: what a fault of a disk may strike.
	Reads uint64
	// Acts are all things that somebody has done.
	Acts Acts
	// Histories are what clients have seen of some keys; see Judge.
	Histories []History
	// Reached counts rare states that were met.
	Reached map[string]int
	// Events is the number of events.
	Events int
	// Time is how long it took, in the simulated world.
	Time time.Duration
}

// world is a simulation under way.
type world struct {
	o       Options
	rng     *rand.Rand
	trace   *xxhash.Digest
	reads   atomic.Uint64
	reached map[string]int

	now      time.Duration
	calendar calendar
	sequence uint64
	happened int // events so far
	acts     Acts
	counts   map[string]int // of what somebody does, also of what is left out

	hosts     []*host
	addresses map[uint64]*host   // of all members that there ever were
	former    map[uint64]*ledger // of members that are gone, when another one has their host
	network   *network
	clients   []*watchClient
	registers *registers
	broken    error // a promise that was broken where nobody could stop for it
	runs      int   // of all hosts
	healing   bool
	floor     struct { // of what every member has applied
		index, before uint64 // now and then; before that
		next          time.Duration
	}

	settings
	*checker
}

// violation is a broken promise.
type violation struct{ error }

func (w *world) violate(format string, args ...any) {
	if w.storeGaveUp() {
		panic(ended{}) // what the ghost of a process sees says nothing
	}
	panic(violation{fmt.Errorf(format, args...)})
}

// reach counts a rare state.
func (w *world) reach(state string, cond bool) {
	n := w.reached[state]
	if cond {
		n++
	}
	w.reached[state] = n
}

// inject counts a fault.
func (w *world) inject(fault string) { w.reach("fault: "+fault, true) }

// tracef puts a line into the trace.
func (w *world) tracef(format string, args ...any) {
	line := fmt.Sprintf("%10.4fs %s", w.now.Seconds(), fmt.Sprintf(format, args...))
	_, _ = w.trace.WriteString(line)
	if w.o.Log != nil {
		w.o.Log(line)
	}
}

// bug reports whether a deliberate bug is switched on.
func (w *world) bug(name string) bool { return w.o.Bug == name }

// Run simulates a cluster and its clients. It must be called within a synctest bubble, and raft's source of chance must
// be seeded: see TestSim.
func Run(o Options) (r Report) {
	o.Members = max(o.Members, 1)
	w := newWorld(o)
	defer func() {
		r = Report{Trace: w.trace.Sum64(), Reads: w.reads.Load(), Reached: w.reached, Time: w.now, Events: w.happened, Histories: w.registers.histories(), Acts: w.acts}
		if p := recover(); p != nil {
			v, ok := p.(violation)
			if !ok {
				v.error = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			r.Failure = v.error
		}
		for _, h := range w.hosts {
			h.putAway()
		}
		w.settle()
	}()
	w.installHooks()
	for _, h := range w.hosts[:o.Members] {
		w.carryOut(h.boot)
	}
	w.afterEvent()
	w.every(w.operations, "operator", nil, w.operate)
	for i := range w.watchers {
		c := newWatchClient(w, i)
		w.clients = append(w.clients, c)
		w.every(20*w.pace, "watcher", nil, c.act)
	}
	if w.histories {
		w.every(3*w.pace, "register", nil, w.registers.act)
	}
	w.every(time.Second*w.stretch, "weather", nil, w.network.change)
	for range w.o.Steps * w.o.Members * int(w.stretch) {
		w.next()
	}
	w.heal()
	return r
}

func newChance(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x6b65656c)) }

func newWorld(o Options) *world {
	w := &world{
		addresses: map[uint64]*host{},
		former:    map[uint64]*ledger{},

		o:       o,
		rng:     newChance(o.Seed),
		acts:    Acts{},
		counts:  map[string]int{},
		trace:   xxhash.New(),
		reached: map[string]int{},
	}
	w.settings = drawSettings(w.rng)
	if o.Calm {
		w.calmDown()
	}
	if o.Members == 1 && !w.changes {
		w.clockDrift = 0 // nothing to compare it with
	}
	hosts := o.Members
	if w.changes {
		hosts += spareHosts
	}
	for i := range hosts {
		w.hosts = append(w.hosts, newHost(w, i))
	}
	w.checker = newChecker(w)
	w.network = newNetwork(w)
	w.registers = newRegisters(w)
	return w
}

// spareHosts are for members that are added.
const spareHosts = 2

// founders are the members that the cluster begins with.
func (w *world) founders() *roster {
	list := map[uint64]rosterMember{}
	for i, id := range memberIDs[:w.o.Members] {
		list[id] = rosterMember{urls: joinURLs([]string{w.hosts[i].url(0)})}
	}
	return newRoster(list, map[uint64]bool{})
}

// messageAgeMax is longer than a message can be under way, to a member that stands still.
const messageAgeMax = 12 * time.Second

// disposable is up to where nobody needs the log any more: what every member had applied some time ago, so that an old
// message, which says that somebody has less than it has by now, asks for nothing that is gone.
func (w *world) disposable() uint64 {
	if f := &w.floor; w.now >= f.next {
		f.next = w.now + messageAgeMax
		f.before, f.index = f.index, w.last()
		for id := range w.model.roster.list {
			f.index = min(f.index, w.addresses[id].applied)
		}
	}
	return max(w.floor.before, 1)
}

// delay is how long a move takes.
func (w *world) delay() time.Duration { return time.Duration(w.rng.Int64N(int64(w.delayMax))) }

// event is an entry of the calendar.
type event struct {
	at       time.Duration
	sequence uint64 // of those at the same time, the one entered first comes first
	what     string
	m        *member // the run it belongs to; nil: to none
	h        *host   // the host it happens on; nil: on none
	f        func()
}

// at enters an event. It does not happen if the run it belongs to has ended by then; if that is paused, it happens when
// the pause is over.
func (w *world) at(t time.Duration, what string, m *member, f func()) {
	e := event{at: t, what: what, m: m, f: f}
	if m != nil {
		e.h = m.host
	}
	w.enter(e)
}

func (w *world) enter(e event) {
	w.sequence++
	e.sequence = w.sequence
	heap.Push(&w.calendar, e)
}

func (w *world) after(d time.Duration, what string, m *member, f func()) { w.at(w.now+d, what, m, f) }

// every enters an event that comes again and again, about every d.
func (w *world) every(d time.Duration, what string, m *member, f func()) {
	w.after(d/2+time.Duration(w.rng.Int64N(int64(d))), what, m, func() {
		if what != "request" || !w.load.quiet {
			w.every(d, what, m, f)
		}
		who := what
		if m != nil {
			who = m.host.String() + " " + what
		}
		w.act(who, f)
	})
}

// next lets the next event happen.
func (w *world) next() {
	for {
		if len(w.calendar) == 0 {
			w.violate("nothing will ever happen again")
		}
		e := heap.Pop(&w.calendar).(event)
		if e.m != nil && e.m != e.h.member {
			continue
		}
		if e.h != nil && e.at < e.h.pausedUntil {
			e.at = e.h.pausedUntil
			heap.Push(&w.calendar, e)
			continue
		}
		time.Sleep(e.at - w.now) // lets the timers of libraries run with the simulated time
		w.now = e.at
		w.happened++
		if e.h != nil {
			w.tracef("%v %s", e.h, e.what)
		} else {
			w.tracef("%s", e.what)
		}
		w.carryOut(e.f)
		w.settle()
		w.afterEvent()
		return
	}
}

// ended is the panic that leaves an event whose process has ended in the middle.
type ended struct{}

// carryOut lets an event happen. If a process finds out that its store can't be read, it ends there and then.
func (w *world) carryOut(f func()) {
	defer func() {
		if p := recover(); p != nil && p != (ended{}) && !w.storeGaveUp() {
			panic(p)
		}
	}()
	f()
}

// storeGaveUp reports whether the store of some member has just given up: its process has ended.
func (w *world) storeGaveUp() bool {
	return slices.ContainsFunc(w.hosts, func(h *host) bool { return h.member != nil && h.member.disk.hasGivenUp() })
}

// settle waits until all goroutines of libraries have come to rest.
func (w *world) settle() {
	synctest.Wait()
	for _, h := range w.hosts {
		h.disk.removePostponed()
	}
}

func (w *world) afterEvent() {
	if w.broken != nil {
		panic(violation{w.broken})
	}
	for _, h := range w.hosts {
		switch m := h.member; {
		case m == nil:
		case m.disk.crashed():
			h.die("crashed")
		default:
			w.checkRunning(m)
		}
	}
}

// chance is true once in so many times; never for 0.
func (w *world) chance(oneIn int) bool { return oneIn > 0 && w.rng.IntN(oneIn) == 0 }

// heal ends all faults and requests. Where members change, all come back first, until no change is under way. Then some
// quorum and the links within it stay well, for good; the others stay cut off, or down, or are heard and hear nothing. The
// quorum has to come up and work, and all leases have to run out.
func (w *world) heal() {
	w.healing = true
	w.load.quiet = true
	w.faults = faults{}
	w.delayMax = min(w.delayMax, 20*time.Millisecond)
	w.taskMax = min(w.taskMax, 20*time.Millisecond) // a hub may have hundreds of responses of one event each to send
	for _, h := range w.hosts {
		h.wall = 2 * jumpMax // later than any clock was so far
	}
	if w.changes {
		w.settleMembers()
	}
	var well, rest []*host
	voters := w.model.roster.voters
	for i, k := range w.rng.Perm(len(voters)) {
		if h := w.hostOf(voters[k]); i <= len(voters)/2 {
			well = append(well, h)
			h.heal()
		} else {
			rest = append(rest, h)
			h.abandon()
		}
	}
	if !slices.ContainsFunc(well, func(h *host) bool { return !h.fetching }) { // nobody could give what all want
		for _, h := range well {
			h.unnote()
		}
	}
	w.network.heal(well)
	w.tracef("heal: %v work, %v do not", well, rest)
	all := func(so func(h *host) bool) func() bool {
		return func() bool { return !slices.ContainsFunc(well, func(h *host) bool { return !so(h) }) }
	}
	w.until("all that was proposed is settled", all(func(h *host) bool { return h.member != nil && len(h.member.proposals) == 0 }))
	w.until("leases that nobody renews have run out", func() bool { return len(w.model.leases) == 0 })
	w.until("nodes of the v2 tree whose time is over are gone", func() bool {
		first := w.model.tree.earliest()
		return first == 0 || first > epoch+int64(w.now)
	})
	for _, h := range well {
		w.answers(h)
	}
	w.until("all have applied everything", all(func(h *host) bool {
		return h.member != nil && h.member.machine.Applied().Index == w.last()
	}))
	for _, h := range well {
		w.checkDump(h.member)
	}
	for _, c := range w.clients {
		c.moveTo(well[w.rng.IntN(len(well))].member)
	}
	w.until("watchers have seen everything", func() bool {
		return !slices.ContainsFunc(w.clients, func(c *watchClient) bool { return !c.hasAll() })
	})
}

// settleMembers lets all members come back, until everybody agrees on who they are, and nobody's log holds a change that may
// come to pass or not.
func (w *world) settleMembers() {
	for _, h := range w.hosts {
		h.heal()
	}
	w.network.calm()
	w.tracef("all work")
	all := func(so func(h *host) bool) func() bool {
		return func() bool {
			for id := range w.model.roster.list {
				if h := w.hostOf(id); h == nil || !so(h) {
					return false
				}
			}
			return true
		}
	}
	w.until("all that was proposed is settled", all(func(h *host) bool { return h.member != nil && len(h.member.proposals) == 0 }))
	w.until("all logs are alike", all(func(h *host) bool {
		return h.member != nil && h.member.machine.Applied().Index == w.last() && h.ledger.last() == w.last() &&
			len(h.member.appends) == 0
	}))
}

// answers checks that a healthy member answers a write and a read.
func (w *world) answers(h *host) {
	m, acked, served := h.member, w.ackedBy[h.id], w.servedBy[h.id]
	m.read(nil)
	w.until(fmt.Sprintf("%v answers a write and a read", h), func() bool {
		if w.ackedBy[h.id] == acked && len(m.proposals) == 0 { // refused, as long as earlier ones take up the room
			m.propose(&command.Put{Key: []byte("last"), Value: []byte("words")})
		}
		if w.servedBy[h.id] == served && len(m.reads) == 0 { // there was a change of leaders
			m.read(nil)
		}
		return w.ackedBy[h.id] > acked && w.servedBy[h.id] > served
	})
}

// until goes on until something is so. It has to be so within five minutes: a lot, because some seeds apply one entry at
// a time.
func (w *world) until(what string, so func() bool) {
	for end := w.now + 5*time.Minute; !so(); w.next() {
		if w.now > end {
			w.violate("it never happens that %s", what)
		}
	}
}

// calendar is a heap of events.
type calendar []event

func (c calendar) Len() int { return len(c) }
func (c calendar) Less(i, j int) bool {
	return c[i].at < c[j].at || c[i].at == c[j].at && c[i].sequence < c[j].sequence
}
func (c calendar) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(x any)   { *c = append(*c, x.(event)) }
func (c *calendar) Pop() any {
	old := *c
	e := old[len(old)-1]
	*c = old[:len(old)-1]
	return e
}
