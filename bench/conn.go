package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"keelson/internal/socket"
)

const (
	promptBytes      = 16 << 10 // output up to which the reader sends it itself
	windowBytes      = 1 << 30  // what the server may send before we say more, per stream and per connection
	windowRefill     = windowBytes / 4
	windowFirstBytes = 65_535 // of HTTP/2, until settings say otherwise
	frameHeader      = 9      // of HTTP/2
	messageHeader    = 5      // of gRPC: one byte of flags, four of length
	messageMaxBytes  = 1 << 30
	pendingMaxBytes  = 256 << 20 // of one connection: what flow control holds back
)

var (
	errClosed    = errors.New("bench: connection closed") // why calls end when the load is over
	errCancelled = errors.New("bench: call cancelled")    // why a call ends that was cancelled
)

// conn is one HTTP/2 connection with many gRPC calls under way. The reader goroutine runs the completions of calls,
// without mu, so that they may start the next ones, and sends what has come of that if it is little; the writer goroutine
// sends whatever else has gathered, in one write.
type conn struct {
	nc      net.Conn
	input   *input // of the reader goroutine, like the four below
	frames  *http2.Framer
	headers *hpack.Decoder
	reply   replyHeaders
	prompt  *socket.Prompt // nil: the writer sends everything
	taken   uint32         // bytes received and not yet given back to the connection's window

	settled  chan struct{} // closed when the server's first settings have come, or the connection has ended
	settle   sync.Once     // closes settled
	writable chan struct{} // capacity 1: there is output, or the connection is closed
	done     sync.WaitGroup

	mu            sync.Mutex
	output        *bytes.Buffer
	spare         *bytes.Buffer // the other of the two output buffers; nil: it is being sent
	unsent        *bytes.Buffer // what the reader could not send of it, and the writer has to; mostly nil
	outFrames     *http2.Framer // writes to output
	encoder       *hpack.Encoder
	encoded       bytes.Buffer
	blocks        map[string][]byte // header block by path, as long as nothing was added to the encoder's table
	calls         map[uint32]*call
	nextID        uint32
	window        int64   // what we may send on the connection
	windowStream  int64   // what a new stream may send
	frameMax      int     // largest frame the server takes
	streamsMax    int     // most streams the server takes
	held          []*call // with data that a window holds back
	heldBytes     int
	waiting       []*call // for a stream to become free
	authority     string
	access        access
	err           error // why the connection ended
	closedForGood bool
}

// dial connects and sends the first settings.
//
// Errors: no connection.
func dial(ctx context.Context, endpoint string, a access) (*conn, error) {
	nc, err := a.connect(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("bench: connect: %w", err)
	}
	c := &conn{
		nc:           nc,
		input:        newInput(nc),
		prompt:       socket.NewPrompt(nc),
		settled:      make(chan struct{}),
		writable:     make(chan struct{}, 1),
		output:       &bytes.Buffer{},
		spare:        &bytes.Buffer{},
		blocks:       map[string][]byte{},
		calls:        map[uint32]*call{},
		nextID:       1,
		window:       windowFirstBytes,
		windowStream: windowFirstBytes,
		frameMax:     16 << 10,
		streamsMax:   1 << 30,
		authority:    endpoint,
		access:       a,
	}
	c.frames = http2.NewFramer(nil, c.input)
	c.frames.SetReuseFrames()
	c.frames.SetMaxReadFrameSize(1 << 24)
	c.headers = hpack.NewDecoder(4096, c.reply.take)
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.outFrames = http2.NewFramer(outputOf{c}, nil)
	c.output.WriteString(http2.ClientPreface)
	must(c.outFrames.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: windowBytes},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}))
	must(c.outFrames.WriteWindowUpdate(0, windowBytes))
	c.done.Go(c.write)
	c.done.Go(c.read)
	c.flush()
	select {
	case <-c.settled: // calls go by the server's limits from the first one on
	case <-ctx.Done():
	}
	return c, nil
}

