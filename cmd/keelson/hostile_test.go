package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"keelson/internal/testkit"
)

// memoryMax is what a member may take in memory while it is attacked: its caches and memtables are bounded by less than half
// of it.
const memoryMax = 1 << 30

// memoryMaxGRPC is the same with grpc-go's server, to which a connection is worth 30 KiB and three goroutines, whatever it does: half a
// gigabyte for all of them, and the heap may be three times what is alive.
const memoryMaxGRPC = 5 << 29

// TestHostileClientsOfAMember attacks a member on its client port and its peer port, with each of the gRPC servers. All the
// while somebody else reads and writes, and each of his calls succeeds; the member neither ends nor takes more memory than it
// should.
func TestHostileClientsOfAMember(t *testing.T) {
	for _, server := range []struct {
		name      string
		memoryMax int64
	}{{"keelson", memoryMax}, {"grpc-go", memoryMaxGRPC}} {
		t.Run(server.name, func(t *testing.T) {
			p := testkit.NewProcess(t, "--rpc-server="+server.name)
			p.Start()
			honest := beginHonest(t, p)
			for _, a := range attacks {
				t.Run(a.name, func(t *testing.T) {
					a.does(t, p)
					honest.goesOn(t)
					rss := memoryOf(t, p)
					t.Logf("takes %d MiB", rss>>20)
					if rss > server.memoryMax {
						t.Errorf("takes %d MiB", rss>>20)
					}
				})
			}
			honest.end()
			if state := p.Stop(); strings.Contains(p.Log(), "panic") {
				t.Errorf("ended with %v; the log tells of a panic", state)
			}
		})
	}
}

var attacks = []struct {
	name string
	does func(t *testing.T, p *testkit.Process)
}{
	{"rapid resets", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for i := range uint32(20_000) {
			h.headers(2*i+1, false, "/etcdserverpb.KV/Range")
			h.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}
		h.flush()
	}},
	{"pings", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for range 50_000 {
			h.framer.WritePing(false, [8]byte{})
		}
		h.flush()
		h.wantClosed(t)
	}},
	{"settings", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for range 50_000 {
			h.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
		}
		h.flush()
	}},
	{"window updates beyond all bounds", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for range 1000 {
			h.framer.WriteWindowUpdate(0, 1<<31-1)
		}
		h.flush()
	}},
	{"continuations without an end", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}})
		for range 20_000 {
			h.framer.WriteContinuation(1, false, bytes.Repeat([]byte{0x83}, 1000))
		}
		h.flush()
		h.wantClosed(t)
	}},
	{"huge headers", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for i := range uint32(20) {
			h.headers(2*i+1, true, "/etcdserverpb.KV/Range", "x", strings.Repeat("y", 1<<20))
		}
		h.flush()
	}},
	{"half open connections", func(t *testing.T, p *testkit.Process) {
		for i := range 3000 {
			h := dialHostile(t, p.Endpoint)
			io.WriteString(h.conn, http2.ClientPreface[:i%len(http2.ClientPreface)])
		}
	}},
	{"messages that lie about their length", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for i := range uint32(2000) {
			h.headers(2*i+1, false, "/etcdserverpb.KV/Put")
			h.framer.WriteData(2*i+1, false, []byte{0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3})
		}
		h.flush()
	}},
	{"compressed bomb", func(t *testing.T, p *testkit.Process) {
		conn := dialGRPC(t, p)
		var none pb.RangeResponse
		err := conn.Invoke(testContext(t), "/etcdserverpb.KV/Range", &none, &none, grpc.ForceCodec(bytesCodec{bomb(t, 512<<20)}), sendsGzip)
		if code := status.Code(err); code != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	}},
	{"deeply nested transactions", func(t *testing.T, p *testkit.Process) {
		conn := dialGRPC(t, p)
		for _, depth := range []int{100, 5000, 100_000} {
			var none pb.TxnResponse
			err := conn.Invoke(testContext(t), "/etcdserverpb.KV/Txn", &none, &none, grpc.ForceCodec(bytesCodec{nested(depth)}))
			if err == nil && depth > 100 {
				t.Errorf("%d levels are taken", depth)
			}
		}
	}},
	{"many streams on a connection", func(t *testing.T, p *testkit.Process) {
		h := dialHostile(t, p.Endpoint).preface()
		for i := range uint32(10_000) {
			h.headers(2*i+1, false, "/etcdserverpb.Watch/Watch")
		}
		h.flush()
	}},
	{"many watches on a stream", func(t *testing.T, p *testkit.Process) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stream, err := pb.NewWatchClient(dialGRPC(t, p)).Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		const watches = 50_000
		go func() {
			for range watches {
				create := &pb.WatchCreateRequest{Key: []byte("honest"), PrevKv: true}
				if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}) != nil {
					return
				}
			}
		}()
		for created := 0; created < watches; {
			r, err := stream.Recv()
			if err != nil {
				t.Errorf("after %d watches: %v", created, err)
				return
			}
			if r.Created {
				created++
			}
		}
	}},
	{"many connections", func(t *testing.T, p *testkit.Process) {
		all := make([]*hostile, min(manyConnections, filesMax(t)-filesSpared))
		for i := range all {
			all[i] = dialHostileFrom(t, i, p.Endpoint).preface()
			all[i].flush()
		}
		for _, h := range all { // until the member has dealt with all of them
			<-h.heard
		}
		t.Logf("%d connections", len(all))
	}},
	{"peer port: not a peer", func(t *testing.T, p *testkit.Process) {
		for _, said := range []string{
			"\x16\x03\x01\x02\x00\x01\x00", http2.ClientPreface, strings.Repeat("\x00", 1<<16), "GET " + strings.Repeat("/", 1<<20),
			"POST /raft/stream HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
			"GET /raft/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: kee",
			"GET /raft/stream HTTP/1.1\r\nX: " + strings.Repeat("y", 4<<20),
		} {
			for range 50 {
				io.WriteString(dialHostile(t, p.Peer).conn, said)
			}
		}
	}},
	{"peer port: another cluster or protocol", func(t *testing.T, p *testkit.Process) {
		s := p.AwaitStatus()
		for _, c := range []struct {
			cluster uint64
			to      uint64
			version int
			want    string
		}{
			{1, s.Header.MemberId, 1, "412"}, {s.Header.ClusterId, 1, 1, "412"}, {s.Header.ClusterId, s.Header.MemberId, 99, "426"},
		} {
			if got := shakeHands(t, p, c.cluster, c.to, c.version, nil); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
				t.Errorf("%+v: %.80q", c, got)
			}
		}
	}},
	{"peer port: huge frames", func(t *testing.T, p *testkit.Process) {
		s := p.AwaitStatus()
		frame := binary.LittleEndian.AppendUint32(nil, 255<<20) // its tail
		frame = append(frame, 0xff, 0x3f, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		frame = append(frame, bytes.Repeat([]byte{1}, 1<<20)...)
		for range 20 {
			if got := shakeHands(t, p, s.Header.ClusterId, s.Header.MemberId, 1, frame); !strings.HasPrefix(got, "HTTP/1.1 101") {
				t.Errorf("%.80q", got)
			}
		}
	}},
}

