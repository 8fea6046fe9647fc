package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"keelson/raftlog"
	"keelson/state"
)

// memberIDs are the members of a cluster, as many of them as it has.
var memberIDs = []uint64{
	0x8e9e05c52164694d, 0x1d3a5b7c9e0f2a41, 0xf2c1a09b8d7e6f53, 0x0000000000000003, 0xa5d42c1be97f3086, 0x7b1f4c08d2e6935a,
	0x2c90ee17a46b5d83,
}

const clusterID = 0xcdf818194e3a8c32

// host is where a member runs: what lasts from one run of it to the next.
type host struct {
	w     *world
	index int
	id    uint64        // of the member here; 0: none yet
	slow  time.Duration // its disk takes so many times as long
	drift int64         // its clock runs fast, in millionths

	member *member // nil: down
	disk   *disk
	starts int
	born   bool // a start has succeeded: from now on state and log exist
	ledger ledger

	pausedUntil  time.Duration
	stalledUntil time.Duration // the disk of the log does not answer
	busyUntil    time.Duration // the store takes nothing
	wall         time.Duration // how far the wall clock is ahead
	applied      uint64        // the newest entry that any run of it has applied; 1 stands for what it began with
	abandoned    bool          // it need not come back
	joins        bool          // its member was added to a running cluster: it begins with nothing
	gone         bool          // its member was removed and has ended
	ruined       bool          // its data is damaged: the member waits to be removed, and another one to be added
	fetching     bool          // its store is damaged, and is to be fetched from another member
	generation   int           // of members here
	silenced     time.Duration // what was sent before, and has not arrived, never will
}

func newHost(w *world, index int) *host {
	h := &host{w: w, index: index, slow: 1}
	if index < w.o.Members {
		h.id, h.applied = memberIDs[index], 1
		w.addresses[h.id] = h
	}
	if w.o.Members > 1 && w.rng.IntN(5) == 0 {
		h.slow = 3
	}
	if d := w.clockDrift; d > 0 {
		h.drift = w.rng.Int64N(2*d+1) - d
	}
	h.disk = newDisk(rand.New(rand.NewPCG(w.rng.Uint64(), uint64(index))), w.style)
	h.disk.bug, h.disk.reads = w.o.Bug, &w.reads
	return h
}

func (h *host) String() string { return fmt.Sprintf("m%d", h.index+1) }

// beginning is where the log of the host's member begins.
func (h *host) beginning() state.Position {
	if h.joins {
		return state.Position{}
	}
	return state.Position{Index: 1, Term: 1}
}

// starter is an event that starts the member which is here now, unless something else has happened meanwhile.
func (h *host) starter() func() {
	generation := h.generation
	return func() {
		if h.generation == generation && h.member == nil && !h.gone && !h.ruined {
			h.boot()
		}
	}
}

// clock is what the host's monotonic clock shows.
func (h *host) clock() time.Duration { return h.w.now + h.w.now/1e6*time.Duration(h.drift) }

// epoch is where simulated time begins on a wall clock that is right: 2026-01-01, in nanoseconds since 1970.
const epoch = 1767225600 * int64(time.Second)

// date is what the host's wall clock shows, in nanoseconds since 1970.
func (h *host) date() int64 { return epoch + int64(h.clock()+h.wall) }

// delay is how long a move takes.
func (h *host) delay() time.Duration { return h.w.delay() * h.slow }

// boot starts the member.
func (h *host) boot() {
	w := h.w
	w.runs++
	h.starts++
	m := &member{w: w, host: h, run: w.runs, disk: h.disk, proposals: map[uint64]time.Duration{}}
	m.states = states{origin: m.newOrigin(), sending: map[uint64]bool{}, waiting: map[raftlog.Position]string{}}
	h.member = m
	if w.chance(w.faults.strikeStart) {
		h.disk.arm(w.startStrike())
	}
	before := *h
	before.disk = nil
	if len(h.disk.flaws) > 0 {
		before.disk = h.disk.copy()
	}
	err := m.start()
	w.settle()
	switch {
	case h.disk.crashed():
		w.reach("a crash within a start", h.disk.gaveUp == "")
		gaveUp := h.disk.gaveUp != ""
		h.die("crashed while starting")
		h.asBefore(before, gaveUp)
		return
	case err != nil && h.fetching && !errors.Is(err, raftlog.ErrCorrupt):
		if !errors.Is(err, errNobodyGives) && !errors.Is(err, raftlog.ErrStateBehind) && !h.disk.failed() {
			w.violate("%v gets no state in the place of a damaged one: %v", h, err)
		}
		w.reach("nobody gave a state that was wanted", errors.Is(err, errNobodyGives))
		w.reach("a state that was offered ends before the log begins", errors.Is(err, raftlog.ErrStateBehind))
		if w.healing && errors.Is(err, raftlog.ErrStateBehind) { // who could give it waits for this one
			h.unnote()
		}
		h.die("waits for a state: " + err.Error())
		return
	case err != nil && h.disk.failed():
		w.reach("a flaw in the log was refused", h.disk.flawsBelow(logDir))
		w.reach("a flaw in the store was refused", h.disk.flawsBelow(storeDir))
		w.reach("a disk failed within a start", len(h.disk.flaws) == 0)
		h.unnote()
		h.die("refused: " + err.Error())
		h.asBefore(before, true)
		return
	case err != nil:
		w.violate("%v does not start: %v", h, err)
	}
	h.born, h.fetching = true, false
	h.disk.disarmRead() // the checks read, too
	w.checkStarted(m)
	w.reach("a flaw did no harm to a start", len(h.disk.flaws) > 0)
	n := time.Duration(len(w.hosts))
	m.tickLater()
	w.every(w.pace*n, "request", m, m.request)
	w.every(20*w.pace*n, "read", m, m.readLocal)
	ms := time.Millisecond * w.stretch
	w.every(w.flushes, "flush", m, m.flush)
	w.every(900*ms, "truncate", m, m.truncate)
	w.every(100*ms*n, "compact", m, m.compact)
	w.every(700*ms, "upkeep", m, m.upkeep)
	w.every(100*ms*n, "fault", m, h.misfortune)
	m.running = true
	m.step()
	m.checkBelongs()
}

