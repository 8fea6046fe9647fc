package env

import "time"

// Clock tells the time and wakes those who wait for it.
//
// Wall time goes into commands (as a field, filled in by the proposer) and into logs. Everything that measures a
// duration uses Monotonic, which no clock step can move.
type Clock interface {
	// Now is the wall clock's time. It may jump in either direction.
	Now() time.Time
	// Monotonic is the time since an arbitrary fixed moment in this process. It never goes back.
	Monotonic() time.Duration
	// NewTicker delivers ticks every d (> 0) until stopped. A slow receiver misses ticks.
	NewTicker(d time.Duration) Ticker
	// NewTimer delivers one tick after d, unless stopped before.
	NewTimer(d time.Duration) Timer
}

// Ticker is a running ticker; see time.Ticker.
type Ticker interface {
	C() <-chan time.Time
	Stop()
}

// Timer is a running timer; see time.Timer.
type Timer interface {
	C() <-chan time.Time
	Stop() bool
	Reset(d time.Duration) bool
}

// SystemClock is the machine's clock.
func SystemClock() Clock { return systemClock{start: time.Now()} }

type systemClock struct{ start time.Time }

func (systemClock) Now() time.Time                   { return time.Now() }
func (c systemClock) Monotonic() time.Duration       { return time.Since(c.start) }
func (systemClock) NewTicker(d time.Duration) Ticker { return systemTicker{time.NewTicker(d)} }
func (systemClock) NewTimer(d time.Duration) Timer   { return systemTimer{time.NewTimer(d)} }

type systemTicker struct{ t *time.Ticker }

func (t systemTicker) C() <-chan time.Time { return t.t.C }
func (t systemTicker) Stop()               { t.t.Stop() }

type systemTimer struct{ t *time.Timer }

func (t systemTimer) C() <-chan time.Time        { return t.t.C }
func (t systemTimer) Stop() bool                 { return t.t.Stop() }
func (t systemTimer) Reset(d time.Duration) bool { return t.t.Reset(d) }
