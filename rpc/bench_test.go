package rpc

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
)

// nullService answers with what it was sent, as little as a service can do.
type nullService struct {
	pb.UnimplementedTestServiceServer
}

func (nullService) UnaryCall(_ context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{Payload: r.Payload}, nil
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// lane is a client that costs next to nothing: requests are encoded once, replies are only counted, so that what is
// measured is the server. window calls are under way at any time.
type lane struct {
	conn   net.Conn
	out    []byte
	block  []byte
	body   []byte
	nextID uint32
}

func newLane(b testing.TB, address string, timeout bool) *lane {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	l := &lane{conn: conn, nextID: 1}
	l.out = append(l.out, http2.ClientPreface...)
	l.out = appendSettings(l.out, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}})
	l.out = appendWindowUpdate(l.out, 0, 1<<31-1-windowBytes)
	message, err := proto.Marshal(&pb.SimpleRequest{Payload: &pb.Payload{Body: make([]byte, 256)}})
	if err != nil {
		b.Fatal(err)
	}
	l.body = append([]byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))}, message...)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
		{Name: ":path", Value: pb.TestService_UnaryCall_FullMethodName}, {Name: ":authority", Value: address},
		{Name: "content-type", Value: "application/grpc"}, {Name: "user-agent", Value: "lane"}, {Name: "te", Value: "trailers"},
	}
	w := &blockWriter{}
	encoder := hpack.NewEncoder(w)
	for range 2 { // the second time all is in the table
		w.block = nil
		for _, f := range fields {
			encoder.WriteField(f)
		}
		if l.nextID == 1 {
			l.block = w.block
			l.add()
		}
	}
	l.block = w.block
	return l
}

type blockWriter struct{ block []byte }

func (w *blockWriter) Write(b []byte) (int, error) {
	w.block = append(w.block, b...)
	return len(b), nil
}

func (l *lane) add() {
	l.out = appendHeaderFrames(l.out, l.nextID, l.block, false, frameBytesMax)
	l.out = appendFrameHeader(l.out, len(l.body), http2.FrameData, http2.FlagDataEndStream, l.nextID)
	l.out = append(l.out, l.body...)
	l.nextID += 2
}

// run makes n calls, window of them at a time.
func (l *lane) run(b testing.TB, n, window int) {
	var in input
	in.init(l.conn)
	sent := int(l.nextID-1) / 2
	start := sent
	for sent < min(n, window) {
		l.add()
		sent++
	}
	_ = start
	for done := 0; done < n; {
		if len(l.out) > 0 {
			if _, err := l.conn.Write(l.out); err != nil {
				b.Fatal(err)
			}
			l.out = l.out[:0]
		}
		for first := true; first || in.hasFrame(); first = false {
			f, err := in.next()
			if err != nil {
				b.Fatal(err)
			}
			switch {
			case f.kind == http2.FrameSettings && f.flags == 0:
				l.out = appendSettingsAck(l.out)
			case f.kind == http2.FramePing && f.flags == 0:
				l.out = appendPing(l.out, http2.FlagPingAck, f.payload)
			case f.kind == http2.FrameHeaders && f.flags.Has(http2.FlagHeadersEndStream):
				done++
				if sent < n {
					l.add()
					sent++
				}
			case f.kind == http2.FrameRSTStream, f.kind == http2.FrameGoAway:
				b.Fatalf("%v %x", f.kind, f.payload)
			}
		}
		if l.nextID > 1<<30 {
			b.Fatal("no stream ids left")
		}
	}
}

// BenchmarkNull compares this server with grpc-go: the null service, on one connection. "cpu-us/op" is the processor time
// of the whole process, the client's share included, which is small.
func BenchmarkNull(b *testing.B) {
	for _, window := range []int{1, 64, 1000} {
		for _, kind := range []string{"rpc", "rpc-inline", "grpc-go"} {
			b.Run(fmt.Sprintf("%s/window=%d", kind, window), func(b *testing.B) {
				address := serveNull(b, kind)
				l := newLane(b, address, false)
				defer l.conn.Close()
				b.ReportAllocs()
				before := processorTime()
				b.ResetTimer()
				l.run(b, b.N, window)
				b.StopTimer()
				b.ReportMetric(float64((processorTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
			})
		}
	}
}

func serveNull(b testing.TB, kind string) string {
	if kind == "grpc-go" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		g := grpc.NewServer(grpc.NumStreamWorkers(1024))
		pb.RegisterTestServiceServer(g, nullService{})
		go g.Serve(l)
		b.Cleanup(g.Stop)
		return l.Addr().String()
	}
	o := Options{}
	if kind == "rpc-inline" {
		o.Inline = []string{pb.TestService_UnaryCall_FullMethodName}
	}
	k := newKit(b, o)
	pb.RegisterTestServiceServer(k.server, nullService{})
	k.serve()
	return k.listener.Addr().String()
}
