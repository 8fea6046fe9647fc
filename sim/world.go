package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"keelson/command"
	"keelson/replica"
)

// Options says what to simulate.
type Options struct {
	// Seed decides everything.
	Seed uint64
	// Steps is the number of events before the faults end and the member has to recover.
	Steps int
	// Bug is the name of a deliberate bug, one of Bugs. Empty: none.
	Bug string
	// Log gets one line for each event. May be nil.
	Log func(line string)
}

// Report says what a simulation has found.
type Report struct {
	// Failure is what went wrong; nil: nothing.
	Failure error
	// Trace is a hash of everything that happened, in order.
	Trace uint64
	// Reached counts rare states that were met.
	Reached map[string]int
	// Time is how long it took, in the simulated world.
	Time time.Duration
}

// world is a simulation under way.
type world struct {
	o       Options
	rng     *rand.Rand
	trace   *xxhash.Digest
	reached map[string]int

	now      time.Duration
	calendar calendar
	sequence uint64

	member *member // nil: down
	runs   int
	disk   *disk
	spoilt *disk // what the disk was before a bit of it was flipped; nil: none was
	born   bool  // a start has succeeded: from now on state and log exist

	settings
	*checker
}

// settings are drawn for each seed.
type settings struct {
	style            crashStyle
	segmentBytes     int64
	tailBytes        int64
	cacheBytes       int64
	applyBytes       uint64
	uncommittedBytes uint64
	checkpoints      time.Duration
	delayMax         time.Duration
	pace             time.Duration // between two requests of clients
	faults           faults
	load             load
}

// faults are what may happen, each as often as every so many events; 0: never.
type faults struct {
	kill, strikeLog, strikeStore, failLog, strikeStart, flip int
}

// violation is a broken promise.
type violation struct{ error }

