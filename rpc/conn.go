package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// noiseMax is how many frames in a row may serve nothing: no request, no data, no answer to what was sent.
	noiseMax = 10_000
	// orphansMax is how many handlers may still run whose streams the client has reset, before nothing more is read.
	orphansMax = 4096
	// faultsMax is how many of its streams a client may have ended by faults of its own.
	faultsMax = 1000
	// lingerTime is how long a connection that is closed is still read from, so that what was written last arrives.
	lingerTime = time.Second
	// resetsRemembered are the streams whose frames are ignored, because the client may not know yet that they are reset.
	resetsRemembered = 256
)

// conn is one connection: the goroutine that reads it, which starts the handlers, and the goroutine that writes it.
//
// Handlers put what they have to say behind out, under mu; the writer takes all of it at once. What does not fit, because
// the client's windows or out itself are full, is queued on its stream, and the writer takes from the streams in turn.
type conn struct {
	server *Server
	base   context.Context // see Options.ConnContext; nil: there is none
	net    net.Conn
	peer   *peer.Peer
	ready  bool // the handshake is done; guarded by Server.mu

	callsOnly bool // the fallback is not asked; set before it is served

	// Of the goroutine that reads.
	in        input
	blocks    *headerBlocks
	block     []byte // of the header block that is coming in
	blockID   uint32 // its stream; 0: none is coming in
	blockEnds bool   // with END_STREAM
	fragments int
	soon      []func() // see Deferred.Soon
	stayer

	keepalive keepalive

	mu          sync.Mutex
	streams     map[uint32]*stream
	lastID      uint32 // the highest that a client has opened
	resets      [resetsRemembered]uint32
	nextOld     int // of resets
	noise       int // frames in a row that served nothing
	faults      int
	lastPing    time.Time
	pingStrikes int
	spoke       bool          // since the last ping
	orphans     int           // handlers of streams that are gone by the client's doing
	calm        chan struct{} // not nil: the reader waits for fewer orphans

	window  int // what the client may send
	unread  int
	granted int
	waiting []*stream // for grants, in order

	out        []byte
	spare      []byte // what the writer wrote before, to be used again
	response   responseBlocks
	sendWindow int64
	windowInit int64 // of new streams
	frameMax   int   // of what the client takes
	listMax    int64 // bytes of a header list that the client takes
	sending    []*stream

	prompt  promptWriter  // nil: only the writer writes
	holding bool          // the reader will wake the writer
	asleep  bool          // nobody writes
	drained chan struct{} // not nil: the reader waits for out to be taken

	draining  drainState
	deadlines deadlines
	closing   bool          // the writer writes what is there, and ends
	broken    error         // the connection does not work any more
	writer    func()        // write
	written   chan struct{} // closed when nothing is written any more
}

func newConn(s *Server, nc net.Conn) *conn {
	prompt, _ := nc.(promptWriter)
	var base context.Context
	if s.o.ConnContext != nil {
		base = s.o.ConnContext(context.Background(), nc)
	}
	c := &conn{
		server: s, base: base, net: nc, prompt: prompt, blocks: newHeaderBlocks(s.o.HeaderBytesMax, s.methods.find, s.o.HeaderField),
		streams: map[uint32]*stream{}, window: connWindowBytes,
		sendWindow: windowBytes, windowInit: windowBytes, frameMax: frameBytesMax, listMax: 1 << 62,
		written: make(chan struct{}),
	}
	c.writer = c.write
	c.in.init(nc)
	return c
}

// serve does everything from the handshake to the end. It returns when nothing of the connection is left but handlers.
func (c *conn) serve() {
	if err := c.handshake(); err != nil || !c.server.ready(c) {
		c.net.Close()
		c.server.forget(c)
		return
	}
	c.startKeepalive()
	c.mu.Lock()
	c.asleep = true
	c.unlockAndWake()
	if replaced, err := c.read(); !replaced {
		c.end(err)
		return
	}
	<-c.ended
}

// end does what there is to do when nothing more is read.
func (c *conn) end(err error) {
	c.fail(err)
	c.endStreams() // first of all: handlers, and those who count them, should not wait until the rest is written
	c.linger(err)
	c.net.Close()
	c.stopTimers()
	c.server.forget(c)
}

