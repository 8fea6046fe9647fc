package rpc

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/status"
)

// errEnded is the error of a connection that has ended in order.
var errEnded = errors.New("rpc: the connection has ended")

const (
	// outBytesMax is how much data is put into the output at once; more waits on its stream.
	outBytesMax = 64 << 10
	// outBytesHigh is the output above which nothing more is read: the client does not take its answers.
	outBytesHigh = 256 << 10
	// outBytesKept is the largest buffer that is used again.
	outBytesKept = outBytesMax + 32<<10
	// promptBytesMax is an output that is written by whoever has made it, if nobody else has something to add.
	promptBytesMax = 16 << 10
	// outBytesSmall is an output that is worth waiting a moment for more.
	outBytesSmall = 1 << 10
	// turnBytes is how much a stream may send before others with something to send have their turn.
	turnBytes = 16 << 10
)

// holdWriter lets the output gather; letWrite lets it go. In between, the writer only takes an output that is large.
func (c *conn) holdWriter() {
	c.mu.Lock()
	c.holding = true
	c.mu.Unlock()
}

func (c *conn) letWrite() {
	c.mu.Lock()
	c.holding = false
	c.unlockAndWrite()
}

// promptWriter is a connection that can be written to without waiting. What it does not take is left to the writer.
//
// Errors: errors.ErrUnsupported, every time, if it can't after all.
type promptWriter interface {
	WriteNow(b []byte) (n int, err error)
}

// unlockAndWrite is unlockAndWake for a goroutine that nobody waits for. It writes a small output itself, if the writer sleeps:
// to wake that costs more.
func (c *conn) unlockAndWrite() {
	if c.prompt == nil || !c.asleep || c.closing || !c.hasWork() || len(c.out) > promptBytesMax || c.canFill() {
		c.unlockAndWake()
		return
	}
	c.asleep = false // to the others it is as if the writer were at it
	b := c.takeOutput()
	c.mu.Unlock()
	n, err := c.prompt.WriteNow(b)
	c.mu.Lock()
	switch {
	case n == len(b):
		c.spare = b[:0]
	default: // if there was an error, the writer meets it too
		c.out = append(b[n:len(b):len(b)], c.out...)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		c.prompt = nil
	}
	c.asleep = true
	c.unlockAndWake()
}

// takeOutput takes what there is to write. The lock must be held.
func (c *conn) takeOutput() (b []byte) {
	b, c.out, c.spare = c.out, c.spare, nil
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
	return b
}

// unlockAndWake unlocks, and wakes the writer if there is something for it to do.
func (c *conn) unlockAndWake() {
	wake := c.asleep && c.hasWork()
	if wake {
		c.asleep = false
	}
	c.mu.Unlock()
	if wake {
		c.server.workers.run(task{f: c.writer})
	}
}

func (c *conn) hasWork() bool {
	if c.closing || len(c.out) >= outBytesMax {
		return true
	}
	return !c.holding && (len(c.out) > 0 || c.canFill())
}

func (c *conn) canFill() bool { return len(c.sending) > 0 && c.sendWindow > 0 }

// write is the writer: it writes what there is, and ends when there is nothing. A worker does it, so that a connection at rest costs
// no goroutine but the one that reads.
func (c *conn) write() {
	for {
		b, last := c.collect()
		if len(b) == 0 && !last {
			return
		}
		if len(b) > 0 {
			if _, err := c.net.Write(b); err != nil {
				c.net.Close()
				c.stopWriting(err)
				close(c.written)
				return
			}
		}
		if last {
			break
		}
		c.reuse(b)
	}
	defer close(c.written)
	// The reader ends soon, if the client does not end first.
	deadline := time.Now()
	if closer, ok := c.net.(interface{ CloseWrite() error }); ok && closer.CloseWrite() == nil {
		deadline = deadline.Add(lingerTime)
	}
	c.net.SetReadDeadline(deadline)
	c.stopWriting(errEnded)
}

// collect takes what there is to write; nothing: the writer is asleep. last says that nothing comes behind it.
func (c *conn) collect() (b []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	yielded := false
	for {
		c.fill()
		switch {
		case !c.hasWork():
			c.asleep = true
			return nil, false
		case len(c.out) < outBytesSmall && !yielded && !c.closing:
			// Others that are about to answer go first: their answers go into the same write.
			yielded = true
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
			continue
		}
		return c.takeOutput(), c.closing && !c.canFill()
	}
}

// reuse takes back a buffer that was written.
func (c *conn) reuse(b []byte) {
	if cap(b) > outBytesKept {
		return
	}
	c.mu.Lock()
	c.spare = b[:0]
	c.mu.Unlock()
}

// stopWriting lets go of everything that is not going to be written.
func (c *conn) stopWriting(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
	c.out, c.spare, c.sending = nil, nil, nil
	c.closing = true
}

// fill moves queued data into the output, a turn for each stream, as far as windows and room allow.
func (c *conn) fill() {
	for len(c.out) < outBytesMax && c.canFill() {
		s := c.sending[0]
		c.sending[0] = nil
		c.sending = c.sending[1:]
		s.out.listed = false
		if s.gone || s.out.queue.bytes == 0 {
			continue
		}
		n := min(int64(s.out.queue.bytes), s.out.window, c.sendWindow, int64(c.frameMax), turnBytes)
		c.consumeWindows(s, int(n))
		c.out = appendFrameHeader(c.out, int(n), http2.FrameData, 0, s.id)
		c.out = s.out.queue.appendTo(c.out, int(n))
		if s.out.queue.bytes < sendQueueMax {
			s.wakeSender()
		}
		if s.out.queue.bytes == 0 && s.ending {
			c.appendEnd(s)
			continue
		}
		c.enlist(s)
	}
}