func (w *world) violate(format string, args ...any) {
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

// tracef puts a line into the trace.
func (w *world) tracef(format string, args ...any) {
	line := fmt.Sprintf("%10.4fs %s", w.now.Seconds(), fmt.Sprintf(format, args...))
	_, _ = w.trace.WriteString(line)
	if w.o.Log != nil {
		w.o.Log(line)
	}
}

// Run simulates one member and its clients. It must be called within a synctest bubble, and raft's source of chance must
// be seeded: see TestSim.
func Run(o Options) (r Report) {
	w := newWorld(o)
	defer func() {
		r = Report{Trace: w.trace.Sum64(), Reached: w.reached, Time: w.now}
		if p := recover(); p != nil {
			v, ok := p.(violation)
			if !ok {
				v.error = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			r.Failure = v.error
		}
		if w.member != nil {
			w.disk.crash() // a ghost from now on
			func() {
				defer func() { _ = recover() }()
				w.member.close()
			}()
		}
		w.settle()
	}()
	w.installHooks()
	w.boot()
	for range o.Steps {
		w.next()
	}
	w.heal()
	return r
}

func newWorld(o Options) *world {
	w := &world{
		o:       o,
		rng:     rand.New(rand.NewPCG(o.Seed, 0x6b65656c)),
		trace:   xxhash.New(),
		reached: map[string]int{},
	}
	w.settings = drawSettings(w.rng)
	w.checker = newChecker(w)
	w.disk = newDisk(w.rng, w.style)
	w.disk.bug = o.Bug
	return w
}

func drawSettings(rng *rand.Rand) settings {
	often := func(every int) int {
		if rng.IntN(3) == 0 {
			return 0
		}
		return every/2 + rng.IntN(every)
	}
	s := settings{
		style: crashStyle{
			keepPercent: []int{0, 10, 50, 90, 100}[rng.IntN(5)],
			sectorBytes: []int{512, 4096}[rng.IntN(2)],
			ordered:     rng.IntN(2) == 0,
		},
		segmentBytes:     []int64{4 << 10, 16 << 10, 64 << 10}[rng.IntN(3)],
		tailBytes:        []int64{1, 4 << 10, 1 << 20}[rng.IntN(3)],
		cacheBytes:       []int64{-1, 2 << 10, 1 << 20}[rng.IntN(3)],
		applyBytes:       []uint64{1, 500, 1 << 20}[rng.IntN(3)],
		uncommittedBytes: []uint64{2 << 10, 1 << 20}[rng.IntN(2)],
		checkpoints:      []time.Duration{0, 3 * time.Second}[rng.IntN(2)],
		delayMax:         []time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond}[rng.IntN(3)],
		pace:             []time.Duration{3 * time.Millisecond, 30 * time.Millisecond}[rng.IntN(2)],
		faults: faults{
			kill: often(400), strikeLog: often(150), strikeStore: often(150), failLog: often(400), strikeStart: often(10),
			flip: often(4),
		},
		load: drawLoad(rng),
	}
	return s
}

// delay is how long a move takes.
func (w *world) delay() time.Duration { return time.Duration(w.rng.Int64N(int64(w.delayMax))) }

// event is an entry of the calendar.
type event struct {
	at       time.Duration
	sequence uint64 // of those at the same time, the one entered first comes first
	what     string
	m        *member // the run it belongs to; nil: to none
	f        func()
}

// at enters an event. It does not happen if the run it belongs to has ended by then.
func (w *world) at(t time.Duration, what string, m *member, f func()) {
	w.sequence++
	heap.Push(&w.calendar, event{t, w.sequence, what, m, f})
}

func (w *world) after(d time.Duration, what string, m *member, f func()) { w.at(w.now+d, what, m, f) }

// every enters an event that comes again and again, about every d.
func (w *world) every(d time.Duration, what string, m *member, f func()) {
	w.after(d/2+time.Duration(w.rng.Int64N(int64(d))), what, m, func() {
		if what != "request" || !w.load.quiet {
			w.every(d, what, m, f)
		}
		f()
	})
}

// next lets the next event happen.
func (w *world) next() {
	for {
		if len(w.calendar) == 0 {
			w.violate("nothing will ever happen again")
		}
		e := heap.Pop(&w.calendar).(event)
		if e.m != nil && e.m != w.member {
			continue
		}
		time.Sleep(e.at - w.now) // lets the timers of libraries run with the simulated time
		w.now = e.at
		w.tracef("%s", e.what)
		e.f()
		w.settle()
		w.afterEvent()
		return
	}
}

// settle waits until all goroutines of libraries have come to rest.
func (w *world) settle() {
	synctest.Wait()
	w.disk.removePostponed()
}

func (w *world) afterEvent() {
	m := w.member
	if m == nil {
		return
	}
	if m.disk.crashed() {
		w.die("crashed")
		return
	}
	w.checkRunning(m)
}

// boot starts the member.
func (w *world) boot() {
	w.runs++
	m := &member{w: w, run: w.runs, disk: w.disk, proposals: map[uint64]bool{}}
	w.member = m
	if w.spoilt == nil && w.chance(w.faults.strikeStart) {
		w.disk.arm(strike{dir: memberDir, after: w.rng.IntN(40), crash: true})
	}
	err := m.start()
	w.settle()
	switch {
	case w.disk.crashed():
		w.reach("a crash within a start", true)
		w.die("crashed while starting")
		return
	case err != nil && w.spoilt != nil:
		w.reach("a flipped bit was refused", true)
		w.tracef("refused: %v", err)
		w.disk.crash()
		m.close()
		w.settle()
		w.member, w.disk, w.spoilt = nil, w.spoilt, nil
		w.after(time.Second, "start", nil, w.boot)
		return
	case err != nil:
		w.violate("the member does not start: %v", err)
	}
	w.reach("a flipped bit did no harm", w.spoilt != nil)
	w.born, w.spoilt = true, nil
	w.checkStarted(m)
	w.every(100*time.Millisecond, "tick", m, m.tick)
	w.every(w.pace, "request", m, m.request)
	w.every(20*w.pace, "read", m, m.readLocal)
	w.every(700*time.Millisecond, "flush", m, m.flush)
	w.every(900*time.Millisecond, "truncate", m, m.truncate)
	w.every(100*time.Millisecond, "compact", m, m.compact)
	w.every(700*time.Millisecond, "upkeep", m, m.upkeep)
	w.every(100*time.Millisecond, "fault", m, m.misfortune)
	m.step()
}

// chance is true once in so many times; never for 0.
func (w *world) chance(oneIn int) bool { return oneIn > 0 && w.rng.IntN(oneIn) == 0 }

// die ends the run, with the disk as a crash leaves it, and plans the next one.
func (w *world) die(why string) {
	m := w.member
	w.reach("a crash with an append under way", len(m.appends) > 0)
	w.reach("a crash with applies under way", len(m.applies) > 0)
	image := m.disk.crash()
	m.close()
	w.settle()
	w.member, w.disk = nil, image
	w.tracef("%v %s: %x", m, why, image.sum("/"))
	if w.chance(w.faults.flip) {
		before := image.copy()
		if where := image.flip(logDir, w.rng); where != "" {
			w.tracef("flipped %s", where)
			w.spoilt = before
		}
	}
	w.after(w.delay(), "start", nil, w.boot)
}

// diskFailed is what a process does when the log fails: it ends.
func (w *world) diskFailed(m *member, err error) {
	if !m.disk.crashed() && !errors.Is(err, errStruck) {
		w.violate("the log fails, though its disk does not: %v", err)
	}
	w.reach("the log's disk failed", true)
	m.disk.crash() // afterEvent ends the run
}

// misfortune is where faults come from.
func (m *member) misfortune() {
	w := m.w
	f := &w.faults
	switch {
	case w.chance(f.kill / 10):
		w.reach("killed", true)
		m.disk.crash()
	case w.chance(f.strikeLog / 10):
		m.disk.arm(strike{dir: logDir, after: w.rng.IntN(30), crash: true})
	case w.chance(f.strikeStore / 10):
		m.disk.arm(strike{dir: storeDir, after: w.rng.IntN(60), crash: true})
	case w.chance(f.failLog / 10):
		errno := []error{syscall.EIO, syscall.ENOSPC}[w.rng.IntN(2)]
		m.disk.arm(strike{dir: logDir, after: w.rng.IntN(30), errno: errno})
	}
}

// heal ends all faults and requests. The member has to come up and work, and all leases have to run out.
func (w *world) heal() {
	w.tracef("heal")
	w.faults = faults{}
	w.load.quiet = true
	w.disk.disarm()
	if w.spoilt != nil && w.member == nil {
		w.disk, w.spoilt = w.spoilt, nil
	}
	w.until("the member is back", func() bool { return w.member != nil && w.member.up && len(w.member.proposals) == 0 })
	w.until("leases that nobody renews have run out", func() bool { return len(w.model.leases) == 0 })
	acked, served := w.acked, w.served
	w.member.read()
	w.until("a write and a read are answered", func() bool {
		if w.acked == acked && len(w.member.proposals) == 0 { // refused, as long as earlier ones take up the room
			w.member.propose(&command.Put{Key: []byte("last"), Value: []byte("words")})
		}
		return w.acked > acked && w.served > served
	})
	w.checkDump(w.member)
}

// until goes on until something is so. It has to be so within five minutes: a lot, because some seeds apply one entry at
// a time on a slow disk.
func (w *world) until(what string, so func() bool) {
	for end := w.now + 5*time.Minute; !so(); w.next() {
		if w.now > end {
			w.violate("it never happens that %s", what)
		}
	}
}

// appliedAtStart is what the replica is told has been applied.
func (w *world) appliedAtStart(m *member) uint64 {
	if w.o.Bug == "applied-index-apart" {
		// The bug of an index that is written when it pleases, not with what it stands for.
		return max(m.machine.Applied().Index, min(w.last(), lastIndex(m)))
	}
	return m.machine.Applied().Index
}

func lastIndex(m *member) uint64 {
	i, _ := m.log.LastIndex()
	return i
}

// appendHandedOut is told of every append when the replica hands it out.
func (w *world) appendHandedOut(m *member, a *replica.Append) {
	if w.o.Bug != "acknowledge-before-sync" {
		return
	}
	for _, e := range a.Entries {
		if len(e.GetData()) > 0 {
			w.acked = max(w.acked, e.GetIndex())
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
