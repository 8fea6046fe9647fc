package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/internal/socket"
)

// outgoing is a stream to a peer that lasts: it is dialed, written to, and dialed again when it is lost. The package
// comment draws its states.
type outgoing struct {
	t     *Transport
	peer  *peer
	kind  kind
	queue *queue

	live atomic.Pointer[writer] // of the stream that is up

	retry  chan struct{} // capacity 1: an attempt may succeed now
	reason string        // why the last attempt failed, as it was logged; empty: it did not
}

// run keeps the stream until ctx ends.
func (s *outgoing) run(ctx context.Context) {
	failures := 0 // attempts in a row that failed, or were lost soon after
	var retry chan struct{}
	for ctx.Err() == nil {
		l, r, err := s.t.dial(ctx, s.peer, s.kind)
		if err != nil {
			s.failed(ctx, err)
			failures++
			retry = s.retry
		} else {
			began := s.t.o.Clock.Monotonic()
			s.accepted()
			err = s.serve(ctx, l, r)
			s.lost(ctx, err)
			failures++
			retry = nil // or two members could go round and round
			if s.t.o.Clock.Monotonic()-began > backoffMax {
				failures = 0
			}
		}
		if failures > 0 {
			s.t.pause(ctx, backoff(failures, s.t.o.Chance.Uint64()), retry)
		}
	}
	s.drop(true)
}

// backoff is the pause after a number of failures in a row: doubled each time, and up to half of it taken off by chance,
// so that members do not dial in step.
func backoff(failures int, chance uint64) time.Duration {
	d := min(backoffMin<<min(failures-1, 10), backoffMax)
	off, _ := bits.Mul64(chance, uint64(d/2))
	return d - time.Duration(off)
}

// accepted notes that the stream is up.
func (s *outgoing) accepted() {
	s.reason = ""
	s.queue.open()
	s.t.setUp(s.peer, s.kind, true)
}

// failed notes that an attempt to connect failed, and says so if the reason is news.
func (s *outgoing) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	reason := coreOf(err)
	if s.reason == "" {
		s.t.reports.unreachable(s.peer.id)
	}
	s.drop(true)
	if reason == s.reason {
		return
	}
	s.reason = reason
	what := "failed to connect to peer"
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		what = "peer refused a stream"
		if refused.Reason == reasonOtherCluster {
			what = "request sent was ignored by remote peer due to cluster ID mismatch"
		}
	}
	s.t.log.Warn(what, s.fields(zap.Error(err))...)
}

// coreOf is what an error says without what is different each time, such as our port.
func coreOf(err error) string {
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		return refused.Error()
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// lost notes that a stream that was up is not any more.
func (s *outgoing) lost(ctx context.Context, err error) {
	s.t.setUp(s.peer, s.kind, false)
	s.drop(false)
	if ctx.Err() != nil {
		return
	}
	s.t.reports.unreachable(s.peer.id)
	s.t.log.Warn("lost the stream to a peer", s.fields(zap.Error(err))...)
}

func (s *outgoing) drop(down bool) {
	s.peer.counters.sendFailures.Add(uint64(s.queue.reset(down)))
}

func (s *outgoing) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("remote-peer-id", idText(s.peer.id)), zap.Stringer("stream", s.kind)}, more...)
}

// serve writes what is queued until the stream or ctx ends.
func (s *outgoing) serve(ctx context.Context, l *line, r *bufio.Reader) (err error) {
	w := &writer{line: l, prompt: socket.NewPrompt(l.conn)}
	answers := make(chan error, 1)
	go func() { answers <- w.readAnswers(r, s) }()
	stop := context.AfterFunc(ctx, func() { closeNow(l.conn) })
	defer func() {
		stop()
		closeNow(l.conn)
		if answers != nil {
			<-answers
		}
	}()
	ticker := s.t.o.Clock.NewTicker(s.t.o.keepAlive())
	defer ticker.Stop()
	if err := w.ping(); err != nil {
		return err
	}
	if w.prompt != nil {
		s.live.Store(w)
		defer s.live.Store(nil)
	}
	s.queue.signal() // something may have come before
	for {
		select {
		case <-s.queue.wake:
			err = s.writeQueued(w)
		case <-ticker.C():
			err = w.ping()
		case err = <-answers:
			answers = nil
		}
		if err != nil {
			return err
		}
	}
}

// writeQueued empties the queue, as much as can be gathered at a time.
func (s *outgoing) writeQueued(w *writer) error {
	w.turn.Lock()
	defer w.turn.Unlock()
	if err := w.writeRest(); err != nil {
		return err
	}
	for {
		w.items = s.queue.take(w.items[:0], gatherBytesMax)
		if len(w.items) == 0 {
			return nil
		}
		if err := w.write(); err != nil {
			s.peer.counters.sendFailures.Add(uint64(len(w.items)))
			return err
		}
		s.peer.counters.sentMessages.Add(uint64(len(w.items)))
		clear(w.items)
	}
}

