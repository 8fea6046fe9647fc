package inspect

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// TestKilledEtcd takes over from an etcd that was killed before its database held what it had acknowledged, and compares with
// the same etcd started again. In one case the log has a directory of its own, and etcd has cut off its beginning.
func TestKilledEtcd(t *testing.T) {
	real := newEtcd(t)
	t.Run("a member of ours", func(t *testing.T) { killedMember(t, real) })
	for name, apart := range map[string]bool{"log within": false, "log apart": true} {
		t.Run(name, func(t *testing.T) {
			e := &etcd{t: t, tools: real.tools, client: testkit.FreeAddress(t), peer: testkit.FreeAddress(t), dir: filepath.Join(t.TempDir(), "etcd")}
			flags, source := []string{"--backend-batch-interval=1h"}, []string{"--data-dir", e.dir}
			if apart {
				wal := filepath.Join(t.TempDir(), "wal")
				flags, source = append(flags, "--wal-dir", wal, "--snapshot-count=20"), append(source, "--from-wal-dir", wal)
			}
			c := e.start(flags...)
			fill(t, c)
			change(t, c, e.client)
			want := portrait(t, c, e.client)
			c.Close()
			e.kill()

			p := testkit.NewProcess(t)
			if apart {
				p.ExtraArgs = []string{"--wal-dir=" + filepath.Join(t.TempDir(), "ours")}
			}
			founding := append(p.ExtraArgs, "--name="+p.Name, "--initial-cluster="+p.Name+"=http://"+p.Peer, "--initial-advertise-peer-urls=http://"+p.Peer)
			arguments := append(append([]string{"import", "etcd", "--to", p.DataDir}, source...), founding...)
			said := run(t, append(arguments, "--dry-run")...)
			if !regexp.MustCompile(`and then [1-9]\d* entries of the raft log`).MatchString(said) {
				t.Errorf("dry run: %s", said)
			}
			run(t, arguments...)
			p.Start()
			if got := portrait(t, p.Client(), p.Endpoint); got != want {
				t.Errorf("here:\n%s\nin etcd:\n%s", got, want)
			}
			if got := portrait(t, e.start(flags...), e.client); got != want {
				t.Errorf("in etcd started again:\n%s\nbefore:\n%s", got, want)
			}
			e.kill()
		})
	}
}

// killedMember hands over to etcd from a member that was killed before its state held what it had acknowledged.
func killedMember(t *testing.T, real *etcd) {
	p := testkit.NewProcess(t)
	p.Start()
	c := p.Client()
	fill(t, c)
	change(t, c, p.Endpoint)
	request(t, "PUT", "http://"+p.Endpoint+"/v2/keys/services/web/1?ttl=3600", "value=one")
	request(t, "PUT", "http://"+p.Endpoint+"/v2/keys/services/_hidden", "value=two")
	tree := request(t, "GET", "http://"+p.Endpoint+"/v2/keys/?recursive=true&sorted=true", "")
	want := portrait(t, c, p.Endpoint)
	p.Kill()
	file := filepath.Join(t.TempDir(), "handed-over.db")
	if said := run(t, "export", "etcd", file, "--data-dir", p.DataDir); !regexp.MustCompile(`[1-9]\d* entries of its log`).MatchString(said) {
		t.Errorf("export: %s", said)
	}
	if left, err := filepath.Glob(file + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	back := &etcd{t: t, tools: real.tools, client: testkit.FreeAddress(t), peer: testkit.FreeAddress(t), dir: filepath.Join(t.TempDir(), "back")}
	back.utl("snapshot", "restore", file, "--data-dir", back.dir, "--name=m1", "--initial-cluster=m1=http://"+back.peer, "--initial-advertise-peer-urls=http://"+back.peer)
	if got := portrait(t, back.start(), back.client); got != want {
		t.Errorf("in etcd:\n%s\nbefore:\n%s", got, want)
	}
	back.stop()
	again := testkit.NewProcess(t)
	run(t, "snapshot", "restore", file, "--data-dir", again.DataDir, "--name="+again.Name, "--initial-cluster="+again.Name+"=http://"+again.Peer, "--initial-advertise-peer-urls=http://"+again.Peer)
	again.Start()
	if got := request(t, "GET", "http://"+again.Endpoint+"/v2/keys/?recursive=true&sorted=true", ""); withoutTTL(got) != withoutTTL(tree) || !strings.Contains(tree, "one") {
		t.Errorf("the v2 tree, restored:\n%s\nbefore:\n%s", got, tree)
	}
	if got := request(t, "GET", "http://"+again.Endpoint+"/v2/keys/services/_hidden", ""); !strings.Contains(got, "two") {
		t.Errorf("a hidden node, restored: %s", got)
	}
	p.Start()
	if got := portrait(t, p.Client(), p.Endpoint); got != want {
		t.Errorf("started again:\n%s\nbefore:\n%s", got, want)
	}
}

// request makes an HTTP request with a form and returns the body of a success.
func request(t *testing.T, method, url, form string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %v\n%s", method, url, answer.Status, err, body)
	}
	return string(body)
}

