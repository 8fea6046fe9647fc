package rpc

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// newTestKit serves the interoperability service.
func newTestKit(t testing.TB, o Options) *kit {
	k := newKit(t, o)
	k.server.RegisterService(&holdDesc, k)
	pb.RegisterTestServiceServer(k.server, interop.NewTestServer())
	k.serve()
	return k
}

const (
	u31 = "\x7f\xff\xff\xff"

	endStream  = http2.FlagDataEndStream
	endHeaders = http2.FlagHeadersEndHeaders
)

// What RFC 9113 demands of a server, by section: what a client does, and how stream 1 or the connection ends.
func TestRFC9113(t *testing.T) {
	open := func(r *rawClient) { r.headers(1, false, callFields(duplexPath)...) }
	fields := func(change func([]string) []string) func(*rawClient) {
		return func(r *rawClient) { r.headers(1, true, change(callFields(unaryPath))...) }
	}
	without := func(name string) func([]string) []string {
		return func(f []string) []string {
			for i := 0; i < len(f); i += 2 {
				if f[i] == name {
					return append(f[:i], f[i+2:]...)
				}
			}
			return f
		}
	}
	with := func(more ...string) func([]string) []string {
		return func(f []string) []string { return append(f, more...) }
	}
	for _, c := range []struct {
		section string
		does    func(*rawClient)
		stream  uint32
		want    string
	}{
		{"4.1 unknown types are ignored", func(r *rawClient) { r.raw(0x77, 0xff, 0, "what"); r.call(1) }, 1, "200 0"},
		{"4.1 unknown flags are ignored", func(r *rawClient) { r.raw(http2.FramePing, 0xfe, 0, "12345678"); r.call(1) }, 1, "200 0"},
		{"4.1 the reserved bit is ignored", func(r *rawClient) {
			b := appendFrameHeader(nil, 8, http2.FramePing, 0, 1<<31)
			r.write(append(b, "12345678"...))
			r.call(1)
		}, 1, "200 0"},
		{"4.2 a frame larger than allowed", func(r *rawClient) {
			r.write(appendFrameHeader(nil, 16385, http2.FrameData, 0, 1))
		}, 0, "goaway FRAME_SIZE_ERROR"},
		{"4.2 the largest frame", func(r *rawClient) {
			r.headers(1, false, callFields(unaryPath)...)
			m, err := proto.Marshal(&pb.SimpleRequest{Payload: &pb.Payload{Body: make([]byte, 16373)}})
			r.check(err)
			r.data(1, true, prefixed(string(m)))
		}, 1, "200 0"},
		{"4.3 a block that can't be decoded", func(r *rawClient) {
			r.raw(http2.FrameHeaders, endHeaders|endStream, 1, "\xff\xff\xff\xff\xff")
		}, 0, "goaway COMPRESSION_ERROR"},
		{"4.3 an index that is not there", func(r *rawClient) {
			r.raw(http2.FrameHeaders, endHeaders|endStream, 1, "\xfe")
		}, 0, "goaway COMPRESSION_ERROR"},
		{"5.1 idle: data", func(r *rawClient) { r.data(1, true, "x") }, 0, "goaway PROTOCOL_ERROR"},
		{"5.1 idle: reset", func(r *rawClient) { r.framer.WriteRSTStream(1, http2.ErrCodeCancel) }, 0, "goaway PROTOCOL_ERROR"},
		{"5.1 idle: window update", func(r *rawClient) { r.framer.WriteWindowUpdate(1, 1) }, 0, "goaway PROTOCOL_ERROR"},
		{"5.1 idle: priority is allowed", func(r *rawClient) {
			r.framer.WritePriority(1, http2.PriorityParam{Weight: 1})
			r.call(3)
		}, 3, "200 0"},
		{"5.1 half-closed: data", func(r *rawClient) {
			r.headers(1, true, callFields(holdPath)...)
			r.data(1, true, "x")
		}, 1, "reset STREAM_CLOSED"},
		{"5.1 half-closed: headers", func(r *rawClient) {
			r.headers(1, true, callFields(holdPath)...)
			r.headers(1, true, "x", "y")
		}, 1, "reset STREAM_CLOSED"},
		{"5.1 closed: data", func(r *rawClient) {
			r.call(1)
			r.want(1, "200 0")
			r.data(1, true, "x")
		}, 1, "reset STREAM_CLOSED"},
		{"5.1 closed: headers", func(r *rawClient) {
			r.call(1)
			r.want(1, "200 0")
			r.headers(1, true, callFields(unaryPath)...)
		}, 0, "goaway STREAM_CLOSED"},
		{"5.1 closed: a window update", func(r *rawClient) {
			r.call(1)
			r.want(1, "200 0")
			r.framer.WriteWindowUpdate(1, 1)
			r.framer.WriteRSTStream(1, http2.ErrCodeCancel)
			r.call(3)
		}, 3, "200 0"},
		{"5.1 reset by the server: frames under way", func(r *rawClient) {
			r.headers(1, false, callFields("/no.such/Method")...)
			r.want(1, "200 12 unknown service no.such")
			r.data(1, false, "x")
			r.headers(1, true, "x", "y")
			r.call(3)
		}, 3, "200 0"},
		{"5.1 closed by a reset: headers", func(r *rawClient) {
			open(r)
			r.framer.WriteRSTStream(1, http2.ErrCodeCancel)
			r.call(3)
		}, 3, "200 0"},
		{"5.1.1 an even stream", func(r *rawClient) { r.headers(2, true, callFields(unaryPath)...) }, 0, "goaway PROTOCOL_ERROR"},
		{"5.1.1 stream 0", func(r *rawClient) { r.headers(0, true, callFields(unaryPath)...) }, 0, "goaway PROTOCOL_ERROR"},
		{"5.1.1 a lower stream than before", func(r *rawClient) {
			r.call(5)
			r.want(5, "200 0")
			r.call(3)
		}, 0, "goaway STREAM_CLOSED"},
		{"6.1 data on stream 0", func(r *rawClient) { r.raw(http2.FrameData, 0, 0, "x") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.1 padding of the whole frame", func(r *rawClient) {
			open(r)
			r.raw(http2.FrameData, http2.FlagDataPadded, 1, "\x05abcde")
			r.raw(http2.FrameData, http2.FlagDataPadded, 1, "\x05abcd")
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.1 padding is not content", func(r *rawClient) {
			r.headers(1, false, callFields(unaryPath)...)
			r.check(r.framer.WriteDataPadded(1, true, []byte(unaryMessage(r.t, 1)), make([]byte, 100)))
		}, 1, "200 0"},
		{"6.2 padded headers", func(r *rawClient) {
			r.check(r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(r.encode(callFields(unaryPath)...)),
				EndHeaders: true, PadLength: 200, Priority: http2.PriorityParam{Weight: 3}}))
			r.data(1, true, unaryMessage(r.t, 1))
		}, 1, "200 0"},
		{"6.2 headers padded too much", func(r *rawClient) {
			r.raw(http2.FrameHeaders, endHeaders|http2.FlagHeadersPadded, 1, "\x09abc")
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.2 headers within headers", func(r *rawClient) {
			r.raw(http2.FrameHeaders, 0, 1, "\x83")
			r.raw(http2.FrameHeaders, endHeaders, 3, "\x83")
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.2 data within headers", func(r *rawClient) {
			r.raw(http2.FrameHeaders, 0, 1, "\x83")
			r.raw(http2.FrameData, 0, 1, "x")
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.3 priority on stream 0", func(r *rawClient) { r.raw(http2.FramePriority, 0, 0, "12345") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.3 priority of another size", func(r *rawClient) { open(r); r.raw(http2.FramePriority, 0, 1, "1234") }, 1, "reset FRAME_SIZE_ERROR"},
		{"5.3 a stream that depends on itself", func(r *rawClient) {
			r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(r.encode(callFields(unaryPath)...)),
				EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 1, Weight: 3}})
		}, 1, "reset PROTOCOL_ERROR"},
		{"6.4 reset on stream 0", func(r *rawClient) { r.raw(http2.FrameRSTStream, 0, 0, "\x00\x00\x00\x08") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.4 reset of another size", func(r *rawClient) { open(r); r.raw(http2.FrameRSTStream, 0, 1, "\x00\x00\x08") }, 0, "goaway FRAME_SIZE_ERROR"},
		{"6.5 settings of a stream", func(r *rawClient) { r.raw(http2.FrameSettings, 0, 1, "") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.5 an ack with content", func(r *rawClient) { r.raw(http2.FrameSettings, http2.FlagSettingsAck, 0, "x") }, 0, "goaway FRAME_SIZE_ERROR"},
		{"6.5 settings of another size", func(r *rawClient) { r.raw(http2.FrameSettings, 0, 0, "12345") }, 0, "goaway FRAME_SIZE_ERROR"},
		{"6.5.2 ENABLE_PUSH", func(r *rawClient) {
			r.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.5.2 INITIAL_WINDOW_SIZE", func(r *rawClient) {
			r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}, 0, "goaway FLOW_CONTROL_ERROR"},
		{"6.5.2 MAX_FRAME_SIZE too small", func(r *rawClient) {
			r.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1<<14 - 1})
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.5.2 MAX_FRAME_SIZE too large", func(r *rawClient) {
			r.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 24})
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.5.2 unknown settings are ignored", func(r *rawClient) {
			r.framer.WriteSettings(http2.Setting{ID: 0x99, Val: 1 << 31})
			r.call(1)
		}, 1, "200 0"},
		{"6.6 push", func(r *rawClient) { r.raw(http2.FramePushPromise, endHeaders, 1, "\x00\x00\x00\x02\x83") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.7 ping of a stream", func(r *rawClient) { r.raw(http2.FramePing, 0, 1, "12345678") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.7 ping of another size", func(r *rawClient) { r.raw(http2.FramePing, 0, 0, "1234567") }, 0, "goaway FRAME_SIZE_ERROR"},
		{"6.8 goaway of a stream", func(r *rawClient) { r.raw(http2.FrameGoAway, 0, 1, "12345678") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.8 calls under way go on", func(r *rawClient) {
			r.headers(1, false, callFields(unaryPath)...)
			r.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
			r.data(1, true, unaryMessage(r.t, 1))
		}, 1, "200 0"},
		{"6.9 a window update of nothing", func(r *rawClient) { open(r); r.raw(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00") }, 1, "reset PROTOCOL_ERROR"},
		{"6.9 the same of the connection", func(r *rawClient) { r.raw(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.9 a window update of another size", func(r *rawClient) { open(r); r.raw(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x01") }, 0, "goaway FRAME_SIZE_ERROR"},
		{"6.9.1 a stream's window too large", func(r *rawClient) { open(r); r.raw(http2.FrameWindowUpdate, 0, 1, u31) }, 1, "reset FLOW_CONTROL_ERROR"},
		{"6.9.1 the connection's window too large", func(r *rawClient) { r.raw(http2.FrameWindowUpdate, 0, 0, u31) }, 0, "goaway FLOW_CONTROL_ERROR"},
		{"6.9.1 more data than the stream's window", func(r *rawClient) {
			r.headers(1, false, callFields(unaryPath)...)
			for range 5 { // empty messages, which nobody takes before the end
				r.data(1, false, strings.Repeat("\x00", 16384))
			}
		}, 1, "reset FLOW_CONTROL_ERROR"},
		{"6.9.2 a setting makes a window too large", func(r *rawClient) {
			open(r)
			r.raw(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\x00\x00")
			r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}, 0, "goaway FLOW_CONTROL_ERROR"},
		{"6.10 a continuation of nothing", func(r *rawClient) { r.raw(http2.FrameContinuation, endHeaders, 1, "\x83") }, 0, "goaway PROTOCOL_ERROR"},
		{"6.10 a continuation of another stream", func(r *rawClient) {
			r.raw(http2.FrameHeaders, 0, 1, "\x83")
			r.raw(http2.FrameContinuation, endHeaders, 3, "\x83")
		}, 0, "goaway PROTOCOL_ERROR"},
		{"6.10 headers in pieces", func(r *rawClient) {
			block := r.encode(callFields(unaryPath)...)
			r.raw(http2.FrameHeaders, 0, 1, block[:3])
			r.raw(http2.FrameContinuation, 0, 1, block[3:4])
			r.raw(http2.FrameContinuation, 0, 1, "")
			r.raw(http2.FrameContinuation, endHeaders, 1, block[4:])
			r.data(1, true, unaryMessage(r.t, 1))
		}, 1, "200 0"},
		{"8.1 trailers of a request", func(r *rawClient) {
			r.headers(1, false, callFields(unaryPath)...)
			r.data(1, false, unaryMessage(r.t, 1))
			r.headers(1, true, "x-trailer", "1")
		}, 1, "200 0"},
		{"8.1 trailers that do not end", func(r *rawClient) { open(r); r.headers(1, false, "x-trailer", "1") }, 1, "reset PROTOCOL_ERROR"},
		{"8.1 a pseudo-header in trailers", func(r *rawClient) { open(r); r.headers(1, true, ":path", "/") }, 1, "reset PROTOCOL_ERROR"},
		{"8.2.1 an upper-case name", fields(with("X-Big", "1")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.1 a space in a name", fields(with("a b", "1")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.1 a line break in a value", fields(with("a", "1\r\n2")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.2 connection", fields(with("connection", "close")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.2 transfer-encoding", fields(with("transfer-encoding", "chunked")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.2 upgrade", fields(with("upgrade", "h2c")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.2 keep-alive", fields(with("keep-alive", "1")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.2 proxy-connection", fields(with("proxy-connection", "1")), 1, "reset PROTOCOL_ERROR"},
		{"8.2.2 te", fields(func(f []string) []string { return append(without("te")(f), "te", "gzip") }), 1, "reset PROTOCOL_ERROR"},
		{"8.3 a pseudo-header behind others", fields(func(f []string) []string {
			return append(without(":path")(f), ":path", unaryPath)
		}), 1, "reset PROTOCOL_ERROR"},
		{"8.3 unknown pseudo-header", func(r *rawClient) {
			r.headers(1, true, append([]string{":what", "1"}, callFields(unaryPath)...)...)
		}, 1, "reset PROTOCOL_ERROR"},
		{"8.3 a pseudo-header of responses", func(r *rawClient) {
			r.headers(1, true, append([]string{":status", "200"}, callFields(unaryPath)...)...)
		}, 1, "reset PROTOCOL_ERROR"},
		{"8.3.1 no method", fields(without(":method")), 1, "reset PROTOCOL_ERROR"},
		{"8.3.1 no scheme", fields(without(":scheme")), 1, "reset PROTOCOL_ERROR"},
		{"8.3.1 no path", fields(without(":path")), 1, "reset PROTOCOL_ERROR"},
		{"8.3.1 an empty path", fields(func(f []string) []string { f[5] = ""; return f }), 1, "reset PROTOCOL_ERROR"},
		{"8.3.1 a pseudo-header twice", func(r *rawClient) {
			r.headers(1, true, append([]string{":path", "/"}, callFields(unaryPath)...)...)
		}, 1, "reset PROTOCOL_ERROR"},
		{"8.1.1 a content-length that is not met", func(r *rawClient) {
			r.headers(1, false, callFields(unaryPath, "content-length", "3")...)
			r.data(1, true, "1234")
		}, 1, "reset PROTOCOL_ERROR"},
		{"8.1.1 a content-length without content", fields(with("content-length", "3")), 1, "reset PROTOCOL_ERROR"},
		{"8.1.1 two content-lengths", fields(with("content-length", "3", "content-length", "4")), 1, "reset PROTOCOL_ERROR"},
		{"8.1.1 a content-length that is met", func(r *rawClient) {
			m := unaryMessage(r.t, 1)
			r.headers(1, false, callFields(unaryPath, "content-length", strconv.Itoa(len(m)))...)
			r.data(1, true, m)
		}, 1, "200 0"},
	} {
		t.Run(c.section, func(t *testing.T) {
			k := newTestKit(t, Options{})
			r := k.rawClient().hello()
			c.does(r)
			r.want(c.stream, c.want)
		})
	}
}
