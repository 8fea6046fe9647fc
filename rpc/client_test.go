package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// rawClient speaks frames, legal or not.
type rawClient struct {
	t       testing.TB
	conn    net.Conn
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
	answers map[uint32]*answer // by stream
}

// rawClient connects without saying anything.
func (k *kit) rawClient() *rawClient {
	k.t.Helper()
	conn, err := net.Dial("tcp", k.listener.Addr().String())
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // a server that does not answer fails the test
	r := &rawClient{t: k.t, conn: conn, framer: http2.NewFramer(conn, conn), answers: map[uint32]*answer{}}
	r.framer.AllowIllegalWrites = true
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.encoder = hpack.NewEncoder(&r.block)
	return r
}

// hello sends preface and settings.
func (r *rawClient) hello(settings ...http2.Setting) *rawClient {
	r.t.Helper()
	r.write([]byte(http2.ClientPreface))
	r.check(r.framer.WriteSettings(settings...))
	return r
}

func (r *rawClient) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rawClient) write(b []byte) {
	r.t.Helper()
	_, err := r.conn.Write(b)
	r.check(err)
}

// together sends what say says in one piece.
func (r *rawClient) together(say func()) {
	r.t.Helper()
	var b bytes.Buffer
	direct := r.framer
	r.framer = http2.NewFramer(&b, nil)
	r.framer.AllowIllegalWrites = true
	say()
	r.framer = direct
	r.write(b.Bytes())
}

// raw sends one frame as it is given.
func (r *rawClient) raw(kind http2.FrameType, flags http2.Flags, stream uint32, payload string) {
	r.t.Helper()
	r.check(r.framer.WriteRawFrame(kind, flags, stream, []byte(payload)))
}

// encode makes a header block of names and values.
func (r *rawClient) encode(fields ...string) string {
	r.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		r.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return r.block.String()
}

// callFields are the fields of a call, and more.
func callFields(path string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "test",
		"content-type", "application/grpc", "te", "trailers"}, more...)
}

const (
	unaryPath  = pb.TestService_UnaryCall_FullMethodName
	duplexPath = pb.TestService_FullDuplexCall_FullMethodName
	inputPath  = pb.TestService_StreamingInputCall_FullMethodName
)

// headers opens a stream.
func (r *rawClient) headers(stream uint32, end bool, fields ...string) {
	r.t.Helper()
	r.check(r.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: []byte(r.encode(fields...)), EndHeaders: true, EndStream: end,
	}))
}

func (r *rawClient) data(stream uint32, end bool, b string) {
	r.t.Helper()
	r.check(r.framer.WriteData(stream, end, []byte(b)))
}

// unaryMessage is a message with its prefix, of a call whose answer has that many bytes.
func unaryMessage(t testing.TB, responseBytes int32) string {
	t.Helper()
	b, err := proto.Marshal(&pb.SimpleRequest{ResponseSize: responseBytes, Payload: &pb.Payload{Body: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	return prefixed(string(b))
}

func prefixed(message string) string {
	n := len(message)
	return string([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + message
}

// call makes a unary call that succeeds.
func (r *rawClient) call(stream uint32) {
	r.t.Helper()
	r.headers(stream, false, callFields(unaryPath)...)
	r.data(stream, true, unaryMessage(r.t, 1))
}

// answer is how a stream or a connection ended.
type answer struct {
	status, grpcStatus, message string
	header, trailer             map[string]string
	body                        string
	reset                       http2.ErrCode // of a stream that was reset
	goAway                      http2.ErrCode
	debug                       string
	ended                       string // status, reset, goaway, closed
}

func (a answer) String() string {
	switch a.ended {
	case "status":
		return strings.TrimSpace(fmt.Sprintf("%s %s %s", a.status, a.grpcStatus, a.message))
	case "reset":
		return "reset " + a.reset.String()
	case "goaway":
		return "goaway " + a.goAway.String()
	}
	return a.ended
}

// await reads until the stream ends, or the connection; a stream of 0 waits for the connection alone. Settings and pings
// are answered, windows are kept open. What other streams say is kept for when they are awaited.
func (r *rawClient) await(stream uint32) answer {
	r.t.Helper()
	for {
		a := r.answer(stream)
		if a.ended != "" {
			delete(r.answers, stream)
			return *a
		}
		f, err := r.framer.ReadFrame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				r.t.Fatalf("no end of stream %d: %+v", stream, a)
			}
			a.ended = "closed"
			return *a
		}
		r.note(stream, f)
	}
}

// answer is what was read of a stream so far.
func (r *rawClient) answer(stream uint32) *answer {
	a := r.answers[stream]
	if a == nil {
		a = &answer{header: map[string]string{}, trailer: map[string]string{}}
		r.answers[stream] = a
	}
	return a
}

// note takes a frame while stream is awaited.
func (r *rawClient) note(stream uint32, f http2.Frame) {
	a := r.answer(f.Header().StreamID)
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			r.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			r.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			a = r.answer(stream)
			a.goAway, a.debug, a.ended = f.ErrCode, string(f.DebugData()), "goaway"
		}
	case *http2.RSTStreamFrame:
		if a.ended == "" { // otherwise the server only says that it wants no more of the request
			a.reset, a.ended = f.ErrCode, "reset"
		}
	case *http2.DataFrame:
		a.body += string(f.Data())
		if n := uint32(len(f.Data())); f.StreamEnded() {
			a.ended = "status"
		} else if n > 0 {
			r.framer.WriteWindowUpdate(0, n)
			r.framer.WriteWindowUpdate(f.StreamID, n)
		}
	case *http2.MetaHeadersFrame:
		to := a.header
		if f.StreamEnded() {
			to, a.ended = a.trailer, "status"
		}
		for _, h := range f.Fields {
			to[h.Name] = h.Value
			switch h.Name {
			case ":status":
				a.status = h.Value
			case "grpc-status":
				a.grpcStatus = h.Value
			case "grpc-message":
				a.message = h.Value
			}
		}
	}
}

// want reads how a stream ended.
func (r *rawClient) want(stream uint32, want string) answer {
	r.t.Helper()
	a := r.await(stream)
	if a.String() != want {
		r.t.Errorf("stream %d: %s (%s), want %s", stream, a, a.debug, want)
	}
	return a
}

// wantClosed demands that the server closes the connection.
func (r *rawClient) wantClosed() {
	r.t.Helper()
	if _, err := io.Copy(io.Discard, r.conn); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			r.t.Error("the connection is still open")
		}
	}
}
