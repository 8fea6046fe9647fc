package sim

import (
	"math/rand/v2"
	"time"
)

// settings are drawn for each seed.
type settings struct {
	style            crashStyle
	segmentBytes     int64
	tailBytes        int64
	keepAll          bool   // the log is kept as long as any member needs it; otherwise:
	catchUp          uint64 // so many entries are kept for others,
	keepForActive    bool   // and what those need that the leader hears of
	cacheBytes       int64
	messageBytes     uint64
	applyBytes       uint64
	uncommittedBytes uint64
	checkpoints      time.Duration
	ringBytes        int // of recent events
	responseBytes    int
	watchers         int
	taskMax          time.Duration // until a task of the hub is carried out
	delayMax         time.Duration
	pace             time.Duration // between two requests of clients
	histories        bool          // of registers are recorded
	changes          bool          // of members
	votersMin        int           // that operators leave
	moves            bool          // of the leader
	operations       time.Duration // between two things that operators do
	clockDrift       int64         // how far clocks run fast or slow at most, in millionths
	flushes          time.Duration // between two of them; each adds a table, and none are ever merged
	ttlMax           int64         // of leases, in seconds
	stretch          time.Duration // what comes again and again takes so many times as long
	faults           faults
	air              air
	load             load
}

// calmStretch is how much longer things take in calm runs.
const calmStretch = 50

// calmDown makes a run a calm one.
func (s *settings) calmDown() {
	s.stretch, s.ttlMax, s.flushes = calmStretch, 120, 5*time.Minute
	s.pace *= 10 * calmStretch
	s.operations *= calmStretch
	s.air.lossPercent = min(s.air.lossPercent, 2)
}

// faults are what may happen to a member, each as often as every so many events; 0: never.
type faults struct {
	kill, strikeLog, strikeStore, failLog, strikeStart, flip, pause, stall, jump int
	failStore, failRead, rot, astray                                             int
}

// air is what may happen to messages.
type air struct {
	delayMax      time.Duration
	slowMax       time.Duration // of a link that is slow
	stateMax      time.Duration // for a whole state
	lossPercent   int
	repeatPercent int
	astray        int  // one in so many reaches another member as well; 0: none
	disorder      bool // messages overtake each other
	splits        bool // links are cut and slowed down
}

func drawSettings(rng *rand.Rand) settings {
	often := func(every int) int {
		if rng.IntN(3) == 0 {
			return 0
		}
		return every/2 + rng.IntN(every)
	}
	ms := time.Millisecond
	return settings{
		style: crashStyle{
			keepPercent: []int{0, 10, 50, 90, 100}[rng.IntN(5)],
			sectorBytes: []int{512, 4096}[rng.IntN(2)],
			ordered:     rng.IntN(2) == 0,
		},
		segmentBytes:     []int64{4 << 10, 16 << 10, 64 << 10}[rng.IntN(3)],
		tailBytes:        []int64{1, 4 << 10, 1 << 20}[rng.IntN(3)],
		keepAll:          rng.IntN(3) == 0,
		catchUp:          []uint64{0, 3, 30}[rng.IntN(3)],
		keepForActive:    rng.IntN(2) == 0,
		cacheBytes:       []int64{-1, 2 << 10, 1 << 20}[rng.IntN(3)],
		messageBytes:     []uint64{1, 1 << 10, 1 << 20}[rng.IntN(3)],
		applyBytes:       []uint64{1, 500, 1 << 20}[rng.IntN(3)],
		uncommittedBytes: []uint64{2 << 10, 1 << 20}[rng.IntN(2)],
		checkpoints:      []time.Duration{0, 3 * time.Second}[rng.IntN(2)],
		ringBytes:        []int{1, 4 << 10, 1 << 20}[rng.IntN(3)],
		responseBytes:    []int{1, 500, 1 << 20}[rng.IntN(3)],
		watchers:         rng.IntN(5),
		taskMax:          []time.Duration{ms, 30 * ms, time.Second}[rng.IntN(3)],
		delayMax:         []time.Duration{ms, 20 * ms, 200 * ms}[rng.IntN(3)],
		pace:             []time.Duration{3 * ms, 30 * ms}[rng.IntN(2)],
		histories:        rng.IntN(4) == 0,
		changes:          rng.IntN(2) == 0,
		votersMin:        1 + rng.IntN(3),
		moves:            rng.IntN(2) == 0,
		operations:       []time.Duration{300 * ms, 2 * time.Second}[rng.IntN(2)],
		clockDrift:       []int64{0, 20_000}[rng.IntN(2)],
		flushes:          700 * ms,
		ttlMax:           8,
		stretch:          1,
		faults: faults{
			kill: often(400), strikeLog: often(150), strikeStore: often(150), failLog: often(400), strikeStart: often(10),
			flip: often(4), pause: often(300), stall: often(300), jump: often(500),
			failStore: often(400), failRead: often(600), rot: often(600), astray: often(900),
		},
		air: air{
			delayMax:      []time.Duration{ms, 10 * ms, 100 * ms}[rng.IntN(3)],
			slowMax:       []time.Duration{300 * ms, 3 * time.Second}[rng.IntN(2)],
			stateMax:      []time.Duration{10 * ms, time.Second, 5 * time.Second}[rng.IntN(3)],
			lossPercent:   []int{0, 0, 2, 10, 30}[rng.IntN(5)],
			repeatPercent: []int{0, 0, 2, 20}[rng.IntN(4)],
			astray:        []int{0, 50}[rng.IntN(2)],
			disorder:      rng.IntN(2) == 0,
			splits:        rng.IntN(4) > 0,
		},
		load: drawLoad(rng),
	}
}