// settings are what the client is told first.
func (c *conn) settings() []http2.Setting {
	o := &c.server.o
	list := []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: uint32(o.HeaderBytesMax)}}
	if o.StreamsMax < 1<<32-1 {
		list = append(list, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: o.StreamsMax})
	}
	return list
}

// handshake makes TLS if there is any, and exchanges the prefaces, all within one timeout.
func (c *conn) handshake() error {
	if err := c.net.SetDeadline(time.Now().Add(c.server.o.HandshakeTimeout)); err != nil {
		return err
	}
	var err error
	if c.peer, err = handshakePeer(c.net); err != nil {
		return err
	}
	limitUnacknowledged(c.net, &c.server.o)
	hello := appendSettings(nil, c.settings())
	hello = appendWindowUpdate(hello, 0, connWindowBytes-windowBytes)
	if _, err := c.net.Write(hello); err != nil {
		return err
	}
	if err := c.in.full(len(http2.ClientPreface)); err != nil {
		return err
	}
	if got := c.in.take(len(http2.ClientPreface)); string(got) != http2.ClientPreface {
		return fmt.Errorf("rpc: no preface but %q", got)
	}
	f, err := c.in.next()
	if err == nil && (f.kind != http2.FrameSettings || f.flags.Has(http2.FlagSettingsAck)) {
		err = violation(http2.ErrCodeProtocol, "the first frame is %v", f.kind)
	}
	if err == nil {
		err = c.onSettings(&f)
	}
	if violated := new(connError); errors.As(err, &violated) {
		c.net.Write(appendGoAway(nil, 0, violated.code, violated.reason))
	}
	if err != nil {
		return err
	}
	return c.net.SetDeadline(time.Time{})
}

// read takes frames until the connection ends, or until another goroutine does that in its place. Between two reads it holds the
// writer back: the answers to everything that came together leave together.
func (c *conn) read() (replaced bool, err error) {
	for {
		if !c.in.hasFrame() {
			c.runSoon()
			if c.staying() {
				return true, nil
			}
			if err := c.hear(); err != nil {
				return false, err
			}
		}
		if err := c.handleNext(); err != nil {
			c.runSoon() // others may wait for it
			c.leave()
			return false, err
		}
	}
}

// hear waits for a frame.
func (c *conn) hear() error {
	c.letWrite()
	if err := c.waitForCalm(); err != nil {
		return err
	}
	for !c.in.hasFrame() {
		if err := c.in.tooLong(); err != nil {
			return err
		}
		if err := c.in.read(); err != nil {
			return err
		}
		c.keepalive.heard()
	}
	c.holdWriter()
	return nil
}

// handleNext does what the next frame asks for.
func (c *conn) handleNext() error {
	f, err := c.in.next()
	if err == nil {
		err = c.handle(&f)
	}
	if fault := asStreamError(err); fault != nil {
		return c.fault(fault)
	}
	return err
}

// runSoon runs what was put off until everything that has come is looked at.
func (c *conn) runSoon() {
	for _, f := range c.soon {
		f()
	}
	clear(c.soon)
	c.soon = c.soon[:0]
}

// handle does what a frame asks for.
func (c *conn) handle(f *frame) error {
	if c.blockID != 0 && (f.kind != http2.FrameContinuation || f.stream != c.blockID) {
		return violation(http2.ErrCodeProtocol, "%v within a header block", f.kind)
	}
	switch f.kind {
	case http2.FrameData:
		return c.onData(f)
	case http2.FrameHeaders:
		return c.onHeaders(f)
	case http2.FrameContinuation:
		return c.onContinuation(f)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(f)
	case http2.FrameRSTStream:
		return c.onReset(f)
	case http2.FrameSettings:
		return c.onSettings(f)
	case http2.FramePing:
		return c.onPing(f)
	case http2.FramePriority:
		return c.onPriority(f)
	case http2.FrameGoAway:
		return c.onGoAway(f)
	case http2.FramePushPromise:
		return violation(http2.ErrCodeProtocol, "a client can't push")
	}
	return c.makeNoise() // of types that are not known nothing is wanted. RFC 9113, 5.5
}

// makeNoise counts a frame that serves nothing.
func (c *conn) makeNoise() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.noiseLocked()
}