// die ends the run, with the disk as a crash leaves it, and plans the next one.
func (h *host) die(why string) {
	w, m := h.w, h.member
	w.reach("a crash with an append under way", len(m.appends) > 0)
	w.reach("a crash with applies under way", len(m.applies) > 0)
	w.reach("a leader crashed", m.leading != 0 && len(w.hosts) > 1)
	image, found := m.disk.crash(), h.disk.gaveUp != "" || !m.running
	if reason := m.disk.gaveUp; reason != "" {
		w.reach("the store gave up", true)
		w.reach("the store found a flaw while it was running", m.running && len(m.disk.flaws) > 0)
		why += ": " + reason
		if !m.disk.failed() {
			w.violate("the store of %v gives up, though its disk has not failed: %s", h, reason)
		}
	}
	if w.chance(2) {
		h.silenced = w.now
	}
	m.close()
	w.settle()
	h.member, h.disk, h.pausedUntil = nil, image, 0
	w.tracef("%v %s: %x", m, why, image.sum("/"))
	if h.abandoned || h.gone {
		return
	}
	h.fetching = h.fetching || image.find(damageNote) != nil
	if h.fetching && !h.mayFetch() {
		w.reach("a damaged store could not be fetched", true)
		h.unnote()
	}
	if len(image.flaws) > 0 && found && !h.fetching && h.giveBack() {
		return
	}
	if w.chance(w.faults.flip) && w.mayDamage(h) {
		dir := []string{logDir, storeDir}[w.rng.IntN(2)]
		if where := image.flip(dir, w.rng); where != "" {
			w.inject("a bit flipped at rest in " + dir)
			w.tracef("flipped %s", where)
		}
	}
	d := h.delay()
	if w.chance(4) && !w.healing {
		d += time.Duration(w.rng.Int64N(int64(5 * time.Second)))
	}
	w.after(d, "start", nil, h.starter())
}

// putAway ends everything at the end of a simulation.
func (h *host) putAway() {
	if h.member == nil {
		return
	}
	h.disk.crash() // a ghost from now on
	defer func() { _ = recover() }()
	h.member.close()
}

// diskFailed is what a process does when the log fails: it ends.
func (h *host) diskFailed(err error) {
	d := h.member.disk
	if !d.crashed() && !errors.Is(err, errStruck) && !d.flawsBelow(memberDir) {
		h.w.violate("the log of %v fails, though its disk does not: %v", h, err)
	}
	h.w.reach("the log's disk failed", errors.Is(err, errStruck))
	h.w.reach("the log found a flaw while it was running", errors.Is(err, raftlog.ErrCorrupt))
	h.w.tracef("%v: %v", h, err)
	h.member.running = !errors.Is(err, raftlog.ErrCorrupt) // what the next start is given is decided at its end
	d.crash()                                              // afterEvent ends the run
}

// jumpMax is how far wall clocks are wrong at most.
const jumpMax = 10 * time.Hour

