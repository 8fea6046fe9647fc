package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0: from the clock")

// seed returns the seed of a random test and prints it.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with -seed %d", s)
	return s
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := goleak.Find(goleak.IgnoreAnyFunction("keelson/internal/testkit.init.func1.1")); code == 0 && err != nil {
		os.Stderr.WriteString(err.Error())
		code = 1
	}
	os.Exit(code)
}

func options(op Op, addr string) Options {
	o := Defaults(op)
	o.Endpoint = addr
	o.ServerPID = os.Getpid()
	return o
}

// run measures and fails the test on errors, refusals included.
func runs(t *testing.T, o Options) Result {
	t.Helper()
	var text bytes.Buffer
	result, err := Run(t.Context(), o, &text)
	if err != nil {
		t.Fatal(err)
	}
	if result.failures() != 0 {
		t.Fatalf("refusals:\n%s", text.String())
	}
	if !strings.HasPrefix(text.String(), string(o.Op)) || !strings.Contains(text.String(), "errors       0\n") {
		t.Fatalf("report:\n%s", text.String())
	}
	return result
}

// TestPutsArriveWhole sends values of sizes around the limits of frames and windows and looks at what came.
func TestPutsArriveWhole(t *testing.T) {
	s, addr := serve(t, grpc.MaxRecvMsgSize(1<<24))
	for _, size := range []int{0, 1, 256, 16<<10 - 40, 16 << 10, 65_536, 1 << 20} {
		o := options(OpPut, addr)
		n := 40
		if size > 65_536 {
			n = 6 // filling a value takes its time
		}
		o.ValueSize, o.KeySpace, o.Total, o.InFlight, o.Conns, o.Sequential = size, n, n, 20, 2, true
		s.mu.Lock()
		clear(s.pairs)
		s.mu.Unlock()
		result := runs(t, o)
		if result.Count != uint64(n) || result.P50 <= 0 || result.P999 < result.P50 || result.Max < result.P999 {
			t.Errorf("size %d: %+v", size, result)
		}
		want := valueOf(o.must(t))
		if len(s.pairs) != n {
			t.Errorf("size %d: %d keys arrived", size, len(s.pairs))
		}
		for key, value := range s.pairs {
			if len(key) != o.KeySize || !bytes.Equal(value, want) {
				t.Errorf("size %d: key %q has a value of %d bytes", size, key, len(value))
			}
		}
	}
}