func (c *conn) noiseLocked() error {
	c.noise++
	if c.noise > noiseMax {
		return violation(http2.ErrCodeEnhanceYourCalm, "too many frames that serve nothing")
	}
	return nil
}

// fault ends a stream by whose frame the client has broken the protocol.
func (c *conn) fault(e *streamError) error {
	c.mu.Lock()
	c.faults++
	if c.faults > faultsMax {
		c.mu.Unlock()
		return violation(http2.ErrCodeEnhanceYourCalm, "too many faulty streams")
	}
	c.resetLocked(e.stream, e.code)
	s := c.streams[e.stream]
	if s != nil {
		s.endLocked()
	}
	c.unlockAndWake()
	if s != nil {
		s.cancellation.cancel(context.Canceled)
	}
	return nil
}

// resetLocked tells the client that a stream is over, and remembers that frames for it may still come.
func (c *conn) resetLocked(id uint32, code http2.ErrCode) {
	c.out = appendReset(c.out, id, code)
	c.expectStrays(id)
}

func (c *conn) expectStrays(id uint32) {
	c.resets[c.nextOld] = id
	c.nextOld = (c.nextOld + 1) % resetsRemembered
}

// strayFrame judges a frame for a stream that is not there. RFC 9113, 5.1.
func (c *conn) strayFrame(f *frame) error {
	if f.stream > c.lastID || f.stream%2 == 0 {
		return violation(http2.ErrCodeProtocol, "%v for a stream that was not opened", f.kind)
	}
	for _, id := range c.resets {
		if id == f.stream {
			return c.noiseLocked()
		}
	}
	return &streamError{f.stream, http2.ErrCodeStreamClosed, "the stream is closed"}
}

func (c *conn) onData(f *frame) error {
	if f.stream == 0 {
		return violation(http2.ErrCodeProtocol, "data without a stream")
	}
	c.mu.Lock()
	if err := c.noiseIfEmpty(f); err != nil {
		c.mu.Unlock()
		return err
	}
	s, err := c.receive(f)
	c.mu.Unlock()
	if s != nil {
		c.start(s)
	}
	return err
}

func (c *conn) noiseIfEmpty(f *frame) error {
	if len(f.payload) > 0 || f.flags.Has(http2.FlagDataEndStream) {
		return nil
	}
	return c.noiseLocked()
}

func (c *conn) onHeaders(f *frame) error {
	if f.stream%2 == 0 {
		return violation(http2.ErrCodeProtocol, "headers for stream %d", f.stream)
	}
	fragment, err := f.headerFragment()
	if fault := asStreamError(err); fault != nil {
		// The block counts for the table all the same.
		if !f.flags.Has(http2.FlagHeadersEndHeaders) {
			return violation(fault.code, "%s", fault.reason)
		}
		if err := c.blocks.skip(fragment); err != nil {
			return err
		}
		c.mu.Lock()
		c.lastID = max(c.lastID, f.stream)
		c.mu.Unlock()
		return fault
	}
	if err != nil {
		return err
	}
	ends := f.flags.Has(http2.FlagHeadersEndStream)
	if f.flags.Has(http2.FlagHeadersEndHeaders) {
		return c.onBlock(f.stream, fragment, ends)
	}
	c.block = append(c.block[:0], fragment...)
	c.blockID, c.blockEnds, c.fragments = f.stream, ends, 1
	return nil
}

func (c *conn) onContinuation(f *frame) error {
	if c.blockID == 0 {
		return violation(http2.ErrCodeProtocol, "a continuation of nothing")
	}
	c.fragments++
	if c.fragments > fragmentsMax || len(c.block)+len(f.payload) > c.server.o.HeaderBytesMax {
		return violation(http2.ErrCodeEnhanceYourCalm, "a header block that does not end")
	}
	c.block = append(c.block, f.payload...)
	if !f.flags.Has(http2.FlagContinuationEndHeaders) {
		return nil
	}
	id := c.blockID
	c.blockID = 0
	return c.onBlock(id, c.block, c.blockEnds)
}

// onBlock takes a complete header block.
func (c *conn) onBlock(id uint32, block []byte, ends bool) error {
	c.mu.Lock()
	s, lastID := c.streams[id], c.lastID
	c.mu.Unlock()
	switch {
	case s != nil:
		return c.onTrailers(s, block, ends)
	case id <= lastID:
		if err := c.blocks.skip(block); err != nil {
			return err
		}
		return c.strayHeaders(id)
	}
	r, t, err := c.blocks.request(block)
	if err != nil {
		return err
	}
	return c.open(id, r, t, ends)
}

