package http1

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"keelson/internal/sched"
	"keelson/internal/socket"
)

// conn is a connection. See the package comment.
//
//	running ──► waits for input ──► rests ──► woken ──┐
//	   ▲  │                                           │
//	   │  └──► parked: rests with a poll ──► Finish   │
//	   └──────────────────────────────────────────────┘
//
// In any state it may be closed; running, it may be handed over.
type conn struct {
	s   *Server
	ctx context.Context // see Options.ConnContext
	net net.Conn
	raw syscall.RawConn // nil: it is read and written through net alone
	w   *work           // nil: there is no input. The running goroutine's

	// idle is the beat at which the wait for a request has begun; 0: it does not wait; atRest: it rests.
	idle atomic.Int64
	// due is when the request that has begun to come has to be complete; zero: none has. The running goroutine's.
	due time.Time

	closed  atomic.Bool
	resting uint64 // its name among those that rest; 0: none yet. Guarded by Server.resting

	mu    sync.Mutex
	poll  *Poll // that is waited for. Guarded by mu, as what follows
	input bool  // with poll: the next request has begun to come, so nobody waits for input
	ends  bool  // with poll: the connection ends with the answer

	// What follows is the running goroutine's.
	started   bool // the first bytes are read
	afterPost bool // an empty line may follow
	first     [1]byte
	reading   func(fd uintptr) bool // readRaw
	failed    error                 // what came of it
	mayAnswer bool                  // what reading yields may be answered within it
	within    bool                  // reading has something, and answers it
	fd        uintptr               // within: the socket
	answered  bool                  // a request has been
	ended     bool                  // within reading: the connection has to end
	writing   func(fd uintptr) bool // writeRaw; its goroutine is the one that answers
	output    []byte                // that it is to write
}

// atRest is conn.idle of a connection that rests.
const atRest = -1

// work is what a connection needs while something is to be done.
type work struct {
	x   Exchange
	in  []byte // in[at:] is not answered yet
	at  int
	out []byte // not sent yet
}

const (
	inBytes = 4 << 10  // the usual size of input
	outHigh = 64 << 10 // output that is sent before there is more
	keptMax = 16 << 10 // buffers larger than this are not kept
)

var works = sync.Pool{New: func() any { return &work{in: make([]byte, 0, inBytes), out: make([]byte, 0, inBytes)} }}

func (w *work) isEmpty() bool { return w.at == len(w.in) }

// room makes room for more input.
func (w *work) room() []byte {
	if w.at > 0 {
		w.in = w.in[:copy(w.in, w.in[w.at:])]
		w.at = 0
	}
	if len(w.in) == cap(w.in) {
		w.in = append(make([]byte, 0, 2*cap(w.in)), w.in...)
	}
	return w.in[len(w.in):cap(w.in)]
}

// hold gives the connection its work.
func (c *conn) hold() *work {
	if c.w == nil {
		c.w = works.Get().(*work)
		c.w.x.c = c
	}
	return c.w
}

// release takes it away again, with what is left of its input. No output may be left.
func (c *conn) release() {
	w := c.w
	c.w = nil
	if w == nil || cap(w.in) > keptMax || cap(w.out) > keptMax {
		return
	}
	w.x = Exchange{}
	w.in, w.at, w.out = w.in[:0], 0, w.out[:0]
	works.Put(w)
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, ctx: context.Background(), net: nc}
	if s.o.ConnContext != nil {
		c.ctx = s.o.ConnContext(c.ctx, nc)
	}
	if under, ok := nc.(syscall.Conn); ok && socket.CanReadNow {
		if raw, err := under.SyscallConn(); err == nil {
			c.raw, c.reading, c.writing = raw, c.readRaw, c.writeRaw
		}
	}
	return c
}

// woken goes on with a connection that rested.
func (c *conn) woken() {
	c.idle.CompareAndSwap(atRest, c.s.beat.Load())
	err := c.read()
	for errors.Is(err, os.ErrDeadlineExceeded) && (c.polls() || !c.s.isStopping()) { // it was meant for the wait before
		c.net.SetReadDeadline(time.Time{})
		err = c.read()
	}
	c.idle.Store(0)
	c.mu.Lock()
	p := c.poll
	switch {
	case p == nil:
		c.mu.Unlock()
		if err != nil {
			c.close()
			return
		}
		c.run()
	case err == nil:
		c.input = true // Finish goes on
		c.mu.Unlock()
	default:
		c.mu.Unlock()
		c.close()
	}
}