// honest is somebody who goes on reading and writing.
type honest struct {
	calls  atomic.Int64
	failed atomic.Pointer[error]
	done   sync.WaitGroup
	cancel context.CancelFunc
}

func beginHonest(t *testing.T, p *testkit.Process) *honest {
	ctx, cancel := context.WithCancel(context.Background())
	h := &honest{cancel: cancel}
	c := p.Client()
	h.done.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			err := h.call(ctx, c, fmt.Sprint(n))
			if err != nil && ctx.Err() == nil {
				h.failed.Store(&err)
			}
			h.calls.Add(1)
		}
	})
	t.Cleanup(h.end)
	return h
}

func (h *honest) call(ctx context.Context, c *clientv3.Client, value string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := c.Put(ctx, "honest", value); err != nil {
		return err
	}
	r, err := c.Get(ctx, "honest")
	if err == nil && (len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value) {
		err = fmt.Errorf("got %v, want %s", r.Kvs, value)
	}
	return err
}

// goesOn waits until a few more calls have succeeded.
func (h *honest) goesOn(t *testing.T) {
	t.Helper()
	until := h.calls.Load() + 3
	for h.calls.Load() < until {
		time.Sleep(time.Millisecond)
	}
	if err := h.failed.Swap(nil); err != nil {
		t.Errorf("others are not served: %v", *err)
	}
}

func (h *honest) end() {
	h.cancel()
	h.done.Wait()
}

// memoryOf is how many bytes a member has in memory.
func memoryOf(t *testing.T, p *testkit.Process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// hostile is a connection that says whatever it likes.
type hostile struct {
	conn   net.Conn
	heard  chan struct{} // closed when the first byte has come, or none will
	out    bytes.Buffer
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	closed chan struct{} // when the other side has closed it
}

func dialHostile(t *testing.T, address string) *hostile {
	t.Helper()
	return dialHostileFrom(t, 0, address)
}

// dialHostileFrom is dialHostile for one of many, which come from several loopback addresses.
func dialHostileFrom(t *testing.T, i int, address string) *hostile {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/connsPerAddress))}}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	h := &hostile{conn: conn, heard: make(chan struct{}), closed: make(chan struct{})}
	h.framer = http2.NewFramer(&h.out, nil)
	h.enc = hpack.NewEncoder(&h.block)
	return h
}

