package rpc

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stayCallsMax is how many calls may be under way on a connection whose reader stays.
	stayCallsMax = 32
	// stayPauseMax is how many times in a row a reader does not stay because something came when it did before.
	stayPauseMax = 64
	// stayCheck is the time between two looks at who stays. The second one that finds the same takes the connection from it.
	stayCheck = 20 * time.Millisecond
	// stayChecksIdle is how many looks in a row find that nobody has stayed, until there are no more.
	stayChecksIdle = 50
)

// Stay runs f, which first waits for something that is expected in a moment, as a quick disk, then calls waited, and then does
// what follows, up to the answers of so many calls. The goroutine that reads the connection does that by itself, which is faster than
// to wake another one, if nobody misses it there: all those calls can be the connection's own; there are few on it, the answers
// to all of which are deferred; no request came the last times while it waited; and no other connection's reader stays. If it takes
// longer than a moment, another goroutine goes on reading. Otherwise f is run as by Go.
//
// Only a function that was given to Soon may use it.
func (d *Deferred) Stay(calls int, f func(waited func())) {
	if c := d.s.conn; c.stay == nil && c.mayStay(calls) {
		c.stay = f
		return
	}
	d.Go(func() { f(nothing) })
}

func nothing() {}

// stayer is what belongs to a connection's reader that stays now and then.
type stayer struct {
	stay  func(waited func()) // what it is to stay for, once it has looked at everything; nil: nothing
	since atomic.Uint64       // odd: it stays; who makes an odd one even is the reader from then on
	look  peeker              // found when it is needed first; nil: it can't be told whether something has come
	cost  uint8               // how many times it does not stay if that is found bad again, halved
	pause uint8               // how many times it does not stay now

	ended chan struct{} // closed when the connection has ended, for a reader that was replaced; made by the guard before that
}

// peeker is a connection that knows whether there is something to read: true also if it can't be told.
type peeker interface {
	HasInput() bool
}

// mayStay decides whether the reader stays for so many calls.
func (c *conn) mayStay(calls int) bool {
	if c.pause > 0 {
		c.pause--
		return false
	}
	if c.look == nil {
		if c.look, _ = c.net.(peeker); c.look == nil {
			return false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.streams); n > stayCallsMax || n < calls {
		return false
	}
	for _, s := range c.streams {
		if s.deferrable == nil {
			return false
		}
	}
	return true
}

// staying does what the reader is to stay for, if there is something. It reports that another goroutine has taken its place meanwhile:
// nothing that is the reader's may be touched then.
func (c *conn) staying() (replaced bool) {
	if c.stay == nil || !c.server.stays.begin(c) {
		c.leave()
		return false
	}
	f := c.stay
	c.stay = nil
	mine, came := c.since.Add(1), false
	f(func() { came = c.look.HasInput() })
	replaced = !c.since.CompareAndSwap(mine, mine+1)
	c.server.stays.end()
	switch {
	case replaced:
	case came: // and has waited
		c.cost = min(max(2*c.cost, 1), stayPauseMax)
		c.pause = c.cost
	default:
		c.cost /= 2
	}
	return replaced
}

// leave has a worker do what the reader was to stay for.
func (c *conn) leave() {
	if f := c.stay; f != nil {
		c.stay = nil
		c.server.workers.run(task{f: func() { f(nothing) }})
	}
}

// replaceReader has another goroutine read, if the reader stays still as it did at since. Only the guard calls it.
func (c *conn) replaceReader(since uint64) {
	if c.ended == nil {
		c.ended = make(chan struct{})
	}
	if c.since.CompareAndSwap(since, since+1) {
		go c.readOn()
	}
}

// readOn reads in the place of a goroutine that stays too long.
func (c *conn) readOn() {
	if replaced, err := c.read(); !replaced {
		c.end(err)
		close(c.ended)
	}
}

// stays knows whose reader stays, of all connections of a server: one at most. While some do now and then, a guard looks that
// none stays too long.
type stays struct {
	now     atomic.Pointer[conn]
	count   atomic.Uint64
	guarded atomic.Bool
	every   time.Duration // between two looks

	mu     sync.Mutex
	closed bool
	stop   chan struct{} // closed with it
	guards sync.WaitGroup
}

func (s *stays) init() {
	s.every, s.stop = stayCheck, make(chan struct{})
}

// begin lets a reader stay, if none does.
func (s *stays) begin(c *conn) bool {
	if !s.now.CompareAndSwap(nil, c) {
		return false
	}
	s.count.Add(1)
	if !s.guarded.Load() && !s.startGuard() {
		s.end()
		return false
	}
	return true
}

func (s *stays) end() { s.now.Store(nil) }

// startGuard sees to it that there is a guard. It reports false if there are to be no more.
func (s *stays) startGuard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && s.guarded.CompareAndSwap(false, true) {
		s.guards.Go(s.guard)
	}
	return !s.closed
}

// guard looks who stays, until nobody has for a while.
func (s *stays) guard() {
	t := time.NewTicker(s.every)
	defer t.Stop()
	var (
		last  *conn
		since uint64
		count uint64
	)
	for idle := 0; idle < stayChecksIdle; idle++ {
		select {
		case <-t.C:
		case <-s.stop:
			s.guarded.Store(false)
			return
		}
		if n := s.count.Load(); n != count {
			count, idle = n, 0
		}
		c := s.now.Load()
		if c == nil {
			last = nil
			continue
		}
		idle = 0
		at := c.since.Load()
		if c == last && at == since && at%2 == 1 {
			c.replaceReader(at)
		}
		last, since = c, at
	}
	s.guarded.Store(false)
	if s.now.Load() != nil { // who began before that could be seen counts on a guard
		s.startGuard()
	}
}

// close ends the guard. Nobody stays any more.
func (s *stays) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	s.guards.Wait()
}