// run answers what has come and waits for more, until the connection ends, rests, or is not ours any more.
func (c *conn) run() {
	defer c.recover()
	for {
		switch c.answer() {
		case wantsInput:
			if c.wait() {
				continue
			}
		case wantsEnd:
			c.close()
		case isOdd:
			c.handOver()
		case isParked:
		}
		return
	}
}

// recover ends a connection whose handler has panicked.
func (c *conn) recover() {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		c.s.logf("http1: panic serving %v: %v\n%s", c.net.RemoteAddr(), p, debug.Stack())
	}
	c.close()
}

// outcome is why answering has stopped.
type outcome uint8

const (
	wantsInput outcome = iota
	wantsEnd
	isOdd     // the rest of the input is net/http's
	isParked  // somebody else goes on
	wantsTime // within reading: the handler may wait
)

// answer answers the requests that are complete. Unless it says wantsEnd, the output is sent.
func (c *conn) answer() outcome {
	if c.ended {
		return wantsEnd
	}
	for c.w != nil && !c.w.isEmpty() {
		w := c.w
		if c.afterPost && w.in[w.at] == '\r' { // RFC 9112, 2.2
			if len(w.in)-w.at < 2 {
				break
			}
			if w.in[w.at+1] == '\n' {
				w.at += 2
			}
			c.afterPost = false
			continue
		}
		c.afterPost = false
		v := parse(w.in[w.at:], &w.x.Request)
		r := &w.x.Request
		end := w.at + r.headLength + r.bodyLength
		switch {
		case v == odd:
			return c.flushed(isOdd)
		case v == incomplete || end > len(w.in):
			return c.flushed(wantsInput)
		}
		r.Body = w.in[w.at+r.headLength : end]
		if c.within && !c.s.o.Handler.AnswersAtOnce(r) {
			return c.flushed(wantsTime)
		}
		if c.s.isStopping() {
			r.close = true
		}
		if !c.s.o.Handler.ServeHTTP1(&w.x) {
			return c.flushed(isOdd)
		}
		w.at = end
		c.answered = true
		c.afterPost = r.Method == http.MethodPost
		if p := w.x.poll; p != nil {
			w.x.poll = nil
			if c.flush() != nil {
				return wantsEnd
			}
			if c.park(p) {
				return isParked
			}
		}
		if r.close {
			c.flush()
			return wantsEnd
		}
		if len(w.out) >= outHigh && c.flush() != nil {
			return wantsEnd
		}
	}
	return c.flushed(wantsInput)
}

// flushed sends the output, and says that the connection has to end if that can't be done.
func (c *conn) flushed(o outcome) outcome {
	if c.flush() != nil {
		return wantsEnd
	}
	return o
}

