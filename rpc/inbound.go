package rpc

import (
	"encoding/binary"
	"io"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

const (
	// prefixBytes precede a message: whether it is compressed, and its length in four bytes.
	prefixBytes = 5
	// windowBytes is what a client may send on a stream before anything of it is taken, and more where a message is
	// longer. It is the protocol's default, so that nobody has to be told.
	windowBytes = 64<<10 - 1
	// bodyBytesMin is the first buffer for a longer message: what it says of its length is believed as it arrives.
	bodyBytesMin = 16 << 10
)

// message is one message as it came.
type message struct {
	compressed byte
	body       body
}

// bodies are the buffers of messages.
var bodies = mem.DefaultBufferPool()

const (
	// smallBytes is a message whose buffer is made for it: the pooled ones are so much larger that many would add up.
	smallBytes = 64
	// keptBytesMax is the largest message that whoever decodes it may keep: more is copied into memory of the right size.
	keptBytesMax = 16 << 10
)

// body is the bytes of a message.
type body struct {
	bytes  []byte
	pooled *[]byte // not nil: the buffer, which belongs to bodies
}

func newBody(n int) body {
	if n <= smallBytes {
		return body{bytes: make([]byte, 0, n)}
	}
	b := bodies.Get(n)
	return body{bytes: (*b)[:0], pooled: b}
}

func (b body) free() {
	if b.pooled != nil {
		bodies.Put(b.pooled)
	}
}

// newMessage makes room for n bytes of the message that is coming in.
func (s *stream) newMessage(n int) body {
	if s.in.length <= keptBytesMax && s.conn.server.keeper != nil && s.isUnary() {
		return body{bytes: make([]byte, 0, s.in.length)}
	}
	return newBody(n)
}

// inbound is the request of a stream: messages, or for HTTP chunks of the body. Guarded by conn.mu.
type inbound struct {
	window   int   // what the client may still send
	unread   int   // came and was not taken
	granted  int   // of the connection's budget for long messages
	received int64 // bytes of the body, of all that came

	// The message that is coming in.
	prefix  [prefixBytes]byte
	have    int // of prefix
	length  int // of the message, if the prefix is complete
	partial body

	queue   []message     // came and was not taken
	first   [1]message    // room for queue: most requests have one message
	head    int           // queue[:head] was taken
	err     error         // behind the queue: io.EOF, or what is wrong with the request; nil: more may come
	arrived chan struct{} // capacity 1; nil: nobody waits for more
	single  bool          // the only message was taken
}

func (in *inbound) free() {
	for _, m := range in.queue[in.head:] {
		m.body.free()
	}
	in.queue, in.head, in.first[0] = nil, 0, message{}
	in.partial.free()
	in.partial = body{}
}

// assemble takes bytes that came and makes messages of them. Of a message that is refused, and of what comes behind
// it, nothing is kept.
func (s *stream) assemble(b []byte) {
	in := &s.in
	for in.err == nil && (len(b) > 0 || in.have == prefixBytes && len(in.partial.bytes) == in.length) {
		if in.have < prefixBytes {
			n := copy(in.prefix[in.have:], b)
			in.have += n
			b = b[n:]
			if in.have == prefixBytes {
				in.err = s.beginMessage(len(b))
			}
			continue
		}
		n := min(len(b), in.length-len(in.partial.bytes))
		s.grow(n)
		in.partial.bytes = append(in.partial.bytes, b[:n]...)
		b = b[n:]
		if len(in.partial.bytes) == in.length {
			in.push(message{in.prefix[0], in.partial})
			in.partial, in.have = body{}, 0
		}
	}
}

func (in *inbound) push(m message) {
	if in.queue == nil {
		in.queue = in.first[:0]
	}
	in.queue = append(in.queue, m)
}

// beginMessage looks at a prefix; here is how much of the message has come with it.
func (s *stream) beginMessage(here int) error {
	in := &s.in
	limit := s.conn.server.o.RecvBytesMax
	length := binary.BigEndian.Uint32(in.prefix[1:])
	if int64(length) > int64(limit) {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", length, limit)
	}
	in.length = int(length)
	in.partial = s.newMessage(min(in.length, bodyBytesMin))
	if need := in.length - here - in.window; need > 0 {
		// And a whole window more: a client whose window is used up by the last byte of a message may not say that it was the last
		// (Node does not).
		s.conn.grant(s, need+windowBytes)
	}
	return nil
}

// grow makes room for n more bytes of the message that is coming in.
func (s *stream) grow(n int) {
	in := &s.in
	have := len(in.partial.bytes)
	if have+n <= cap(in.partial.bytes) {
		return
	}
	larger := s.newMessage(min(in.length, max(2*cap(in.partial.bytes), have+n)))
	larger.bytes = append(larger.bytes, in.partial.bytes...)
	in.partial.free()
	in.partial = larger
}

// close ends the request.
func (in *inbound) close() {
	if in.err != nil {
		return
	}
	in.err = io.EOF
	if in.have > 0 {
		in.err = status.Error(codes.Internal, io.ErrUnexpectedEOF.Error())
	}
}

// pop takes the next message. The lock must be held.
func (s *stream) pop() (m message, ok bool) {
	in := &s.in
	if in.head == len(in.queue) {
		return message{}, false
	}
	m = in.queue[in.head]
	in.queue[in.head] = message{}
	in.head++
	if in.head == len(in.queue) {
		in.queue, in.head = in.queue[:0], 0
	}
	s.taken(prefixBytes + len(m.body.bytes))
	return m, true
}

// taken says that n bytes were taken, and lets the client send as many more once they are worth a frame.
func (s *stream) taken(n int) {
	in, c := &s.in, s.conn
	in.unread -= n
	c.unread -= n
	c.ungrant(s)
	if s.recvClosed || s.gone {
		return
	}
	if more := windowBytes - in.window - in.unread; more >= windowBytes/2 {
		in.window += more
		c.out = appendWindowUpdate(c.out, s.id, more)
	}
}

// Keeper is a codec whose messages may keep the bytes that they are decoded from: nobody else uses those again.
type Keeper interface {
	UnmarshalKept(b []byte, into any) error
}

// decode makes a message of what came, and gives its buffer back.
func (s *stream) decode(m message, into any) error {
	if k := s.conn.server.keeper; k != nil && m.compressed == 0 && m.body.pooled == nil {
		return unmarshalError(k.UnmarshalKept(m.body.bytes, into))
	}
	defer m.body.free()
	body := mem.SliceBuffer(m.body.bytes)
	data := [1]mem.Buffer{&body}
	o := &s.conn.server.o
	switch {
	case m.compressed == 0:
		return unmarshal(o.Codec, data[:], into)
	case m.compressed != 1:
		return status.Errorf(codes.Internal, "grpc: received unexpected payload format %d", m.compressed)
	case s.request.encoding == "":
		return status.Error(codes.Internal, "grpc: compressed flag set with identity or empty encoding")
	}
	plain, err := decompress(s.request.compressor, data[:], o.RecvBytesMax)
	if err != nil {
		return err
	}
	defer plain.Free()
	return unmarshal(o.Codec, plain, into)
}

func unmarshal(codec encoding.CodecV2, data mem.BufferSlice, into any) error {
	return unmarshalError(codec.Unmarshal(data, into))
}

func unmarshalError(err error) error {
	if err == nil {
		return nil
	}
	return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
}

// Budgets of a connection for what clients send.
const (
	// connWindowBytes is what all streams of a connection together may have under way.
	connWindowBytes = 8 << 20
	// grantBytesMax is for the parts of long messages that exceed a stream's window; streams with such messages wait for
	// each other. A message that is larger is alone.
	grantBytesMax = 64 << 20
	// unreadBytesMax is what may be buffered of requests; the stream that exceeds it is ended.
	unreadBytesMax = 256 << 20
)

// grant lets a client send the rest of a message that is larger than the window, when the budget allows it.
func (c *conn) grant(s *stream, need int) {
	if c.granted > 0 && c.granted+need > grantBytesMax || len(c.waiting) > 0 {
		s.in.granted = -need
		c.waiting = append(c.waiting, s)
		return
	}
	c.grantNow(s, need)
}

func (c *conn) grantNow(s *stream, need int) {
	s.in.granted = need
	c.granted += need
	s.in.window += need
	c.out = appendWindowUpdate(c.out, s.id, need)
}

// ungrant gives back what a stream was granted, and looks after those who wait for it.
func (c *conn) ungrant(s *stream) {
	if s.in.granted == 0 {
		return
	}
	if s.in.granted > 0 {
		c.granted -= s.in.granted
	}
	s.in.granted = 0
	for len(c.waiting) > 0 {
		next := c.waiting[0]
		need := -next.in.granted
		if need > 0 && c.granted > 0 && c.granted+need > grantBytesMax {
			return
		}
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		if need > 0 && !next.gone {
			c.grantNow(next, need)
		}
	}
}

// receive takes a DATA frame's payload for its stream. It returns the stream if its handler has to be started now.
func (c *conn) receive(f *frame) (start *stream, err error) {
	n := len(f.payload)
	body, err := f.unpadded()
	if err != nil {
		return nil, err
	}
	if n > c.window {
		return nil, violation(http2.ErrCodeFlowControl, "more data than the connection's window")
	}
	c.window -= n
	if c.window < connWindowBytes/2 {
		c.out = appendWindowUpdate(c.out, 0, connWindowBytes-c.window)
		c.window = connWindowBytes
	}
	ends := f.flags.Has(http2.FlagDataEndStream)
	if len(body) > 0 || ends {
		c.noise = 0
	}
	s := c.streams[f.stream]
	switch {
	case s == nil:
		return nil, c.strayFrame(f)
	case s.recvClosed:
		return nil, &streamError{f.stream, http2.ErrCodeStreamClosed, "data behind the end"}
	case n > s.in.window:
		return nil, &streamError{f.stream, http2.ErrCodeFlowControl, "more data than the stream's window"}
	}
	s.in.window -= len(body) // padding is given back at once
	if pad := n - len(body); pad > 0 {
		c.out = appendWindowUpdate(c.out, s.id, pad)
	}
	s.in.unread += len(body)
	c.unread += len(body)
	s.in.received += int64(len(body))
	if length := s.request.contentLength; length >= 0 && (s.in.received > length || ends && s.in.received < length) {
		return nil, &streamError{f.stream, http2.ErrCodeProtocol, "not as long as content-length says"}
	}
	if c.unread > unreadBytesMax {
		return nil, &streamError{f.stream, http2.ErrCodeEnhanceYourCalm, "too much unread data on the connection"}
	}
	if s.request.isGRPC {
		s.assemble(body)
	} else {
		s.chunk(body)
	}
	if ends {
		s.recvClosed = true
		s.in.close()
	}
	s.wakeReceiver()
	if s.isUnary() && s.in.err != nil && s.begin() {
		return s, nil
	}
	return nil, nil
}
