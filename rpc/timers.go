package rpc

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// keepalive asks a silent client for a sign of life. pinged belongs to the timer.
type keepalive struct {
	lastHeard atomic.Int64  // when something was read, in nanoseconds since start
	timer     *time.Timer   // nil: nobody asks
	pinged    time.Duration // 0: no ping is unanswered
}

// started is where this process counts from, so that a clock that is set changes nothing.
var started = time.Now()

func sinceStart() time.Duration { return time.Since(started) }

// heard is called when something was read.
func (k *keepalive) heard() { k.lastHeard.Store(int64(sinceStart())) }

func (c *conn) startKeepalive() {
	k := &c.keepalive
	k.heard()
	if t := c.server.o.KeepaliveTime; t > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		k.timer = time.AfterFunc(t, c.askForLife)
	}
}

// askForLife is called by the timer, when the client may have been silent for too long.
func (c *conn) askForLife() {
	o, k := &c.server.o, &c.keepalive
	now, heard := sinceStart(), time.Duration(k.lastHeard.Load())
	c.mu.Lock()
	defer c.unlockAndWake()
	var next time.Duration
	switch {
	case c.closing:
		return
	case k.pinged > heard: // and nothing came since
		if next = k.pinged + o.KeepaliveTimeout - now; next <= 0 {
			c.net.Close()
			return
		}
	case now-heard < o.KeepaliveTime:
		next = heard + o.KeepaliveTime - now
	default:
		k.pinged = now
		c.out = appendPing(c.out, 0, make([]byte, 8))
		next = o.KeepaliveTimeout
	}
	k.timer.Reset(next)
}

// deadlines ends calls whose time is up. One timer serves all calls of a connection: mostly they end before it fires.
type deadlines struct {
	timer *time.Timer
	next  time.Time // when it fires; zero: it does not
}

// setDeadline gives a call its time. The lock must be held.
func (c *conn) setDeadline(s *stream, timeout time.Duration) {
	s.deadline = time.Now().Add(timeout)
	d := &c.deadlines
	if !d.next.IsZero() && !s.deadline.Before(d.next) {
		return
	}
	d.next = s.deadline
	if d.timer == nil {
		d.timer = time.AfterFunc(timeout, c.endOverdue)
	} else {
		d.timer.Reset(timeout)
	}
}

// endOverdue is called by the timer.
func (c *conn) endOverdue() {
	var overdue []*stream
	c.mu.Lock()
	d, now := &c.deadlines, time.Now()
	d.next = time.Time{}
	for _, s := range c.streams {
		switch {
		case s.deadline.IsZero() || s.ending:
		case !s.deadline.After(now):
			overdue = append(overdue, s)
		case d.next.IsZero() || s.deadline.Before(d.next):
			d.next = s.deadline
		}
	}
	if !d.next.IsZero() {
		d.timer.Reset(max(d.next.Sub(now), time.Millisecond)) // not once for every call
	}
	c.mu.Unlock()
	for _, s := range overdue {
		s.abort(http2.ErrCodeCancel, context.DeadlineExceeded)
	}
}

// Phases of a connection that is to end in order.
const (
	undrained  = iota
	announced  // the client was told to open no more streams, and may not know it yet
	determined // streams behind last are not taken
)

// drainTime is how long a client has to answer that it knows.
const drainTime = 5 * time.Second

// drainState is how far a connection has come on its way to its end.
type drainState struct {
	phase  int
	lastID uint32
	timer  *time.Timer
}

func (d *drainState) refuses(id uint32) bool { return d.phase == determined && id > d.lastID }

// last reports that the connection ends with its last stream.
func (d *drainState) last() bool { return d.phase == determined }

// drain tells the client to open no more streams, and ends the connection when those that it has opened have ended.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.unlockAndWake()
	if c.draining.phase != undrained {
		return
	}
	c.draining.phase = announced
	c.out = appendGoAway(c.out, math.MaxInt32, http2.ErrCodeNo, "graceful_stop")
	c.out = appendPing(c.out, 0, drainPing)
	c.draining.timer = time.AfterFunc(drainTime, func() {
		c.mu.Lock()
		defer c.unlockAndWake()
		c.drainFinally()
	})
}

// drainFinally is called when the client knows. The lock must be held.
func (c *conn) drainFinally() {
	d := &c.draining
	if d.phase != announced {
		return
	}
	d.phase, d.lastID = determined, c.lastID
	c.out = appendGoAway(c.out, d.lastID, http2.ErrCodeNo, "graceful_stop")
	if len(c.streams) == 0 {
		c.closing = true
	}
}

// stopTimers is called when the connection is closed.
func (c *conn) stopTimers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, t := range []*time.Timer{c.keepalive.timer, c.deadlines.timer, c.draining.timer} {
		if t != nil {
			t.Stop()
		}
	}
}
