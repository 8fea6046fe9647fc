package inspect

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.RemoveBinary()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is where tools has built to.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// tools builds the real etcd and its tools, once for all tests.
func tools(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "keelson-inspect-tools"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", built.dir, "./cmd/etcd-peer", "go.etcd.io/etcd/etcdutl/v3")
		build.Dir = filepath.Join("..", "peer")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build etcd-peer and etcdutl: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// etcd is a real one, with its own tools.
type etcd struct {
	t            *testing.T
	tools        string // where the programs are
	client, peer string
	dir          string
	cmd          *exec.Cmd
}

func newEtcd(t *testing.T) *etcd {
	e := &etcd{t: t, tools: tools(t), client: testkit.FreeAddress(t), peer: testkit.FreeAddress(t), dir: filepath.Join(t.TempDir(), "etcd")}
	t.Cleanup(func() {
		if e.cmd != nil {
			e.cmd.Process.Kill()
			e.cmd.Wait()
		}
	})
	return e
}

func (e *etcd) start(more ...string) *clientv3.Client {
	e.t.Helper()
	e.cmd = exec.Command(filepath.Join(e.tools, "etcd-peer"), append([]string{
		"--data-dir", e.dir, "--name=m1", "--listen-client-urls=http://" + e.client, "--listen-peer-urls=http://" + e.peer,
	}, more...)...)
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 5)); n == 0 {
		e.t.Fatalf("etcd is not ready: %v", err)
	}
	return connect(e.t, e.client)
}

func (e *etcd) stop() {
	e.t.Helper()
	e.cmd.Process.Signal(os.Interrupt)
	e.cmd.Wait()
	e.cmd = nil
}

// kill ends it as a power cut does.
func (e *etcd) kill() {
	e.t.Helper()
	e.cmd.Process.Kill()
	e.cmd.Wait()
	e.cmd = nil
}

