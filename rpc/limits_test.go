package rpc

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// What a hostile client does, and how it ends: the connection, if stream is 0.
func TestHostileClients(t *testing.T) {
	repeat := func(n int, does func(*rawClient)) func(*rawClient) {
		return func(r *rawClient) {
			for range n {
				does(r)
			}
		}
	}
	for name, c := range map[string]struct {
		does func(*rawClient)
		want string
	}{
		"pings":          {repeat(5, func(r *rawClient) { r.framer.WritePing(false, [8]byte{}) }), "goaway ENHANCE_YOUR_CALM"},
		"ping acks":      {repeat(noiseMax+1, func(r *rawClient) { r.framer.WritePing(true, [8]byte{}) }), "goaway ENHANCE_YOUR_CALM"},
		"settings":       {repeat(noiseMax+1, func(r *rawClient) { r.framer.WriteSettings() }), "goaway ENHANCE_YOUR_CALM"},
		"window updates": {repeat(noiseMax+1, func(r *rawClient) { r.framer.WriteWindowUpdate(0, 1) }), "goaway ENHANCE_YOUR_CALM"},
		"priorities":     {repeat(noiseMax+1, func(r *rawClient) { r.framer.WritePriority(1, http2.PriorityParam{}) }), "goaway ENHANCE_YOUR_CALM"},
		"unknown frames": {repeat(noiseMax+1, func(r *rawClient) { r.raw(0x99, 0, 0, "") }), "goaway ENHANCE_YOUR_CALM"},
		"empty data": {func(r *rawClient) {
			r.headers(1, false, callFields(holdPath)...)
			repeat(noiseMax+1, func(r *rawClient) { r.data(1, false, "") })(r)
		}, "goaway ENHANCE_YOUR_CALM"},
		"faulty streams": {func(r *rawClient) {
			for i := range uint32(faultsMax + 1) {
				r.headers(2*i+1, true, ":method", "POST")
			}
		}, "goaway ENHANCE_YOUR_CALM"},
		"continuations": {func(r *rawClient) {
			r.raw(http2.FrameHeaders, 0, 1, "\x83")
			repeat(fragmentsMax, func(r *rawClient) { r.raw(http2.FrameContinuation, 0, 1, "") })(r)
		}, "goaway ENHANCE_YOUR_CALM"},
		"a long block": {func(r *rawClient) {
			r.raw(http2.FrameHeaders, 0, 1, "\x83")
			repeat(5, func(r *rawClient) { r.raw(http2.FrameContinuation, 0, 1, strings.Repeat("\x83", 16384)) })(r)
		}, "goaway ENHANCE_YOUR_CALM"},
		"a long field": {func(r *rawClient) {
			block := r.encode(callFields(unaryPath, "x", strings.Repeat("\x01", 30_000))...)
			r.raw(http2.FrameHeaders, 0, 1, block[:16384])
			for block = block[16384:]; len(block) > 16384; block = block[16384:] {
				r.raw(http2.FrameContinuation, 0, 1, block[:16384])
			}
			r.raw(http2.FrameContinuation, endHeaders, 1, block)
		}, "goaway ENHANCE_YOUR_CALM"},
		"no preface": {func(r *rawClient) {}, "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTestKit(t, Options{HeaderBytesMax: 20_000, HandshakeTimeout: time.Minute})
			r := k.rawClient()
			if name == "no preface" {
				r.write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n" + strings.Repeat("x", 30)))
			} else {
				r.hello()
			}
			c.does(r)
			r.want(0, c.want)
			r.wantClosed()
		})
	}
}

// Slow lorises are cut off, wherever they stop.
func TestHandshakeTimeout(t *testing.T) {
	k := newTestKit(t, Options{HandshakeTimeout: 20 * time.Millisecond})
	for _, said := range []string{"", http2.ClientPreface[:10], http2.ClientPreface, http2.ClientPreface + "\x00\x00"} {
		r := k.rawClient()
		r.write([]byte(said))
		r.wantClosed()
	}
}

// A header list that is too large is refused; the table is right afterwards, and so are the calls behind it.
func TestLargeHeaders(t *testing.T) {
	k := newTestKit(t, Options{HeaderBytesMax: 2000})
	r := k.rawClient().hello()
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("x-%d", i), "y")
	}
	r.headers(1, true, callFields(unaryPath, many...)...)
	r.want(1, "431 8 the request's header fields are too large")
	r.headers(3, false, callFields(unaryPath, many[:20]...)...)
	r.data(3, true, unaryMessage(t, 1))
	r.want(3, "200 0")
}

func TestStreamsMax(t *testing.T) {
	k := newTestKit(t, Options{StreamsMax: 2})
	r := k.rawClient().hello()
	r.headers(1, false, callFields(holdPath)...)
	r.headers(3, false, callFields(holdPath)...)
	r.headers(5, false, callFields(holdPath)...)
	r.want(5, "reset REFUSED_STREAM")
	k.release <- struct{}{}
	k.release <- struct{}{}
	r.framer.WriteRSTStream(3, http2.ErrCodeCancel)
	r.call(7)
	r.want(7, "200 0")
}