// outputOf lets the framer follow the exchange of the output buffers.
type outputOf struct{ *conn }

func (o outputOf) Write(p []byte) (int, error) { return o.output.Write(p) }

// must is for writes to memory with arguments of ours, which fail only if those are wrong.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("bench: frame: %v", err))
	}
}

// close ends the connection and waits for its goroutines. Calls under way end with errClosed.
func (c *conn) close() {
	c.fail(errClosed)
	c.done.Wait()
}

// fail records why the connection ends and wakes everyone. Only the first reason counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.closedForGood = true
	c.mu.Unlock()
	c.settle.Do(func() { close(c.settled) })
	c.nc.Close()
	c.flush()
}

// flush lets the writer send what has gathered.
func (c *conn) flush() {
	select {
	case c.writable <- struct{}{}:
	default:
	}
}

// start begins a call with one message; with more, others may follow. What is written goes out with the next flush,
// which the reader does by itself.
//
// Errors: the connection has ended; onEnd does not follow then.
func (c *conn) start(call *call, message []byte, more bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closedForGood {
		return c.err
	}
	call.halfOpen = more
	call.pending = append(call.pending[:0], framed(len(message))...)
	call.pending = append(call.pending, message...)
	if len(c.calls) >= c.streamsMax {
		c.waiting = append(c.waiting, call)
	} else {
		c.open(call)
	}
	return nil
}

// send adds a message to a call that was started with more.
func (c *conn) send(call *call, message []byte) {
	c.mu.Lock()
	if !c.closedForGood {
		wasHeld := len(call.pending) > 0
		call.pending = append(append(call.pending, framed(len(message))...), message...)
		if wasHeld {
			c.heldBytes += messageHeader + len(message)
		} else if call.id != 0 {
			c.push(call)
		}
	}
	c.mu.Unlock()
}

// cancel ends a call from our side. It may be called from the call's onMessage only; onEnd follows.
func (c *conn) cancel(call *call) { call.cancelled = true }

// open gives the call a stream and sends its headers and as much of its data as windows allow. Callers hold mu.
func (c *conn) open(call *call) {
	call.id, call.window = c.nextID, c.windowStream
	call.taken, call.partial, call.received, call.cancelled = 0, call.partial[:0], 0, false
	c.nextID += 2
	c.calls[call.id] = call
	must(c.outFrames.WriteHeaders(http2.HeadersFrameParam{StreamID: call.id, BlockFragment: c.block(call.path), EndHeaders: true}))
	c.push(call)
}

// push sends what it can of the call's data and holds back the rest. Callers hold mu.
func (c *conn) push(call *call) {
	if c.sendData(call); len(call.pending) > 0 && !call.isHeld {
		call.isHeld = true
		c.held = append(c.held, call)
		c.heldBytes += len(call.pending)
		if c.heldBytes > pendingMaxBytes {
			panic(fmt.Sprintf("bench: %d bytes held back by %d calls", c.heldBytes, len(c.held)))
		}
	}
}

// sendData writes as much of the call's data as the windows allow. Callers hold mu.
func (c *conn) sendData(call *call) {
	sent := 0
	for sent < len(call.pending) {
		n := min(int64(len(call.pending)-sent), int64(c.frameMax), c.window, call.window)
		if n <= 0 {
			break
		}
		end := sent+int(n) == len(call.pending) && !call.halfOpen
		must(c.outFrames.WriteData(call.id, end, call.pending[sent:sent+int(n)]))
		c.window -= n
		call.window -= n
		sent += int(n)
	}
	call.pending = append(call.pending[:0], call.pending[sent:]...)
}

// release sends what windows held back, as far as they now allow. Callers hold mu.
func (c *conn) release() {
	held := c.held
	c.held, c.heldBytes = c.held[:0], 0
	for _, call := range held {
		call.isHeld = false
		if c.calls[call.id] == call { // otherwise it has ended meanwhile
			c.push(call)
		}
	}
	clear(held[len(c.held):])
}