// preface begins HTTP/2, and reads what comes without looking at it.
func (h *hostile) preface() *hostile {
	h.out.WriteString(http2.ClientPreface)
	h.framer.WriteSettings()
	go func() {
		h.conn.Read(make([]byte, 1))
		close(h.heard)
		io.Copy(io.Discard, h.conn)
		close(h.closed)
	}()
	return h
}

// headers opens a stream for a call.
func (h *hostile) headers(stream uint32, end bool, path string, more ...string) {
	h.block.Reset()
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "a", "content-type", "application/grpc", "te", "trailers"}, more...)
	for i := 0; i < len(fields); i += 2 {
		h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	const most = 16 << 10
	b := h.block.Bytes()
	h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: end, EndHeaders: len(b) <= most, BlockFragment: b[:min(len(b), most)]})
	for b = b[min(len(b), most):]; len(b) > 0; b = b[min(len(b), most):] {
		h.framer.WriteContinuation(stream, len(b) <= most, b[:min(len(b), most)])
	}
	if h.out.Len() > 1<<20 {
		h.flush()
	}
}

// flush sends. That the other side does not want to hear of it any more is its right.
func (h *hostile) flush() {
	h.conn.Write(h.out.Bytes())
	h.out.Reset()
}

func (h *hostile) wantClosed(t *testing.T) {
	t.Helper()
	select {
	case <-h.closed:
	case <-time.After(time.Minute):
		t.Error("the connection is still open")
	}
}

func dialGRPC(t *testing.T, p *testkit.Process) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(p.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// bytesCodec sends bytes in place of whatever message.
type bytesCodec struct{ b []byte }

func (c bytesCodec) Marshal(any) ([]byte, error) { return c.b, nil }
func (c bytesCodec) Unmarshal([]byte, any) error { return nil }
func (c bytesCodec) Name() string                { return "proto" }

// asIs is a compressor for what is compressed already.
type asIs struct{}

func (asIs) Compress(w io.Writer) (io.WriteCloser, error) { return unclosed{w}, nil }
func (asIs) Decompress(r io.Reader) (io.Reader, error)    { return gzip.NewReader(r) }
func (asIs) Name() string                                 { return "gzip" }

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

var sendsGzip = grpc.UseCompressor("gzip")

func init() { encoding.RegisterCompressor(asIs{}) }

// bomb is a long run of zeros, compressed.
func bomb(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range size / len(zeros) {
		w.Write(zeros)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// nested is a transaction in a transaction and so on, encoded.
func nested(depth int) []byte {
	sizes := make([]int, depth+1) // of the transactions, from the innermost
	for i := 1; i <= depth; i++ {
		op := 1 + protowire.SizeBytes(sizes[i-1])
		sizes[i] = 1 + protowire.SizeBytes(op)
	}
	var b []byte
	for i := depth; i > 0; i-- {
		b = protowire.AppendTag(b, 2, protowire.BytesType) // success
		b = protowire.AppendVarint(b, uint64(1+protowire.SizeBytes(sizes[i-1])))
		b = protowire.AppendTag(b, 4, protowire.BytesType) // request_txn
		b = protowire.AppendVarint(b, uint64(sizes[i-1]))
	}
	return b
}

// shakeHands asks for a stream as some member, then says something, and returns what was answered.
func shakeHands(t *testing.T, p *testkit.Process, cluster, to uint64, version int, then []byte) string {
	t.Helper()
	h := dialHostile(t, p.Peer)
	defer h.conn.Close()
	fmt.Fprintf(h.conn, "GET /raft/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: keelson-peer\r\nKeelson-Protocol: %d\r\n"+
		"Keelson-Protocol-Min: %d\r\nKeelson-Cluster: %x\r\nKeelson-From: abc\r\nKeelson-To: %x\r\nKeelson-Stream: messages\r\n\r\n", version, version, cluster, to)
	answer := make([]byte, 4<<10)
	n, err := h.conn.Read(answer)
	if err != nil {
		t.Errorf("no answer: %v", err)
	}
	if then != nil {
		h.conn.Write(then)
		io.Copy(io.Discard, h.conn) // until it is closed
	}
	return string(answer[:n])
}
