package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"keelson/api/v3electionpb"
	"keelson/api/v3lockpb"
	"keelson/internal/testkit"
)

// dial connects to a member without the client library.
func dial(t *testing.T, p *testkit.Process) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestLockService has a client on each member of a cluster raise a counter that nothing but the lock protects: every step counts.
func TestLockService(t *testing.T) {
	c := steady(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const steps = 15
	done := make(chan error, len(c.Members))
	for i, p := range c.Members {
		conn := dial(t, p)
		go func() { done <- raise(ctx, v3lockpb.NewLockClient(conn), p.Client(), fmt.Sprint("m", i), steps) }()
	}
	for range c.Members {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Members[0].Client().Get(ctx, "counter")
	if err != nil {
		t.Fatal(err)
	}
	if kv := got.Kvs[0]; string(kv.Value) != fmt.Sprint(steps*len(c.Members)) || kv.Version != steps*int64(len(c.Members)) {
		t.Errorf("counter %s in %d writes, want %d", kv.Value, kv.Version, steps*len(c.Members))
	}
	left, err := c.Members[0].Client().Get(ctx, "steps/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(left.Kvs) != 0 {
		t.Errorf("locks that nobody holds: %v", left.Kvs)
	}
}

// raise takes the lock, adds one to the counter and gives the lock back, so many times.
func raise(ctx context.Context, locks v3lockpb.LockClient, c *clientv3.Client, who string, steps int) error {
	lease, err := c.Grant(ctx, 600)
	if err != nil {
		return err
	}
	for range steps {
		held, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("steps"), Lease: int64(lease.ID)})
		if err != nil {
			return fmt.Errorf("%s: lock: %w", who, err)
		}
		now, err := c.Get(ctx, "counter")
		if err != nil {
			return err
		}
		n := 0
		if len(now.Kvs) > 0 {
			if _, err := fmt.Sscan(string(now.Kvs[0].Value), &n); err != nil {
				return err
			}
		}
		if _, err := c.Put(ctx, "counter", fmt.Sprint(n+1)); err != nil {
			return err
		}
		if _, err := locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: held.Key}); err != nil {
			return fmt.Errorf("%s: unlock: %w", who, err)
		}
	}
	return nil
}