// block returns the header block of a request. The first use of a path adds entries to the table, which moves all
// others, so blocks are kept only from the second encoding on. Callers hold mu.
func (c *conn) block(path string) []byte {
	if block, ok := c.blocks[path]; ok && block != nil {
		return block
	}
	_, second := c.blocks[path]
	c.encoded.Reset()
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: c.access.scheme()}, {Name: ":path", Value: path},
		{Name: ":authority", Value: c.authority}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}
	if c.access.token != "" {
		fields = append(fields, hpack.HeaderField{Name: "token", Value: c.access.token})
	}
	for _, field := range fields {
		if err := c.encoder.WriteField(field); err != nil {
			panic(fmt.Sprintf("bench: header %s: %v", field.Name, err))
		}
	}
	if second {
		c.blocks[path] = bytes.Clone(c.encoded.Bytes())
	} else {
		clear(c.blocks)
		c.blocks[path] = nil
	}
	return c.encoded.Bytes()
}

// write is the writer goroutine.
func (c *conn) write() {
	for range c.writable {
		c.mu.Lock()
		if c.closedForGood {
			c.mu.Unlock()
			return
		}
		out := c.unsent
		if c.unsent = nil; out == nil {
			if out = c.takeOutput(); out == nil { // the reader, if it is sending, sees to what is left
				c.mu.Unlock()
				continue
			}
		}
		c.mu.Unlock()
		_, err := c.nc.Write(out.Bytes())
		c.giveBack(out)
		if err != nil {
			c.fail(fmt.Errorf("bench: write: %w", err))
		}
	}
}

// takeOutput takes what has gathered, to send it; nil: there is nothing, or somebody else is sending. Callers hold mu.
func (c *conn) takeOutput() *bytes.Buffer {
	if c.spare == nil || c.output.Len() == 0 {
		return nil
	}
	out := c.output
	c.output, c.spare = c.spare, nil
	return out
}

// giveBack takes note that out has been sent. What has gathered meanwhile is the writer's.
func (c *conn) giveBack(out *bytes.Buffer) {
	out.Reset()
	c.mu.Lock()
	c.spare = out
	more := c.output.Len() > 0
	c.mu.Unlock()
	if more {
		c.flush()
	}
}

// sendPromptly is flush for the reader goroutine, which sends itself what the socket takes at once, if it is little: to wake the writer
// costs more.
func (c *conn) sendPromptly() {
	c.mu.Lock()
	n := c.output.Len()
	if n == 0 || n > promptBytes || c.prompt == nil || c.spare == nil || c.closedForGood {
		c.mu.Unlock()
		if n > 0 {
			c.flush()
		}
		return
	}
	out := c.takeOutput()
	c.mu.Unlock()
	n, _ = c.prompt.Write(out.Bytes()) // what is wrong is found by whoever sends the rest
	if out.Next(n); out.Len() == 0 {
		c.giveBack(out)
		return
	}
	c.mu.Lock()
	c.unsent = out
	c.mu.Unlock()
	c.flush()
}

// read is the reader goroutine. When it ends, every call ends.
func (c *conn) read() {
	for {
		// Before waiting for input, let out what its handling has written.
		if c.input.buffered() < frameHeader {
			c.sendPromptly()
		}
		frame, err := c.frames.ReadFrame()
		if err == nil {
			err = c.handle(frame)
		}
		if err != nil {
			c.fail(fmt.Errorf("bench: read: %w", err))
			break
		}
	}
	c.mu.Lock()
	err := c.err
	calls := append([]*call{}, c.waiting...)
	for _, call := range c.calls {
		calls = append(calls, call)
	}
	c.calls, c.waiting = nil, nil
	c.mu.Unlock()
	for _, call := range calls {
		call.onEnd(err)
	}
}