// wait waits for more input. False: the connection rests or is closed.
func (c *conn) wait() bool {
	begun := c.w != nil && !c.w.isEmpty()
	switch {
	case begun && c.due.IsZero():
		c.due = time.Now().Add(c.s.o.RequestTimeout)
		c.net.SetReadDeadline(c.due)
	case !begun && !c.due.IsZero():
		c.due = time.Time{}
		c.net.SetReadDeadline(time.Time{})
	}
	if !begun {
		c.release()
		c.idle.Store(c.s.beat.Load())
		c.mayAnswer = c.answered && c.s.resting.takes(c)
	}
	err := c.read()
	c.mayAnswer = false
	if !begun {
		c.idle.Store(0)
	}
	if err == nil {
		return true
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.s.isStopping() {
		c.close()
		return false
	}
	if begun {
		if time.Now().Before(c.due) { // it was meant for the wait before
			c.net.SetReadDeadline(c.due)
			return true
		}
		c.write([]byte(tooLate))
		c.close()
		return false
	}
	c.net.SetReadDeadline(time.Time{})
	c.rest()
	return false
}

// tooLate is the answer to a request that does not come to its end.
const tooLate = "HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n" +
	"Content-Length: 19\r\n\r\n408 Request Timeout"

// read adds what comes to the input. It holds a buffer only if there is something.
func (c *conn) read() error {
	switch {
	case !c.started: // who sorted connections has a few bytes, which only Read yields
		c.started = true
		return c.readNet()
	case c.raw != nil:
		c.failed = nil
		if err := c.raw.Read(c.reading); err != nil {
			return err
		}
		return c.failed
	case c.w == nil:
		if _, err := c.net.Read(c.first[:]); err != nil {
			return err
		}
		w := c.hold()
		w.in = append(w.in, c.first[0])
		return nil // the rest is waited for as long as a request may take
	}
	return c.readNet()
}

func (c *conn) readNet() error {
	w := c.hold()
	n, err := c.net.Read(w.room())
	w.in = w.in[:len(w.in)+n]
	if n > 0 {
		return nil
	}
	return err
}

// readRaw reads what there is. False: nothing yet.
func (c *conn) readRaw(fd uintptr) bool {
	w := c.hold()
	n, ready, err := socket.ReadNow(fd, w.room())
	if !ready {
		if w.isEmpty() {
			c.release()
		}
		return false
	}
	whole := n < len(w.in[len(w.in):cap(w.in)])
	w.in = w.in[:len(w.in)+n]
	c.failed = err
	return err != nil || !whole || !c.mayAnswer || !c.answerWithin(fd)
}

// answerWithin answers what reading has yielded before it goes on. Nothing more was there, and whoever waits for more is told by
// the next thing that comes: so it is not read again in vain. It reports false if something is left to do.
//
// The end of what the client sends, if that came at once with a request, is only seen when the beat has the connection rest. The first
// request of a connection, which may be its only one, is therefore not answered here.
func (c *conn) answerWithin(fd uintptr) bool {
	c.idle.Store(0)
	c.within, c.fd = true, fd
	o := c.answer()
	c.within = false
	c.ended = o == wantsEnd
	if o != wantsInput || !c.w.isEmpty() {
		return false
	}
	c.release()
	c.idle.Store(c.s.beat.Load())
	return true
}

// flush sends the output.
func (c *conn) flush() error {
	if c.w == nil || len(c.w.out) == 0 {
		return nil
	}
	err := c.write(c.w.out)
	c.w.out = c.w.out[:0]
	return err
}

// write sends bytes, and waits for a client that does not take them no longer than WriteTimeout.
func (c *conn) write(b []byte) error {
	switch {
	case c.within && c.closed.Load(): // by somebody who waits until the socket is let go of
		return net.ErrClosed
	case c.within:
		n, _ := socket.WriteNow(c.fd, b) // what is wrong is found by whoever sends the rest
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	case c.raw != nil:
		c.output = b
		err := c.writeOutput()
		b, c.output = c.output, nil
		if err != nil || len(b) == 0 {
			return err
		}
	}
	if err := c.net.SetWriteDeadline(time.Now().Add(c.s.o.WriteTimeout)); err != nil {
		return err
	}
	_, err := c.net.Write(b)
	c.net.SetWriteDeadline(time.Time{})
	return err
}

// writeOutput sends of the output what can be sent at once. If it is a piece of something large, others go first meanwhile, and
// afterwards those who write to other connections are heard: while nothing else happens, Go's scheduler looks for them each 10 ms only.
func (c *conn) writeOutput() error {
	if len(c.output) < outHigh {
		return c.raw.Write(c.writing)
	}
	batch := sched.Begin()
	err := c.raw.Write(c.writing)
	batch.End()
	runtime.Gosched()
	return err
}

// writeRaw sends what can be sent at once. What is wrong with the socket is found by whoever sends the rest.
func (c *conn) writeRaw(fd uintptr) bool {
	n, _ := socket.WriteNow(fd, c.output)
	c.output = c.output[n:]
	return true
}

// handOver gives the connection to net/http, with the input that is not answered.
func (c *conn) handOver() {
	rest := append([]byte(nil), c.w.in[c.w.at:]...)
	c.release()
	if c.closed.Swap(true) {
		return // by Close
	}
	c.s.forget(c)
	c.net.SetReadDeadline(time.Time{}) // nobody disturbs it any more
	c.s.handed.put(replay(c.net, rest))
}

// close ends the connection, and whatever is waited for on it.
func (c *conn) close() {
	if c.closed.Swap(true) {
		return
	}
	c.net.Close()
	c.mu.Lock()
	p := c.poll
	c.poll = nil
	c.mu.Unlock()
	c.s.forget(c)
	if p != nil {
		p.gone()
	}
}