// A lock whose holder's lease ends goes to who waits on another member; the loss of that member ends its wait.
func TestLockServiceOverFailures(t *testing.T) {
	c := steady(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var leases []clientv3.LeaseID
	client := c.Members[0].Client()
	for range c.Members {
		l, err := client.Grant(ctx, 600)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l.ID)
	}
	lock := func(i int) chan error {
		done := make(chan error, 1)
		conn := dial(t, c.Members[i])
		go func() {
			_, err := v3lockpb.NewLockClient(conn).Lock(ctx, &v3lockpb.LockRequest{Name: []byte("n"), Lease: int64(leases[i])})
			done <- err
		}()
		awaitCount(ctx, t, client, "n/", int64(i)+1)
		return done
	}
	first, second, third := lock(0), lock(1), lock(2)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	c.Members[1].Kill()
	if err := <-second; err == nil {
		t.Error("a lock from a lost member")
	}
	if _, err := client.Revoke(ctx, leases[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Revoke(ctx, leases[0]); err != nil {
		t.Fatal(err)
	}
	if err := <-third; err != nil {
		t.Fatal(err)
	}
}

// awaitCount returns when there are so many keys under a prefix.
func awaitCount(ctx context.Context, t *testing.T, c *clientv3.Client, prefix string, n int64) {
	t.Helper()
	for {
		r, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		if r.Count == n {
			return
		}
	}
}

// TestEtcdctlLock takes locks with etcdctl, which holds them until it is told to stop, or its command ends.
func TestEtcdctlLock(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	holder := startEtcdctl(t, p, "lock", "mutex")
	if got := holder.lines(t, 1); !regexp.MustCompile(`^mutex/[0-9a-f]+\n$`).MatchString(got) {
		t.Errorf("lock: %q", got)
	}
	waiting := startEtcdctl(t, p, "lock", "mutex", "printenv", "ETCD_LOCK_KEY", "ETCD_LOCK_REV")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	awaitCount(ctx, t, p.Client(), "mutex/", 2)
	holder.stop(t)
	if got := waiting.lines(t, 2); !regexp.MustCompile(`^mutex/[0-9a-f]+\n\d+\n$`).MatchString(got) {
		t.Errorf("command of the second: %q", got)
	}
	waiting.wait(t)
	awaitCount(ctx, t, p.Client(), "mutex/", 0)
}

func TestEtcdctlElect(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	listener := startEtcdctl(t, p, "elect", "-l", "vote")
	first := startEtcdctl(t, p, "elect", "vote", "one")
	elected := regexp.MustCompile(`^vote/[0-9a-f]+\none\n$`)
	if got := first.lines(t, 2); !elected.MatchString(got) {
		t.Errorf("elected: %q", got)
	}
	if got := listener.lines(t, 2); !elected.MatchString(got) {
		t.Errorf("observed: %q", got)
	}
	second := startEtcdctl(t, p, "elect", "vote", "two")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	awaitCount(ctx, t, p.Client(), "vote/", 2)
	first.stop(t)
	if got := second.lines(t, 2); !strings.HasSuffix(got, "\ntwo\n") {
		t.Errorf("second: %q", got)
	}
	if got := listener.lines(t, 2); !strings.HasSuffix(got, "\ntwo\n") {
		t.Errorf("observed then: %q", got)
	}
	second.stop(t)
}

// TestInterruptedWait stops etcdctl and our own program of that name while they wait for what somebody else holds: nothing
// was reached, and they say so.
func TestInterruptedWait(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	ours := filepath.Join(t.TempDir(), "etcdctl")
	if err := os.Symlink(testkit.Binary(t), ours); err != nil {
		t.Fatal(err)
	}
	startEtcdctl(t, p, "lock", "mutex").lines(t, 1)
	startEtcdctl(t, p, "elect", "vote", "one").lines(t, 2)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := p.Client()
	for _, program := range []string{"etcdctl", ours} {
		for _, args := range [][]string{{"lock", "mutex"}, {"elect", "vote", "two"}} {
			waiting := startClient(t, p, program, args...)
			awaitCount(ctx, t, c, args[1]+"/", 2)
			waiting.stop(t)
			err := waiting.cmd.Wait()
			if code := waiting.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(waiting.errors.String(), "Error: context canceled") {
				t.Errorf("%s %v ended by %v: %q", program, args, err, waiting.errors.String())
			}
			awaitCount(ctx, t, c, args[1]+"/", 1)
		}
	}
}

// running is an etcdctl that goes on until it is stopped.
type running struct {
	cmd    *exec.Cmd
	output chan string // lines
	errors bytes.Buffer
}

func startEtcdctl(t *testing.T, p *testkit.Process, args ...string) *running {
	t.Helper()
	return startClient(t, p, "etcdctl", args...)
}

func startClient(t *testing.T, p *testkit.Process, program string, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(program, append([]string{"--endpoints=" + p.Endpoint}, args...)...), output: make(chan string, 16)}
	r.cmd.Env = patientEtcdctl()
	r.cmd.Stderr = &r.errors
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(r.output)
		var line []byte
		for buf := make([]byte, 1); ; {
			n, err := out.Read(buf)
			if line = append(line, buf[:n]...); n > 0 && buf[0] == '\n' {
				r.output <- string(line)
				line = nil
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		for range r.output {
		}
		<-read
		r.cmd.Wait()
	})
	return r
}

// lines are the next n lines of the output that are not empty.
func (r *running) lines(t *testing.T, n int) string {
	t.Helper()
	var got string
	late := time.After(time.Minute)
	for n > 0 {
		select {
		case line, ok := <-r.output:
			if !ok {
				t.Fatalf("got %q, then the end: %s", got, r.errors.String())
			}
			if line != "\n" {
				got += line
				n--
			}
		case <-late:
			t.Fatalf("got %q, then nothing", got)
		}
	}
	return got
}

// stop interrupts etcdctl, which gives up what it holds.
func (r *running) stop(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range r.output {
	}
}

// wait waits until etcdctl has ended by itself.
func (r *running) wait(t *testing.T) {
	t.Helper()
	for range r.output {
	}
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, r.errors.String())
	}
}