// strayHeaders judges headers for a stream that was there before.
func (c *conn) strayHeaders(id uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.strayFrame(&frame{kind: http2.FrameHeaders, stream: id})
	if asStreamError(err) != nil {
		return violation(http2.ErrCodeStreamClosed, "headers for a stream that is closed")
	}
	return err
}

// onTrailers ends a request with a second block.
func (c *conn) onTrailers(s *stream, block []byte, ends bool) error {
	ok, err := c.blocks.trailers(block)
	if err != nil {
		return err
	}
	c.mu.Lock()
	switch {
	case s.recvClosed:
		err = &streamError{s.id, http2.ErrCodeStreamClosed, "headers behind the end"}
	case !ends || !ok:
		err = &streamError{s.id, http2.ErrCodeProtocol, "malformed trailers"}
	case s.request.contentLength >= 0 && s.in.received < s.request.contentLength:
		err = &streamError{s.id, http2.ErrCodeProtocol, "not as long as content-length says"}
	}
	if err != nil || s.gone {
		c.mu.Unlock()
		return err
	}
	s.recvClosed = true
	s.in.close()
	s.wakeReceiver()
	start := s.isUnary() && s.begin()
	c.mu.Unlock()
	if start {
		c.start(s)
	}
	return nil
}

// open begins a stream.
func (c *conn) open(id uint32, r *request, t timeout, ends bool) error {
	c.mu.Lock()
	c.lastID = id
	switch {
	case c.draining.refuses(id):
		c.expectStrays(id)
		c.mu.Unlock()
		return nil // the client knows, and asks elsewhere. RFC 9113, 6.8
	case r.malformed != "":
		c.mu.Unlock()
		return r.reset(id)
	case uint32(len(c.streams)) >= c.server.o.StreamsMax:
		c.resetLocked(id, http2.ErrCodeRefusedStream)
		err := c.noiseLocked()
		c.unlockAndWake()
		return err
	}
	c.noise = 0
	if refused := c.refusal(r, t); refused != nil {
		c.refuse(id, r, refused, ends)
		c.unlockAndWake()
		return nil
	}
	s := &stream{id: id, conn: c, request: r}
	s.in.window, s.out.window = windowBytes, c.windowInit
	c.streams[id] = s
	if t.set {
		c.setDeadline(s, t.duration)
	}
	if ends {
		s.recvClosed = true
		s.in.close()
		if r.contentLength > 0 {
			c.mu.Unlock()
			return &streamError{id, http2.ErrCodeProtocol, "not as long as content-length says"}
		}
	}
	start := (!s.isUnary() || ends) && s.begin()
	c.mu.Unlock()
	if start {
		c.start(s)
	}
	return nil
}

// refusal is the answer to what needs no handler; nil if it needs one.
func (c *conn) refusal(r *request, t timeout) *refusal {
	switch {
	case !r.isGRPC && c.server.o.Fallback != nil && !c.callsOnly && r != tooLargeRequest:
		return nil
	case r.refusal != nil:
		return r.refusal
	case t.set && t.duration <= 0:
		return &refusal{http.StatusOK, status.FromContextError(context.DeadlineExceeded)}
	case r.method == nil:
		return &refusal{http.StatusOK, c.server.methods.unknown(r.path)}
	case r.encoding != "" && r.compressor == nil:
		return unknownEncoding(r.encoding)
	}
	return nil
}

// refuse answers with nothing but headers.
func (c *conn) refuse(id uint32, r *request, why *refusal, ends bool) {
	fields := []hpack.HeaderField{
		{Name: ":status", Value: strconv.Itoa(why.httpStatus)},
		{Name: "content-type", Value: r.contentType()},
	}
	if r.encoding != "" && r.compressor == nil {
		fields = append(fields, hpack.HeaderField{Name: "grpc-accept-encoding", Value: acceptedEncodings()})
	}
	fields = statusFields(fields, why.status, nil)
	if listBytes(fields) > c.listMax {
		c.resetLocked(id, http2.ErrCodeInternal)
		return
	}
	c.appendBlock(id, c.response.list(nil, fields), true)
	if !ends {
		c.resetLocked(id, http2.ErrCodeNo)
	}
}