// withoutTTL takes out of a body the times left, which pass.
func withoutTTL(body string) string {
	return regexp.MustCompile(`"ttl":\d+`).ReplaceAllString(body, `"ttl":`)
}

// change does a little of everything that an entry of the log may ask for.
func change(t *testing.T, c *clientv3.Client, endpoint string) {
	t.Helper()
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kept, err := c.Grant(ctx, 600)
	must(kept, err)
	gone, err := c.Grant(ctx, 700)
	must(gone, err)
	must(c.Put(ctx, "kept", "1", clientv3.WithLease(kept.ID)))
	must(c.Put(ctx, "gone", "1", clientv3.WithLease(gone.ID)))
	must(c.Put(ctx, "gone too", "1", clientv3.WithLease(gone.ID)))
	must(c.Revoke(ctx, gone.ID))
	must(c.Txn(ctx).If(clientv3.Compare(clientv3.Value("kept"), "=", "1"), clientv3.Compare(clientv3.CreateRevision("none"), "=", 0)).
		Then(clientv3.OpPut("kept", "2", clientv3.WithIgnoreLease()), clientv3.OpGet("k", clientv3.WithPrefix()), clientv3.OpDelete("k1"),
			clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version("k2"), ">", 100)}, nil, []clientv3.Op{clientv3.OpPut("nested", "else")})).
		Else(clientv3.OpPut("wrong", "")).Commit())
	must(c.Delete(ctx, "k5", clientv3.WithRange("k7")))
	must(c.Put(ctx, "\x00\xff binary", strings.Repeat("\x80", 1000)))
	if _, err := c.Put(ctx, "no such lease", "", clientv3.WithLease(12345)); err == nil {
		t.Fatal("a put with a lease that is not there went through")
	}
	must(c.UserAdd(ctx, "root", "r"))
	must(c.RoleAdd(ctx, "root"))
	must(c.UserGrantRole(ctx, "root", "root"))
	must(c.UserChangePassword(ctx, "alice", "other"))
	must(c.RoleGrantPermission(ctx, "reader", "w", "x", clientv3.PermissionType(clientv3.PermReadWrite)))
	must(c.AuthEnable(ctx))
	asRoot := login(t, endpoint, "root", "r")
	must(asRoot.Put(ctx, "by root", "1"))
	asAlice := login(t, endpoint, "alice", "other")
	must(asAlice.Put(ctx, "w by alice", "1"))
	if _, err := asAlice.Put(ctx, "by alice", "1"); err == nil {
		t.Fatal("alice may not do that")
	}
	must(asRoot.RoleRevokePermission(ctx, "reader", "w", "x"))
	must(asRoot.UserRevokeRole(ctx, "alice", "reader"))
	must(asRoot.AuthDisable(ctx))
	for i := range 30 {
		must(c.Put(ctx, fmt.Sprint("late", i%7), fmt.Sprint(i)))
	}
	must(c.UserDelete(ctx, "root"))
}

func login(t *testing.T, endpoint, name, password string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Username: name, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
