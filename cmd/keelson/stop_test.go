package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"keelson/internal/testkit"
)

// graceful makes the grace that calls under way are given, a request timeout, 45 s: no loaded machine takes that long to end.
const graceful = "--election-timeout=20000"

// stopSoon stops a graceful member and fails if that took as long as the grace. What is open ends at once, not by running out of that.
func stopSoon(t *testing.T, p *testkit.Process) {
	t.Helper()
	begun := time.Now()
	state := p.Stop()
	if took := time.Since(begun); took >= 45*time.Second {
		t.Errorf("stopping took %v: the whole grace", took)
	}
	if !strings.Contains(state.String(), "terminated") {
		t.Errorf("ended by %v, want by the signal", state)
	}
	if !strings.Contains(p.Log(), "closed etcd server") {
		t.Errorf("no word of a clean end:\n%s", p.Log())
	}
}

// TestStopEndsStreams: whatever streams clients have open when a member stops, they are told that it stops, and do not
// hold it up.
func TestStopEndsStreams(t *testing.T) {
	p := testkit.NewProcess(t, graceful)
	p.Start()
	ctx := testContext(t)
	c := p.Client()
	lease, err := c.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAlive(ctx, lease.ID); err != nil { // comes back by itself, for as long as it takes
		t.Fatal(err)
	}
	watch, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || !r.Created {
		t.Fatal(r, err)
	}
	alive, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease.ID)}); err != nil {
		t.Fatal(err)
	}
	if r, err := alive.Recv(); err != nil || r.TTL != 600 {
		t.Fatal(r, err)
	}
	stopSoon(t, p)
	want := status.Convert(rpctypes.ErrGRPCStopped)
	for what, recv := range map[string]func() error{
		"watch":      func() error { _, err := watch.Recv(); return err },
		"keep-alive": func() error { _, err := alive.Recv(); return err },
	} {
		got := status.Convert(recv())
		if got.Code() != want.Code() || got.Message() != want.Message() {
			t.Errorf("%s ends with %v %q, want %v %q", what, got.Code(), got.Message(), want.Code(), want.Message())
		}
	}
}

// TestStopEndsGatewayWatch: a watch over HTTP ends with the same error, as its last line.
func TestStopEndsGatewayWatch(t *testing.T) {
	p := testkit.NewProcess(t, graceful)
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+p.Endpoint+"/v3/watch",
		strings.NewReader(`{"create_request":{"key":"Zm9v"}}`))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	created := make([]byte, 4096)
	n, err := reply.Body.Read(created)
	if err != nil || !bytes.Contains(created[:n], []byte("created")) {
		t.Fatalf("%q, %v", created[:n], err)
	}
	stopSoon(t, p)
	rest, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf(`{"error":{"code":14,"message":"%s"}}`, "etcdserver: server stopped")
	if got := strings.TrimSpace(spaces.ReplaceAllString(string(rest), "$1$2")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestStopWithASilentClient: a client that connects and then says nothing does not hold up the end.
func TestStopWithASilentClient(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	for _, first := range []string{"", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n"} {
		conn, err := net.Dial("tcp", p.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Client().Put(testContext(t), "k", "v"); err != nil { // they are accepted in order
		t.Fatal(err)
	}
	p.Stop()
	if !strings.Contains(p.Log(), "closed etcd server") {
		t.Errorf("no word of a clean end:\n%s", p.Log())
	}
}

// TestDiskFailureEndsTheMember: when the log can't be written any more the process ends at once, non-zero, with a line
// that says why, and what was acknowledged before is there at the next start.
func TestDiskFailureEndsTheMember(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Fatal("this test needs prlimit:", err)
	}
	p := testkit.NewProcess(t)
	p.Start()
	ctx := testContext(t)
	c := p.Client()
	if _, err := c.Put(ctx, "k", "acknowledged"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("prlimit", "--fsize=1", "--pid", strconv.Itoa(p.PID())).CombinedOutput(); err != nil {
		t.Fatalf("prlimit: %v %s", err, out)
	}
	if _, err := c.Put(ctx, "k", "lost"); err == nil {
		t.Error("a write was acknowledged without a log")
	}
	for syscall.Kill(p.PID(), 0) == nil {
		time.Sleep(time.Millisecond)
	}
	if state := p.Stop(); state.ExitCode() != 1 {
		t.Errorf("ended by %v, want exit status 1", state)
	}
	var last string
	for line := range strings.Lines(p.Log()) {
		last = line
	}
	if !strings.Contains(last, `"level":"fatal"`) || !strings.Contains(last, "raftlog: append: write") {
		t.Errorf("the last line is %s", last)
	}
	p.Start()
	if r, err := c.Get(ctx, "k"); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "acknowledged" {
		t.Errorf("after the restart: %v, %v", r, err)
	}
}
