package watch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keelson/state/mvcc"
)

// TestModel lets a writer publish, compact and reset while clients with slow and stalling connections create, cancel and
// ask, over hubs with tiny and ample limits; then it checks all that every client received. Times are those of the bubble:
// they pass when everything waits.
func TestModel(t *testing.T) {
	var found coverage
	eachSeed(t, func(t *testing.T, r *rand.Rand) {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, r)
			m.run()
			found.add(m.found)
		})
	})
	t.Logf("%+v", found)
	if missing := found.missing(); len(missing) > 0 && *rounds >= 25 && *seedFlag == 0 {
		t.Errorf("the test never met: %v", missing)
	}
}

type model struct {
	*fixture
	rand    *rand.Rand // of the main goroutine; each other one has its own
	keys    int
	clients []*modelClient
	found   coverage
}

type modelClient struct {
	*recorder
	requests []Request
	cancels  map[int64]int
	closed   bool
}

func newModel(t *testing.T, r *rand.Rand) *model {
	pick := func(values ...int) int { return values[r.IntN(len(values))] }
	o := Options{
		RingBytes:        pick(1, 2<<10, 16<<10, 1<<20),
		StreamQueueLen:   pick(1, 3, 128),
		ResponseBytes:    pick(1, 700, 4<<10, 512<<10),
		FragmentBytes:    pick(100, 200, 500, 2<<20),
		CatchUpReaders:   pick(1, 2, 4),
		CatchUpBytes:     pick(1, 64<<20),
		ProgressInterval: 100 * time.Millisecond,
		Chance:           chance{fork(r)},
	}
	if r.IntN(2) == 0 {
		delays := fork(r)
		var mu sync.Mutex
		o.Spawn = func(task func()) {
			mu.Lock()
			delay := time.Duration(delays.IntN(4)) * time.Millisecond
			mu.Unlock()
			go func() {
				time.Sleep(delay)
				task()
			}()
		}
	}
	return &model{fixture: newFixture(t, o), rand: r, keys: pick(2, 5, 40)}
}

// chance draws from a test's generator; the hub draws only under a lock of its own.
type chance struct{ r *rand.Rand }

func (c chance) Uint64() uint64 { return c.r.Uint64() }

func fork(r *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(r.Uint64(), r.Uint64())) }

func (m *model) run() {
	var wg sync.WaitGroup
	writer := fork(m.rand)
	wg.Go(func() { m.write(writer) })
	for range 1 + m.rand.IntN(6) {
		c := &modelClient{recorder: m.stream(), cancels: make(map[int64]int)}
		m.clients = append(m.clients, c)
		c.pause = pauses(fork(m.rand), m.rand.IntN(3))
		r := fork(m.rand)
		wg.Go(func() { m.act(c, r) })
	}
	wg.Wait()
	for _, c := range m.clients {
		c.setStall(false)
	}
	time.Sleep(20 * time.Second) // of the bubble: until the slowest has received all
	m.checkAll()
	for _, c := range m.clients {
		c.stream.Close()
	}
	m.hub.Close()
	if n := m.hub.Watchers() + m.hub.SlowWatchers() + m.hub.Streams() + m.hub.catchUps.streams + m.hub.index.len(); n != 0 {
		m.t.Errorf("something is left after all streams were closed: %d", n)
	}
	m.found.historyReads = m.store.reads
}

// pauses is how long a client of some kind takes over a response.
func pauses(r *rand.Rand, kind int) func() {
	return func() {
		switch kind {
		case 1:
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		case 2:
			if r.IntN(20) == 0 {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
}

// write makes hundreds of revisions, in publications of a few.
func (m *model) write(r *rand.Rand) {
	compactions := []int{8, 30, 1000}[r.IntN(3)]
	pace := []time.Duration{0, 100 * time.Microsecond, time.Millisecond}[r.IntN(3)]
	for range 100 + r.IntN(300) {
		events := m.store.commit(m.changes(r)...)
		for r.IntN(3) == 0 {
			events = append(events, m.store.commit(m.changes(r)...)...)
		}
		rev := m.store.Revision()
		if r.IntN(8) == 0 {
			time.Sleep(time.Millisecond) // visible, but not published to the hub yet
		}
		switch {
		case r.IntN(60) == 0:
			m.hub.Reset(rev) // as if these had come in a snapshot
		case r.IntN(30) == 0:
			m.hub.PublishLight(lighten(events), rev)
		default:
			m.hub.Publish(events, rev)
		}
		if r.IntN(compactions) == 0 {
			m.store.compact(rev - r.Int64N(20))
		}
		if pace > 0 || r.IntN(4) == 0 {
			time.Sleep(pace)
		}
	}
}

// lighten is events without previous pairs.
func lighten(events []mvcc.Event) []mvcc.Event {
	light := slices.Clone(events)
	for i := range light {
		light[i].Prev = nil
	}
	return light
}

func (m *model) changes(r *rand.Rand) (changes []change) {
	for range 1 + r.IntN(1+r.IntN(5)) {
		c := put(m.key(r), fmt.Sprintf("%0*d", 1+r.IntN(30), r.IntN(1000)))
		if r.IntN(4) == 0 {
			c.value = ""
		}
		changes = append(changes, c)
	}
	return changes
}

func (m *model) key(r *rand.Rand) string { return fmt.Sprintf("k%02d", r.IntN(m.keys)) }

// act is what a client does.
func (m *model) act(c *modelClient, r *rand.Rand) {
	for range 10 + r.IntN(60) {
		switch n := r.IntN(24); {
		case n < 7:
			request := m.request(r)
			c.requests = append(c.requests, request)
			c.stream.Create(request)
		case n < 12:
			id := int64(r.IntN(8))
			c.cancels[id]++
			c.stream.Cancel(id)
		case n < 18:
			c.stream.Progress()
		case n == 18 && r.IntN(3) == 0:
			c.setStall(true)
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			c.setStall(false)
		case n == 19 && r.IntN(20) == 0:
			c.closed = true
			c.stream.Close()
			return
		default:
			time.Sleep(time.Duration(r.IntN(8000)) * time.Microsecond)
		}
	}
}

func (m *model) request(r *rand.Rand) Request {
	q := Request{
		Key: []byte(m.key(r)), NoPut: r.IntN(6) == 0, NoDelete: r.IntN(6) == 0, PrevKV: r.IntN(2) == 0,
		ProgressNotify: r.IntN(3) == 0, Fragment: r.IntN(3) == 0,
	}
	switch r.IntN(4) {
	case 0:
		q.End = []byte{0}
	case 1:
		q.End = []byte(m.key(r)) // perhaps an empty range
	case 2:
		q.End = append(append([]byte(nil), q.Key...), '~')
	}
	current := m.store.Revision()
	switch r.IntN(6) {
	case 0, 1:
		q.Start = max(1, current-r.Int64N(40))
	case 2:
		q.Start = current + r.Int64N(30)
	case 3:
		q.Start = max(1, m.store.Compacted()+r.Int64N(3)-1)
	}
	if r.IntN(40) == 0 {
		q.Start = -1
	}
	if r.IntN(4) == 0 {
		q.WatchID = int64(r.IntN(8))
	}
	return q
}

func (m *model) checkAll() {
	for i, c := range m.clients {
		responses := c.take()
		check := &checker{
			all: m.store.all, floor: m.store.floor, creates: c.requests, cancels: maps.Clone(c.cancels), complete: !c.closed,
		}
		if err := check.check(responses); err != nil {
			m.t.Errorf("client %d: %v", i, err)
			for _, r := range responses {
				m.t.Log(r)
			}
			return
		}
		m.found.add(check.found)
	}
}