// Streams that are reset as soon as they are opened leave no more handlers behind than the bound says, and none for good.
func TestRapidReset(t *testing.T) {
	k := newTestKit(t, Options{StreamsMax: 100})
	r := k.rawClient().hello()
	const resets = 3000
	for i := range uint32(resets) {
		r.headers(2*i+1, false, callFields(holdPath)...)
		r.check(r.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	r.call(2*resets + 1)
	r.want(2*resets+1, "200 0")
	entered := 0
	for range resets {
		<-k.left
		entered++
	}
	if entered != resets {
		t.Errorf("%d handlers", entered)
	}
}

// Handlers that do not notice that they are not wanted any more keep the reader from making more of them.
func TestOrphansHoldTheReaderBack(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	for i := range uint32(orphansMax) {
		r.headers(2*i+1, false, callFields(stuckPath)...)
		r.check(r.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	c := k.onlyConn()
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.calm != nil
	})
	r.call(2*orphansMax + 1)
	for range orphansMax {
		k.release <- struct{}{}
	}
	r.want(2*orphansMax+1, "200 0")
}

// Messages that say that they are long take memory as they arrive, not before.
func TestLyingLengths(t *testing.T) {
	k := newTestKit(t, Options{RecvBytesMax: 1 << 30})
	r := k.rawClient().hello()
	before := heapBytes()
	const streams = 1000
	for i := range uint32(streams) {
		r.headers(2*i+1, false, callFields(unaryPath)...)
		r.data(2*i+1, false, "\x00\x3f\xff\xff\xff") // a gigabyte each
	}
	r.call(2*streams + 1)
	r.want(2*streams+1, "200 0")
	if grown := heapBytes() - before; grown > streams*(bodyBytesMin+16<<10) {
		t.Errorf("%d bytes for %d streams", grown, streams)
	}
}

func heapBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A client that does not read its answers makes streaming handlers wait, and takes no more memory than one message and
// the queue for each stream.
func TestSlowReader(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	m, err := proto.Marshal(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{
		{Size: 30_000}, {Size: 30_000}, {Size: 30_000}, {Size: 30_000}, {Size: 30_000}, {Size: 30_000}, {Size: 30_000}, {Size: 30_000},
	}})
	r.check(err)
	const streams = 100
	before := heapBytes()
	for i := range uint32(streams) {
		r.headers(2*i+1, false, callFields(pb.TestService_StreamingOutputCall_FullMethodName)...)
		r.data(2*i+1, true, prefixed(string(m)))
	}
	r.call(2*streams + 1) // its answer needs the connection's window, which is used up; but it is carried out
	c := k.onlyConn()
	waitFor(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		full := 0
		for _, s := range c.streams {
			if s.out.room != nil && s.out.queue.bytes > 0 {
				full++
			}
		}
		return full == streams
	})
	c.mu.Lock()
	for _, s := range c.streams {
		if s.out.queue.bytes > sendQueueMax+30_100 {
			t.Errorf("%d bytes are queued", s.out.queue.bytes)
		}
	}
	if len(c.out) > outBytesHigh {
		t.Errorf("%d bytes of output", len(c.out))
	}
	c.mu.Unlock()
	if grown := heapBytes() - before; grown > streams*300_000 {
		t.Errorf("%d bytes for %d streams", grown, streams)
	}
	r.framer.WriteWindowUpdate(0, 100_000_000) // it reads after all
	r.framer.WriteWindowUpdate(1, 1_000_000)
	if a := r.await(1); a.String() != "200 0" || len(a.body) < 240_000 {
		t.Errorf("%v, %d bytes", a, len(a.body))
	}
}

// A client that sends and never reads from its socket holds up itself.
func TestClientThatNeverReads(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	r.framer.WriteWindowUpdate(0, 1<<31-1-windowBytes)
	r.conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	message := unaryMessage(t, 50_000)
	for i := uint32(1); i < 20_000; i += 2 {
		block := r.encode(callFields(unaryPath)...)
		if r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: i, BlockFragment: []byte(block), EndHeaders: true}) != nil ||
			r.framer.WriteData(i, true, []byte(message)) != nil {
			break
		}
	}
	c := k.onlyConn()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) > outBytesHigh+outBytesMax {
		t.Errorf("%d bytes of output", len(c.out))
	}
}

func (k *kit) onlyConn() *conn {
	k.t.Helper()
	var found *conn
	waitFor(k.t, func() bool {
		k.server.mu.Lock()
		defer k.server.mu.Unlock()
		for c := range k.server.conns {
			found = c
		}
		return len(k.server.conns) == 1
	})
	return found
}

// waitFor waits for what happens soon.
func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// A message that is longer than a window gets more of one than it needs: a client that has sent its last byte with the last
// of the window, as Node's, might never say that it was the last.
func TestLongMessagesDoNotUseUpTheWindow(t *testing.T) {
	k := newTestKit(t, Options{})
	r := k.rawClient().hello()
	r.headers(1, false, callFields(unaryPath)...)
	b, err := proto.Marshal(&pb.SimpleRequest{ResponseSize: 1, Payload: &pb.Payload{Body: make([]byte, 70_000)}})
	if err != nil {
		t.Fatal(err)
	}
	message := prefixed(string(b))
	for sent := 0; sent < windowBytes; {
		n := min(frameBytesMax, windowBytes-sent)
		r.data(1, false, message[sent:sent+n])
		sent += n
	}
	more := 0
	for more == 0 {
		f, err := r.framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == 1 {
			more = int(w.Increment)
		}
	}
	if rest := len(message) - windowBytes; more <= rest {
		t.Errorf("%d bytes more for %d", more, rest)
	}
	r.data(1, true, message[windowBytes:])
	r.want(1, "200 0")
}