// promptBytesMax is up to how much is written by the one who sends it.
const promptBytesMax = 16 << 10

// send sees to it that what is queued is written: by the caller himself, if nobody is at it, it is little and the socket takes
// it at once, because waking the goroutine that writes costs more than that. It does not wait.
func (s *outgoing) send() {
	if w := s.live.Load(); w == nil || !w.turn.TryLock() {
		s.queue.signal()
	} else {
		done := s.sendPromptly(w)
		w.turn.Unlock()
		if !done {
			s.queue.signal()
		}
	}
}

// sendPromptly reports whether nothing is left to write.
func (s *outgoing) sendPromptly(w *writer) bool {
	if len(w.rest) > 0 {
		return false
	}
	var ok bool
	if w.items, ok = s.queue.takeAll(w.items[:0], promptBytesMax); !ok {
		return false
	}
	if len(w.items) == 0 {
		return true
	}
	s.peer.counters.sentMessages.Add(uint64(len(w.items)))
	w.gather(promptBytesMax)
	b := w.heads
	clear(w.items)
	clear(w.parts)
	n, err := w.line.writeNow(w.prompt, b)
	if n < len(b) || err != nil {
		w.rest = append(w.rest, b[n:]...) // the writer meets the error
		return false
	}
	return true
}

// writer turns messages into frames on one connection. What is not marked otherwise is guarded by turn.
type writer struct {
	line   *line
	prompt *socket.Prompt // nil: it can't be written to without waiting
	turn   sync.Mutex
	rest   []byte // what the socket did not take of a prompt write
	items  []item

	heads   []byte      // frames without the parts of tails that are sent from where they lie
	parts   net.Buffers // the frames in order
	writing net.Buffers // parts, as writing consumes them

	asked atomic.Uint64 // monotonic time of the newest ping
}

// write sends the items.
func (w *writer) write() error {
	w.gather(ownPartTailMin)
	w.writing = w.parts
	err := w.line.writeParts(&w.writing)
	clear(w.parts)
	if cap(w.heads) > scratchBytesMax {
		w.heads = nil
	}
	return err
}

// gather makes frames of the items. Tails of ownPart bytes and more become parts of their own.
func (w *writer) gather(ownPart int) {
	w.heads, w.parts = w.heads[:0], w.parts[:0]
	from := 0 // what of heads is not among parts yet
	for _, it := range w.items {
		at := len(w.heads)
		w.heads = appendHead(beginFrame(w.heads), it.m)
		if it.block == nil {
			endFrame(w.heads, at, frameMessage, 0, 0)
			continue
		}
		it.block.encode()
		endFrame(w.heads, at, frameMessage, it.block.bytes, it.block.crc)
		if it.block.bytes < ownPart {
			for _, part := range it.block.parts {
				w.heads = append(w.heads, part...)
			}
			continue
		}
		w.parts = append(w.parts, w.heads[from:len(w.heads):len(w.heads)])
		w.parts = append(w.parts, it.block.parts...)
		from = len(w.heads)
	}
	if from < len(w.heads) {
		w.parts = append(w.parts, w.heads[from:])
	}
}

// writeRest writes what a prompt write has left. The turn must be held.
func (w *writer) writeRest() error {
	if len(w.rest) == 0 {
		return nil
	}
	_, err := w.line.Write(w.rest)
	w.rest = w.rest[:0]
	return err
}

// ping asks the other side for a sign of life.
func (w *writer) ping() error {
	w.turn.Lock()
	defer w.turn.Unlock()
	if err := w.writeRest(); err != nil {
		return err
	}
	now := max(uint64(w.line.clock.Monotonic()), 1)
	w.asked.Store(now)
	_, err := w.line.Write(appendPing(w.heads[:0], framePing, now))
	return err
}

// readAnswers reads what the accepting side says until the connection ends.
func (w *writer) readAnswers(r *bufio.Reader, s *outgoing) error {
	frames := frameReader{r: r, headBytesMax: pingHeadBytes}
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		if f.typ != framePong {
			return fmt.Errorf("%w: type %d in an answer", errMalformed, f.typ)
		}
		// Behind a queue of entries an answer says more about the queue than about the way.
		asked := w.asked.Load()
		if s.kind != kindControl || asked == 0 || binary.LittleEndian.Uint64(f.head) != asked {
			continue
		}
		if d := w.line.clock.Monotonic() - time.Duration(asked); w.asked.CompareAndSwap(asked, 0) {
			s.peer.counters.roundTrip.Store(int64(d))
			s.t.o.RoundTrip(s.peer.id, d)
		}
	}
}
