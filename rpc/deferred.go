package rpc

import (
	"context"
	"sync/atomic"
)

// Deferred is the answer to a unary call that somebody else is going to give: the handler returns it instead of a reply,
// and the goroutine that ran the handler, which is the one that reads the connection, is free at once.
//
//	handler: d := Defer(ctx) ─► hand it on ─► return d, nil ─► interceptors: d.Then ─┐
//	                                 └─► whoever has the outcome: d.Complete ────────┴─► answered, once
//
// The two may come in either order. If the call ends before, by its client or its deadline, it completes with what OnEnd
// makes of that, so that interceptors learn of every call what became of it.
type Deferred struct {
	s     *stream
	onEnd func(cause error) error

	taken atomic.Bool  // the outcome is decided
	steps atomic.Int32 // handler returned, outcome there; whoever makes the second step answers

	hooks []func(error)  // in the order in which they are called
	few   [4]func(error) // their room, as long as there are no more
	reply any
	err   error
}

type deferKey struct{}

// Defer returns the deferred answer of the call that ctx belongs to, or nil if the call's handler has to give its answer
// itself: then it runs on a goroutine of its own and may wait.
func Defer(ctx context.Context) *Deferred {
	d, _ := ctx.Value(deferKey{}).(*Deferred)
	return d
}

// Undeferred returns a context for a call whose answer is deferred, to carry it out on a goroutine that may wait.
func Undeferred(ctx context.Context) context.Context {
	return context.WithValue(ctx, deferKey{}, (*Deferred)(nil))
}

// OnEnd sets what a call completes with that is given up by its client (context.Canceled) or out of time
// (context.DeadlineExceeded). It comes before the handler returns.
func (d *Deferred) OnEnd(f func(cause error) error) {
	d.onEnd = f
	c := &d.s.cancellation
	c.mu.Lock()
	err := c.err
	if err == nil {
		c.deferred = d
	}
	c.mu.Unlock()
	if err != nil {
		d.end(err)
	}
}

// end is called when the call's context has ended, also because the call was answered.
func (d *Deferred) end(cause error) {
	if !d.taken.Load() {
		d.Complete(nil, d.onEnd(cause))
	}
}

// Then has f called with the error of the outcome, before it is sent. Interceptors call it before they return.
func (d *Deferred) Then(f func(error)) {
	if d.hooks == nil {
		d.hooks = d.few[:0]
	}
	d.hooks = append(d.hooks, f)
}

// Soon runs f on the goroutine that reads the connection, before it waits for more and before what it holds back is sent. f must not
// wait for anything long. Only the handler may use it, before it returns.
func (d *Deferred) Soon(f func()) { d.s.conn.soon = append(d.s.conn.soon, f) }

// Go runs f on another goroutine, a worker.
func (d *Deferred) Go(f func()) { d.s.conn.server.workers.run(task{f: f}) }

// Complete gives the answer: a message, or an error for the status. The first time counts, of others it returns false. It
// never waits, and may be called from any goroutine.
func (d *Deferred) Complete(reply any, err error) (taken bool) { return d.complete(reply, err, false) }

// CompleteAndWrite is Complete for a goroutine that nobody waits for: if no other call of the connection is under way, it
// writes the answer itself rather than wake another one for that.
func (d *Deferred) CompleteAndWrite(reply any, err error) (taken bool) {
	return d.complete(reply, err, true)
}

func (d *Deferred) complete(reply any, err error, prompt bool) (taken bool) {
	if !d.taken.CompareAndSwap(false, true) {
		return false
	}
	d.reply, d.err = reply, err
	if d.steps.Add(1) == 2 {
		d.answer(prompt)
	}
	return true
}

// returned is called when handler and interceptors have returned.
func (d *Deferred) returned() {
	if d.steps.Add(1) == 2 {
		d.answer(true)
	}
}

func (d *Deferred) answer(prompt bool) {
	for _, f := range d.hooks {
		f(d.err)
	}
	d.s.answer(d.reply, d.err, prompt)
	d.s.ended()
}

// deferredBytesMax is the largest request that is decoded on the goroutine that reads.
const deferredBytesMax = 64 << 10

// mayDefer decides whether a call that can be deferred is. The whole request is there.
func (s *stream) mayDefer() bool {
	o, m := &s.conn.server.o, s.request.method
	return m.deferred && s.in.received <= deferredBytesMax && s.request.compressor == nil && (o.MayDefer == nil || o.MayDefer())
}