func (o Options) must(t *testing.T) Options {
	t.Helper()
	o, err := o.completed()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestThousandsInFlight keeps more calls under way than the windows hold and the server takes streams.
func TestThousandsInFlight(t *testing.T) {
	s, addr := serve(t, grpc.MaxConcurrentStreams(100))
	o := options(OpPut, addr)
	o.InFlight, o.Conns, o.Total = 1000, 2, 10_000
	if result := runs(t, o); result.Count != 10_000 || s.puts.Load() != 10_000 {
		t.Errorf("%d answered, %d arrived", result.Count, s.puts.Load())
	}
}

// TestEachLoadSendsItsRequests runs each closed loop and counts what the server saw.
func TestEachLoadSendsItsRequests(t *testing.T) {
	s, addr := serve(t)
	load := func(op Op, total int, change func(*Options)) Result {
		o := options(op, addr)
		o.Total, o.InFlight, o.KeySpace = total, 50, 500
		if change != nil {
			change(&o)
		}
		return runs(t, o)
	}
	load(OpPut, 500, func(o *Options) { o.Sequential = true })
	if len(s.pairs) != 500 {
		t.Fatalf("%d keys", len(s.pairs))
	}
	if r := load(OpGet, 300, nil); s.gets.Load() != 300 || r.ReplyBytes < 300*256 {
		t.Errorf("%d gets, %d bytes", s.gets.Load(), r.ReplyBytes)
	}
	// 500 pairs are more than a frame, so their reply comes in pieces.
	if r := load(OpRange, 5, func(o *Options) { o.InFlight = 2 }); s.ranges.Load() != 5 || r.ReplyBytes < 5*500*256 {
		t.Errorf("%d ranges, %d bytes", s.ranges.Load(), r.ReplyBytes)
	}
	if load(OpTxn, 200, nil); s.txns.Load() != 200 {
		t.Errorf("%d transactions", s.txns.Load())
	}
	if load(OpGrant, 1000, nil); len(s.leases) != 1000 {
		t.Errorf("%d leases", len(s.leases))
	}
	if r := load(OpKeepAlive, 2000, nil); r.Count != 2000 || s.renewals.Load() != 2000 {
		t.Errorf("%d renewals, %d answered", s.renewals.Load(), r.Count)
	}
}

// TestRefusalsAreCounted has the server refuse some puts.
func TestRefusalsAreCounted(t *testing.T) {
	s, addr := serve(t)
	s.refuse = 7
	o := options(OpPut, addr)
	o.Total, o.InFlight = 100, 10
	var text bytes.Buffer
	result, err := Run(t.Context(), o, &text)
	if err != nil {
		t.Fatal(err)
	}
	const want = "gRPC status 8: etcdserver: too many requests"
	if result.Errors[want] != 7 || result.failures() != 7 || result.Count != 100 {
		t.Errorf("%+v", result)
	}
	if !strings.Contains(text.String(), "7   "+want) {
		t.Errorf("report:\n%s", text.String())
	}

	o = options(OpKeepAlive, addr)
	o.Total, o.InFlight = 20, 2
	if result, err = Run(t.Context(), o, io.Discard); err != nil || result.Errors["lease not found"] != 20 {
		t.Errorf("renewals of no lease: %+v, %v", result, err)
	}
}

// TestWatchCountsEveryEvent has each put delivered to each watcher.
func TestWatchCountsEveryEvent(t *testing.T) {
	_, addr := serve(t)
	o := options(OpWatch, addr)
	o.Watchers, o.Streams, o.Total, o.InFlight = 103, 10, 50, 5
	result := runs(t, o)
	if result.Watchers != 103 || result.Events != 103*50 || result.Count != 50 {
		t.Errorf("%+v", result)
	}
}

// TestIdleStreamsStayOpen opens idle streams and looks how many the server has meanwhile.
func TestIdleStreamsStayOpen(t *testing.T) {
	s, addr := serve(t)
	o := options(OpWatchIdle, addr)
	o.Streams, o.Duration = 1050, 50*time.Millisecond
	result := runs(t, o)
	if result.Watchers != 1050 || result.Count != 1050 {
		t.Errorf("%+v", result)
	}
	if s.puts.Load() != 0 {
		t.Errorf("%d puts", s.puts.Load())
	}
}

// TestRateIsKept starts requests at a rate far below what the server can do, and never more than are due.
func TestRateIsKept(t *testing.T) {
	s, addr := serve(t)
	o := options(OpPut, addr)
	o.Rate, o.Total, o.InFlight = 2000, 400, 100
	result := runs(t, o)
	if sent := uint64(s.puts.Load()); sent != result.Count || result.Count != 400 {
		t.Errorf("%d answered, %d arrived", result.Count, sent)
	}
	// 400 requests at 2000 per second cannot be started in less than 0.2 s, however fast the machine.
	if result.Elapsed < 190*time.Millisecond {
		t.Errorf("400 requests in %v", result.Elapsed)
	}
}

// TestRateCountsWhatWasDue has no free slot while a thousand requests become due.
func TestRateCountsWhatWasDue(t *testing.T) {
	l := &lane{errors: map[string]uint64{}}
	r := &run{options: Options{Rate: 1000}, lanes: []*lane{l}, begin: time.Now().Add(-time.Second)}
	r.left.Store(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.pace(ctx, nil, nil)
	if result := r.result(); result.Behind < 1000 || result.failures() != 0 || result.Count != 0 {
		t.Errorf("%+v", result)
	}
}

// TestCancelEndsTheRun cancels while the server answers nothing.
func TestCancelEndsTheRun(t *testing.T) {
	s, addr := serve(t)
	s.block = make(chan struct{})
	defer close(s.block)
	ctx, cancel := context.WithCancel(t.Context())
	o := options(OpPut, addr)
	o.InFlight, o.Total = 10, 1_000_000
	go func() {
		for s.puts.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := Run(ctx, o, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestLostServerIsAnError has the server go away in the middle.
func TestLostServerIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.ReadAtLeast(conn, make([]byte, 1<<16), 24)
			conn.Close()
		}
	}()
	defer func() { listener.Close(); <-done }()
	for _, op := range Ops {
		o := options(op, listener.Addr().String())
		o.Total, o.InFlight, o.Streams = 100, 10, 10
		if result, err := Run(t.Context(), o, io.Discard); err == nil {
			t.Errorf("%s: %+v", op, result)
		}
	}
	if _, err := Run(t.Context(), options(OpPut, "127.0.0.1:1"), io.Discard); err == nil {
		t.Error("no error without a server")
	}
}

// TestCommand runs the command line.
func TestCommand(t *testing.T) {
	_, addr := serve(t)
	var out, complaint bytes.Buffer
	args := strings.Fields("put --in-flight 10 --total 100 --json --server-pid 0 --endpoint " + addr)
	if code := command(args, &out, &complaint); code != 0 {
		t.Fatalf("exit code %d: %s", code, complaint.String())
	}
	var result Result
	if err := json.Unmarshal(out.Bytes(), &result); err != nil || result.Count != 100 || result.Measured {
		t.Errorf("%v: %s", err, out.String())
	}
	for _, c := range []struct {
		args string
		code int
	}{
		{"", 2}, {"put --no-such-flag", 2}, {"swap --endpoint " + addr, 1}, {"put --in-flight 0", 1}, {"put --key-size 3", 1},
		{"watch", 1}, {"put --conns -1", 1},
	} {
		if code := command(strings.Fields(c.args), io.Discard, io.Discard); code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
	}
}

// TestServerUsage looks at this very process, which has used time and memory.
func TestServerUsage(t *testing.T) {
	deadline := time.Now().Add(50 * time.Millisecond)
	for time.Now().Before(deadline) {
		rand.Uint64()
	}
	u, err := usageOf(os.Getpid())
	if err != nil {
		if _, statErr := os.Stat("/proc/self/stat"); statErr == nil {
			t.Fatal(err)
		}
		return // not Linux: there is nothing to read
	}
	if u.cpu <= 0 || u.rssBytes < 1<<20 || u.peakBytes < 1<<20 {
		t.Errorf("%+v", u)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("no error for a process that is not there")
	}
}