func (e *etcd) utl(args ...string) {
	e.t.Helper()
	if out, err := exec.Command(filepath.Join(e.tools, "etcdutl"), args...).CombinedOutput(); err != nil {
		e.t.Fatalf("etcdutl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func connect(t *testing.T, endpoint string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// fill stores what an export must not lose: versions, deletions, a compacted history, leases, users and roles.
func fill(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := c.Grant(ctx, 7200)
	must(l, err)
	for i := range 30 {
		must(c.Put(ctx, fmt.Sprintf("k%d", i%10), fmt.Sprint(i)))
	}
	must(c.Delete(ctx, "k3"))
	must(c.Compact(ctx, 15))
	must(c.Put(ctx, "leased", "v", clientv3.WithLease(l.ID)))
	must(c.Put(ctx, "k3", "again"))
	must(c.Delete(ctx, "k4"))
	must(c.RoleAdd(ctx, "reader"))
	must(c.RoleGrantPermission(ctx, "reader", "k", "l", clientv3.PermissionType(clientv3.PermRead)))
	must(c.UserAdd(ctx, "alice", "secret"))
	must(c.UserGrantRole(ctx, "alice", "reader"))
}

// portrait is everything that clients can see and that has to be the same on both sides.
func portrait(t *testing.T, c *clientv3.Client, endpoint string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h, err := c.HashKV(ctx, endpoint, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("revision %d hash %d compacted %d\n", h.Header.Revision, h.Hash, h.CompactRevision)
	for rev := int64(15); rev <= h.Header.Revision; rev++ {
		r, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.Kvs {
			text += fmt.Sprintf("%d: %s=%s %d %d %d %x\n", rev, kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
		}
	}
	leases, err := c.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		ttl, err := c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("lease %x %d %q\n", l.ID, ttl.GrantedTTL, ttl.Keys)
	}
	users, err := c.UserList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range users.Users {
		u, err := c.UserGet(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("user %s %q\n", name, u.Roles)
	}
	role, err := c.RoleGet(ctx, "reader")
	if err != nil {
		t.Fatal(err)
	}
	return text + fmt.Sprintf("role %v\n", len(role.Perm)) + string(role.Perm[0].Key) + string(role.Perm[0].RangeEnd)
}

// run carries out a command of keelson.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(testkit.Binary(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("keelson %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestThereAndBack takes a real etcd's data over, by its snapshot and by its data directory, and gives it back to a real
// etcd. Whatever clients can see is the same at every station.
func TestThereAndBack(t *testing.T) {
	real := newEtcd(t)
	c := real.start()
	fill(t, c)
	want := portrait(t, c, real.client)
	snapshot := filepath.Join(t.TempDir(), "saved.db")
	run(t, "snapshot", "save", snapshot, "--endpoints", real.client)
	real.stop()

	stations := map[string][]string{
		"snapshot":       {"--snapshot", snapshot},
		"data directory": {"--data-dir", real.dir},
	}
	for name, source := range stations {
		t.Run(name, func(t *testing.T) {
			p := testkit.NewProcess(t)
			founding := []string{"--name=" + p.Name, "--initial-cluster=" + p.Name + "=http://" + p.Peer, "--initial-advertise-peer-urls=http://" + p.Peer}
			arguments := append(append([]string{"import", "etcd", "--to", p.DataDir}, source...), founding...)
			if said := run(t, append(arguments, "--dry-run")...); !strings.Contains(said, "nothing was written") {
				t.Errorf("dry run: %s", said)
			}
			run(t, arguments...)
			p.Start()
			if got := portrait(t, p.Client(), p.Endpoint); got != want {
				t.Errorf("here:\n%s\nin etcd:\n%s", got, want)
			}
			online := filepath.Join(t.TempDir(), "online.db")
			run(t, "export", "etcd", online, "--endpoints", p.Endpoint)
			p.Stop()
			if said := run(t, "verify", p.DataDir); strings.Contains(said, "BAD") {
				t.Errorf("verify: %s", said)
			}
			offline := filepath.Join(t.TempDir(), "offline.db")
			run(t, "export", "etcd", offline, "--data-dir", p.DataDir)
			for _, file := range []string{online, offline} {
				back := &etcd{t: t, tools: real.tools, client: testkit.FreeAddress(t), peer: testkit.FreeAddress(t), dir: filepath.Join(t.TempDir(), "back")}
				back.utl("snapshot", "restore", file, "--data-dir", back.dir, "--name=m1", "--initial-cluster=m1=http://"+back.peer, "--initial-advertise-peer-urls=http://"+back.peer)
				if got := portrait(t, back.start(), back.client); got != want {
					t.Errorf("back in etcd:\n%s\nat first:\n%s", got, want)
				}
				back.stop()
			}
		})
	}
	sameReports(t, real, snapshot)
}

// sameReports compares what etcdutl and ours say of one file.
func sameReports(t *testing.T, real *etcd, snapshot string) {
	for _, args := range []string{"snapshot status", "hashkv", "hashkv --rev 20"} {
		for _, format := range []string{"simple", "json", "fields", "table"} {
			words := append(strings.Fields(args), snapshot, "-w", format)
			theirs, err := exec.Command(filepath.Join(real.tools, "etcdutl"), words...).Output()
			if err != nil {
				t.Fatalf("etcdutl %q: %v", words, err)
			}
			var ours, errs bytes.Buffer
			if code := Etcdutl(words, &ours, &errs); code != 0 || ours.String() != string(theirs) {
				t.Errorf("etcdutl %q: %d\n%s%s\nwant\n%s", words, code, &ours, &errs, theirs)
			}
		}
	}
}

// TestRepair damages the log of a lone member, and has it start again.
func TestRepair(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	c := p.Client()
	if _, err := c.Put(t.Context(), "kept", "1"); err != nil {
		t.Fatal(err)
	}
	p.Stop() // everything is flushed
	segments, err := filepath.Glob(filepath.Join(p.DataDir, "member", "wal", "*.raftlog"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("%v, %v", segments, err)
	}
	if said := run(t, "repair", p.DataDir); !strings.Contains(said, "nothing to repair") {
		t.Errorf("a whole directory: %s", said)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 600; i < 640; i++ {
		text[i] ^= 0x55
	}
	if err := os.WriteFile(segments[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testkit.Binary(t), "verify", p.DataDir).CombinedOutput(); err == nil || !strings.Contains(string(out), "BAD  log:") {
		t.Fatalf("verify of a damaged log: %v\n%s", err, out)
	}
	if said := run(t, "repair", p.DataDir, "--dry-run"); !strings.Contains(said, "would put the log") {
		t.Errorf("dry run: %s", said)
	}
	if out, err := exec.Command(testkit.Binary(t), "repair", p.DataDir).CombinedOutput(); err == nil || !strings.Contains(string(out), "--accept-data-loss") {
		t.Errorf("repair without consent: %v\n%s", err, out)
	}
	run(t, "repair", p.DataDir, "--accept-data-loss")
	p.Start()
	r, err := p.Client().Get(t.Context(), "kept")
	if err != nil || len(r.Kvs) != 1 {
		t.Errorf("after the repair: %v, %v", r, err)
	}
}