func (c *conn) consumeWindows(s *stream, n int) {
	s.out.window -= int64(n)
	c.sendWindow -= int64(n)
	c.noise, c.spoke = 0, true
}

// enlist puts a stream that has something to send, and may, behind the others.
func (c *conn) enlist(s *stream) {
	if !s.out.listed && s.out.queue.bytes > 0 && s.out.window > 0 && !s.gone {
		s.out.listed = true
		c.sending = append(c.sending, s)
	}
}

// appendMessage sends a message, at once if everything has room, and takes over its buffers. The header is sent before.
func (c *conn) appendMessage(s *stream, o *outgoing) {
	total := prefixBytes + o.size
	if !c.fits(s, total) {
		s.out.queue.addBytes(o.appendPrefix(make([]byte, 0, prefixBytes)))
		s.out.queue.add(o)
		c.enlist(s)
		return
	}
	c.consumeWindows(s, total)
	c.out = appendFrameHeader(c.out, total, http2.FrameData, 0, s.id)
	c.out = o.appendTo(o.appendPrefix(c.out))
}

func (o *outgoing) appendPrefix(b []byte) []byte {
	return append(b, o.compressed, byte(o.size>>24), byte(o.size>>16), byte(o.size>>8), byte(o.size))
}

// fits reports whether data may go straight into the output.
func (c *conn) fits(s *stream, n int) bool {
	return s.out.queue.bytes == 0 && len(c.sending) == 0 && int64(n) <= min(s.out.window, c.sendWindow) &&
		n <= c.frameMax && len(c.out)+n <= outBytesMax
}

// appendHeader sends the header of an ordinary response, once. It reports false if the client does not take one so
// large; then the stream has been reset, and its context has to be cancelled.
func (c *conn) appendHeader(s *stream) bool {
	if s.out.headerSent {
		return true
	}
	s.out.headerSent, c.spoke = true, true
	r := s.request
	if len(s.out.header) == 0 && r.compressor == nil && r.contentSubtype == "" && c.listMax > 128 {
		start := len(c.out)
		c.out = appendFrameHeader(c.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders, s.id)
		c.out = c.response.header(c.out, contentTypeGRPC)
		c.out[start+2] = byte(len(c.out) - start - frameHeaderBytes)
		return true
	}
	fields := []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: r.contentType()}}
	if r.compressor != nil {
		fields = append(fields, hpack.HeaderField{Name: "grpc-encoding", Value: r.encoding})
	}
	return c.appendFields(s, metadataFields(fields, s.out.header, false), false)
}

// appendFields sends a block of any fields. It reports false as appendHeader does.
func (c *conn) appendFields(s *stream, fields []hpack.HeaderField, endStream bool) bool {
	if listBytes(fields) > c.listMax {
		c.resetLocked(s.id, http2.ErrCodeInternal)
		s.endLocked()
		return false
	}
	c.appendBlock(s.id, c.response.list(nil, fields), endStream)
	return true
}

func (c *conn) appendBlock(id uint32, block []byte, endStream bool) {
	c.spoke = true
	c.out = appendHeaderFrames(c.out, id, block, endStream, c.frameMax)
}

// appendEnd ends a response of which everything else is in the output, and with it the stream.
func (c *conn) appendEnd(s *stream) {
	switch {
	case !s.request.isGRPC:
		c.out = appendFrameHeader(c.out, 0, http2.FrameData, http2.FlagDataEndStream, s.id)
	case !c.appendTrailers(s):
		return
	}
	if !s.recvClosed {
		c.resetLocked(s.id, http2.ErrCodeNo)
	}
	s.in.free()
	c.forget(s)
}

func (c *conn) appendTrailers(s *stream) bool {
	o := &s.out
	if !o.headerSent && len(o.header) > 0 && !c.appendHeader(s) {
		return false
	}
	if o.headerSent && o.status == nil && len(o.trailer) == 0 && c.listMax > 128 {
		c.spoke = true
		start := len(c.out)
		c.out = appendFrameHeader(c.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, s.id)
		c.out = c.response.ok(c.out)
		c.out[start+2] = byte(len(c.out) - start - frameHeaderBytes)
		return true
	}
	var fields []hpack.HeaderField
	if !o.headerSent {
		fields = []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: s.request.contentType()}}
	}
	return c.appendFields(s, statusFields(fields, o.status, o.trailer), true)
}

// finish ends the response in order: with a status, if it is a call's. What is queued goes before. Nothing happens if
// the stream has ended already.
func (s *stream) finish(st *status.Status) {
	c := s.conn
	c.mu.Lock()
	if !s.ending {
		c.finishLocked(s, st)
	}
	c.unlockAndWake()
	s.cancellation.cancel(context.Canceled)
}

func (c *conn) finishLocked(s *stream, st *status.Status) {
	s.ending, s.out.status = true, st
	s.wakeReceiver()
	s.wakeSender()
	if s.out.queue.bytes == 0 {
		c.appendEnd(s)
	}
}