// misfortune is where faults come from.
func (h *host) misfortune() {
	w, d := h.w, h.member.disk
	f := &w.faults
	switch {
	case w.chance(f.kill / 10):
		w.inject("kill")
		d.crash()
	case w.chance(f.strikeLog / 10):
		w.inject("crash within an operation on the log")
		d.arm(strike{dir: logDir, after: w.rng.IntN(30), crash: true})
	case w.chance(f.strikeStore / 10):
		w.inject("crash within an operation on the store")
		d.arm(strike{dir: storeDir, after: w.rng.IntN(60), crash: true})
	case w.chance(f.failLog / 10):
		errno := []error{syscall.EIO, syscall.ENOSPC}[w.rng.IntN(2)]
		w.inject("failed operation on the log")
		d.arm(strike{dir: logDir, after: w.rng.IntN(30), errno: errno})
	case w.chance(f.failStore / 10):
		w.inject("failed operation on the store")
		s := strike{dir: storeDir, after: w.rng.IntN(60), errno: []error{syscall.EIO, syscall.ENOSPC}[w.rng.IntN(2)]}
		if w.rng.IntN(3) == 0 {
			s.dir = incomingDir
		}
		d.arm(s)
	case w.chance(f.failRead / 10):
		dir := []string{logDir, storeDir}[w.rng.IntN(2)]
		w.inject("failed read in " + dir)
		d.arm(strike{dir: dir, after: w.rng.IntN(3), errno: syscall.EIO, read: true})
	case w.chance(f.rot/10) && w.mayDamage(h):
		dir := []string{logDir, storeDir}[w.rng.IntN(2)]
		w.inject("a bit flipped under a running member in " + dir)
		w.tracef("flipped %s", d.flip(dir, w.rng))
	case w.chance(f.astray/10) && w.mayDamage(h):
		w.inject("misdirected write to the log")
		d.arm(strike{dir: logDir, after: w.rng.IntN(3), astray: true})
	case w.chance(f.pause / 10):
		w.inject("pause")
		h.pause()
	case w.chance(f.stall / 10):
		if w.rng.IntN(2) == 0 {
			w.inject("stalled store")
			h.busyUntil = w.now + time.Duration(w.rng.Int64N(int64(10*electionTimeout)))
			w.tracef("the store of %v stands still", h)
			return
		}
		w.inject("stalled disk of the log")
		h.stalledUntil = w.now + time.Duration(w.rng.Int64N(int64(4*electionTimeout)))
		w.reach("the disk of a leader stood still", h.member.leading != 0)
		w.tracef("the disk of %v stands still", h)
	case w.chance(f.jump / 10):
		h.wall = time.Duration(w.rng.Int64N(int64(2*jumpMax))) - jumpMax
		w.inject("jump of a wall clock")
	}
}

// pause stops the process for a while. What it is sent meanwhile waits for it.
func (h *host) pause() {
	w := h.w
	d := time.Duration(w.rng.Int64N(int64([]time.Duration{300 * time.Millisecond, 6 * time.Second}[w.rng.IntN(2)])))
	h.pausedUntil = w.now + d
	w.tracef("%v stands still for %v", h, d)
	w.reach("a leader was paused for longer than an election", h.member.leading != 0 && d > 2*electionTimeout)
}

// heal ends the faults of a member that has to work from now on.
func (h *host) heal() {
	h.slow, h.stalledUntil, h.busyUntil = 1, 0, 0
	h.disk.disarm()
	if h.member != nil && len(h.disk.flaws) > 0 {
		h.disk.crash() // a process may have read already what is to be mended
		h.die("ended to be given its data")
	}
	h.disk.mend()
	if h.ruined {
		h.ruined = false
		h.w.after(0, "start", nil, h.starter())
	}
}

// mayDamage reports whether a host may lose what it holds: a quorum of the others is sound.
func (w *world) mayDamage(h *host) bool {
	return w.othersAreSound(h) || len(w.model.roster.voters) == 1
}

// othersAreSound reports whether a quorum is, without a host.
func (w *world) othersAreSound(h *host) bool {
	voters := w.model.roster.voters
	sound := 0
	for _, id := range voters {
		other := w.hostOf(id)
		if other != nil && other != h && !other.ruined && !other.fetching && len(other.disk.flaws) == 0 {
			sound++
		}
	}
	return sound > len(voters)/2
}

// giveBack decides what becomes of data that are known to be damaged, and reports whether they are thrown away: then the
// member is to be removed, and another one added in its place. Otherwise they are as they were.
func (h *host) giveBack() (ruined bool) {
	w := h.w
	_, belongs := w.model.roster.list[h.id]
	if w.changes && belongs && !w.healing && len(w.model.roster.voters) > w.votersMin && w.mayDamage(h) && w.rng.IntN(2) == 0 {
		h.ruined = true
		w.reach("damaged data were thrown away", true)
		w.tracef("%v waits to be removed", h)
		return true
	}
	h.disk.mend()
	return false
}

// asBefore gives a member the data back that a start has found to be damaged, as they were before that start: a store that
// takes damage in its manifest for the end of it throws away what stands behind.
func (h *host) asBefore(before host, refused bool) {
	if before.disk == nil || h.gone || h.fetching {
		return
	}
	if refused && !h.ruined {
		before.disk.mend()
	}
	h.disk, h.ledger, h.applied, h.born = before.disk, before.ledger, before.applied, before.born
	h.unnote()
}

// startStrike is what may happen to a start.
func (w *world) startStrike() strike {
	s := strike{dir: memberDir, after: w.rng.IntN(40), crash: true}
	if w.rng.IntN(3) == 0 {
		s.crash, s.errno, s.read = false, syscall.EIO, w.rng.IntN(2) == 0
	}
	return s
}

// abandon leaves a member broken: it is down for good, stands still for ever, or goes on with an unreliable disk behind
// bad links.
func (h *host) abandon() {
	h.abandoned = true
	switch h.w.rng.IntN(4) {
	case 0:
		if h.member != nil {
			h.disk.crash()
			h.die("left to itself")
		}
	case 1:
		h.pausedUntil = 1 << 62
	case 2:
		h.disk.arm(strike{dir: memberDir, after: h.w.rng.IntN(300), crash: true})
	}
}