// TestCurlLockAndElection asks for locks and elections in JSON.
func TestCurlLockAndElection(t *testing.T) {
	testkit.Need(t, "curl")
	p := testkit.NewProcess(t)
	p.Start()
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	header := func(revision string) string {
		return `"header":\{"cluster_id":"\d+","member_id":"\d+","revision":"` + revision + `","raft_term":"\d+"\}`
	}
	leader := `{"name":"` + encode("e") + `","key":"` + encode("e/4d") + `","rev":"4","lease":"77"}`
	for _, c := range []struct {
		path, data, code, want string
	}{
		{"/v3/lease/grant", `{"TTL":600,"ID":"77"}`, "200", `\{` + header("1") + `,"ID":"77","TTL":"600"\}`},
		{"/v3/lock/lock", `{"name":"` + encode("l") + `","lease":77}`, "200", `\{` + header("2") + `,"key":"` + encode("l/4d") + `"\}`},
		{"/v3/lock/unlock", `{"key":"` + encode("l/4d") + `"}`, "200", `\{` + header("3") + `\}`},
		{"/v3/lock/unlock", `{"key":"` + encode("l/4d") + `"}`, "200", `\{` + header("3") + `\}`},
		{"/v3/lock/lock", `{"name":"` + encode("l") + `","lease":78}`, "500", `\{"code":2,"message":"etcdserver: requested lease not found"\}`},
		{"/v3/election/leader", `{"name":"` + encode("e") + `"}`, "500", `\{"code":2,"message":"election: no leader"\}`},
		{"/v3/election/campaign", `{"name":"` + encode("e") + `","lease":77,"value":"` + encode("v") + `"}`, "200",
			`\{` + header("4") + `,"leader":\{"name":"` + encode("e") + `","key":"` + encode("e/4d") + `","rev":"4","lease":"77"\}\}`},
		{"/v3/election/leader", `{"name":"` + encode("e") + `"}`, "200",
			`\{` + header("4") + `,"kv":\{"key":"` + encode("e/4d") + `","create_revision":"4","mod_revision":"4","version":"1","value":"` + encode("v") + `","lease":"77"\}\}`},
		{"/v3/election/proclaim", `{}`, "500", `\{"code":2,"message":"\\"leader\\" field must be provided"\}`},
		{"/v3/election/resign", `{}`, "500", `\{"code":2,"message":"\\"leader\\" field must be provided"\}`},
		{"/v3/election/proclaim", `{"leader":` + leader + `,"value":"` + encode("w") + `"}`, "200", `\{` + header("5") + `\}`},
		{"/v3/election/resign", `{"leader":` + leader + `}`, "200", `\{` + header("6") + `\}`},
		{"/v3/election/proclaim", `{"leader":` + leader + `}`, "500", `\{"code":2,"message":"election: not leader"\}`},
	} {
		body, code := curl(t, p, c.path, "-d", c.data)
		body = spaces.ReplaceAllString(body, "$1$2")
		if code != c.code || !regexp.MustCompile(`^`+c.want+`$`).MatchString(body) {
			t.Errorf("%s %s: got %s %s, want %s %s", c.path, c.data, code, body, c.code, c.want)
		}
	}
}

// TestWebsocketObserve follows an election through a websocket.
func TestWebsocketObserve(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	socket, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+p.Endpoint+"/v3/election/observe", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.WriteMessage(websocket.TextMessage, []byte(`{"name":"ZQ=="}`)); err != nil {
		t.Fatal(err)
	}
	elections := v3electionpb.NewElectionClient(dial(t, p))
	won, err := elections.Campaign(ctx, &v3electionpb.CampaignRequest{Name: []byte("e"), Value: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	want := func(value string) {
		t.Helper()
		_, line, err := socket.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		got := spaces.ReplaceAllString(string(line), "$1$2")
		if !strings.HasPrefix(got, `{"result":{"header":{`) || !strings.Contains(got, `"value":"`+base64.StdEncoding.EncodeToString([]byte(value))+`"`) {
			t.Fatalf("got %s, want %s", got, value)
		}
	}
	want("v")
	if _, err := elections.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: won.Leader, Value: []byte("w")}); err != nil {
		t.Fatal(err)
	}
	want("w")
}