// handle takes one frame.
//
// Errors: those that end the connection.
func (c *conn) handle(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.handleData(f)
	case *http2.HeadersFrame:
		return c.handleHeaders(f)
	case *http2.RSTStreamFrame:
		c.finish(f.StreamID, fmt.Errorf("stream reset: %v", f.ErrCode))
	case *http2.SettingsFrame:
		return c.handleSettings(f)
	case *http2.WindowUpdateFrame:
		c.mu.Lock()
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		} else if call := c.calls[f.StreamID]; call != nil {
			call.window += int64(f.Increment)
		}
		c.release()
		c.mu.Unlock()
	case *http2.PingFrame:
		if !f.IsAck() {
			c.mu.Lock()
			must(c.outFrames.WritePing(true, f.Data))
			c.mu.Unlock()
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("server goes away: %v %q", f.ErrCode, f.DebugData())
	}
	return nil
}

func (c *conn) handleSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			grown := int64(s.Val) - c.windowStream
			c.windowStream = int64(s.Val)
			for _, call := range c.calls {
				call.window += grown
			}
		case http2.SettingMaxFrameSize:
			c.frameMax = int(s.Val)
		case http2.SettingMaxConcurrentStreams:
			c.streamsMax = int(min(s.Val, 1<<30))
		case http2.SettingHeaderTableSize:
			c.encoder.SetMaxDynamicTableSizeLimit(s.Val)
			clear(c.blocks)
		}
		return s.Valid()
	})
	must(c.outFrames.WriteSettingsAck())
	c.settle.Do(func() { close(c.settled) })
	c.release()
	return err
}

// handleData gives the window back and cuts the data into messages.
func (c *conn) handleData(f *http2.DataFrame) error {
	c.mu.Lock()
	call := c.calls[f.StreamID]
	if c.taken += f.Length; c.taken >= windowRefill {
		must(c.outFrames.WriteWindowUpdate(0, c.taken))
		c.taken = 0
	}
	if call != nil {
		if call.taken += f.Length; call.taken >= windowRefill {
			must(c.outFrames.WriteWindowUpdate(call.id, call.taken))
			call.taken = 0
		}
	}
	c.mu.Unlock()
	if call == nil {
		return nil
	}
	if err := call.take(f.Data()); err != nil {
		return err
	}
	switch {
	case call.cancelled:
		c.finish(f.StreamID, errCancelled)
	case f.StreamEnded():
		c.finish(f.StreamID, errors.New("reply without a status"))
	}
	return nil
}

func (c *conn) handleHeaders(f *http2.HeadersFrame) error {
	c.reply = replyHeaders{}
	if _, err := c.headers.Write(f.HeaderBlockFragment()); err != nil {
		return err
	}
	for ended := f.HeadersEnded(); !ended; {
		next, err := c.frames.ReadFrame()
		if err != nil {
			return err
		}
		continuation, ok := next.(*http2.ContinuationFrame)
		if !ok {
			return fmt.Errorf("%v within headers", next.Header())
		}
		if _, err := c.headers.Write(continuation.HeaderBlockFragment()); err != nil {
			return err
		}
		ended = continuation.HeadersEnded()
	}
	if err := c.headers.Close(); err != nil {
		return err
	}
	if !f.StreamEnded() {
		return nil
	}
	c.finish(f.StreamID, c.reply.err())
	return nil
}

// finish ends a call and gives its stream to one that waits.
func (c *conn) finish(id uint32, err error) {
	c.mu.Lock()
	call := c.calls[id]
	if call == nil {
		c.mu.Unlock()
		return
	}
	delete(c.calls, id)
	// The server may end a call without reading all of it. Its stream has to end from our side too.
	if call.halfOpen || len(call.pending) > 0 {
		must(c.outFrames.WriteRSTStream(id, http2.ErrCodeCancel))
		call.pending = call.pending[:0]
	}
	call.id = 0
	if len(c.waiting) > 0 && len(c.calls) < c.streamsMax {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.open(next)
	}
	c.mu.Unlock()
	call.onEnd(err)
}