// begin reports that the handler has to be started, once. The lock must be held.
func (s *stream) begin() bool {
	if s.started {
		return false
	}
	s.started = true
	s.conn.server.handlers.Add(1)
	return true
}

// start runs the handler of a stream. No lock may be held.
func (c *conn) start(s *stream) {
	switch m := s.request.method; {
	case m != nil && m.inline:
		s.run()
	case m != nil && s.mayDefer():
		s.deferrable = &s.deferred
		s.deferred.s = s
		s.run()
	default:
		c.server.workers.run(task{s: s})
	}
}

// isUnary tells the calls whose handler begins when the whole request is there.
func (s *stream) isUnary() bool { return s.request.isGRPC && s.request.method.unary != nil }

// forget takes a stream out. The lock must be held.
func (c *conn) forget(s *stream) {
	if s.gone {
		return
	}
	s.gone = true
	delete(c.streams, s.id)
	c.unread -= s.in.unread
	s.in.unread = 0
	c.ungrant(s)
	if len(c.streams) == 0 && c.draining.last() {
		c.closing = true
	}
}

func (c *conn) onReset(f *frame) error {
	switch {
	case f.stream == 0:
		return violation(http2.ErrCodeProtocol, "a reset without a stream")
	case len(f.payload) != 4:
		return violation(http2.ErrCodeFrameSize, "a reset of %d bytes", len(f.payload))
	}
	c.mu.Lock()
	s := c.streams[f.stream]
	if s == nil {
		defer c.mu.Unlock()
		if f.stream > c.lastID {
			return violation(http2.ErrCodeProtocol, "a reset of a stream that was not opened")
		}
		return c.noiseLocked()
	}
	if s.started && !s.handled {
		s.orphan = true
		c.orphans++
	}
	c.expectStrays(s.id)
	s.endLocked()
	c.unlockAndWake()
	s.cancellation.cancel(context.Canceled)
	return nil
}

// handlerEnded is called when a handler has returned.
func (c *conn) handlerEnded(s *stream) {
	c.mu.Lock()
	s.handled = true
	if s.orphan {
		c.orphans--
		if c.calm != nil && c.orphans < orphansMax {
			close(c.calm)
			c.calm = nil
		}
	}
	c.mu.Unlock()
}

// waitForCalm holds the reader back while the client leaves too much behind: handlers of calls that it has given up, and
// answers that it does not take.
func (c *conn) waitForCalm() error {
	c.mu.Lock()
	var wait chan struct{}
	switch {
	case c.broken != nil:
		err := c.broken
		c.mu.Unlock()
		return err
	case c.orphans >= orphansMax:
		c.calm = make(chan struct{})
		wait = c.calm
	case len(c.out) >= outBytesHigh:
		c.drained = make(chan struct{})
		wait = c.drained
	}
	c.mu.Unlock()
	if wait == nil {
		return nil
	}
	select {
	case <-wait:
		return nil
	case <-c.written:
		return net.ErrClosed
	}
}

// fail ends the connection: the client is told why if it has broken the protocol, and everything that is ready is sent.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if violated := new(connError); errors.As(err, &violated) {
		c.out = appendGoAway(c.out, c.lastID, violated.code, violated.reason)
	}
	if c.broken == nil {
		c.broken = err
	}
	c.closing, c.holding = true, false
	c.unlockAndWake()
	c.net.SetWriteDeadline(time.Now().Add(lingerTime))
}

// linger reads on for a moment after a violation: closing a connection with unread bytes would make the last ones written
// get lost. The writer has limited the time.
func (c *conn) linger(err error) {
	<-c.written
	if violated := new(connError); errors.As(err, &violated) {
		io.CopyN(io.Discard, c.net, 1<<20)
	}
}

// endStreams ends what is left when the connection is closed.
func (c *conn) endStreams() {
	c.mu.Lock()
	var left []*stream
	for _, s := range c.streams {
		left = append(left, s)
	}
	for _, s := range left {
		s.endLocked()
	}
	c.mu.Unlock()
	for _, s := range left {
		s.cancellation.cancel(context.Canceled)
	}
}
