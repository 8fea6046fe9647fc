package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

// helper is a command of the program that stands beside members.
type helper struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// Write takes what it logs.
func (h *helper) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Write(p)
}

func (h *helper) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.String()
}

// startHelper starts a command, as etcd is called, and waits until its log says ready. An end before that fails unless ready
// is what it says as it ends.
func startHelper(t testing.TB, ready string, args ...string) *helper {
	t.Helper()
	h := &helper{t: t, cmd: exec.Command(testkit.Binary(t), args...), done: make(chan struct{})}
	h.cmd.Stdout, h.cmd.Stderr = h, h
	h.cmd.Dir = t.TempDir()
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.done)
		h.cmd.Wait()
	}()
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		<-h.done
	})
	h.await(ready)
	return h
}

func (h *helper) await(text string) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(h.log(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("%q does not say %q:\n%s", h.cmd.Args, text, h.log())
		}
	}
}

// TestTCPGateway goes to members through the TCP gateway, while one of them is down.
func TestTCPGateway(t *testing.T) {
	first, second := testkit.NewProcess(t), testkit.NewProcess(t)
	first.Start()
	at := testkit.FreeAddress(t)
	h := startHelper(t, "ready to proxy client requests", "gateway", "--listen-addr", at, "start",
		"--endpoints="+second.Endpoint+",http://"+first.Endpoint, "--retry-delay=50ms")
	for range 3 {
		if err := put(at, nil); err != nil {
			t.Error(err)
		}
	}
	h.await("deactivated endpoint")
	second.Start()
	h.await("activated endpoint\",\"address\":\"" + second.Endpoint)
	h.cmd.Process.Signal(syscall.SIGTERM)
	<-h.done
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// exercise makes every kind of call through an endpoint.
func exercise(t *testing.T, endpoint string, security *tls.Config) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: security, Logger: zap.NewNop(), DialTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	put, err := c.Put(ctx, "p/a", "1", clientv3.WithLease(lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	watched := c.Watch(ctx, "p/", clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision), clientv3.WithPrevKV())
	_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.Value("p/a"), "=", "1")).Then(clientv3.OpPut("p/a", "2", clientv3.WithLease(lease.ID)), clientv3.OpGet("p/a")).Commit()
	check("txn", err)
	for want := 1; want <= 2; {
		r, ok := <-watched
		if !ok || r.Err() != nil {
			t.Fatalf("watch: %v", r.Err())
		}
		for _, e := range r.Events {
			if string(e.Kv.Key) != "p/a" || string(e.Kv.Value) != fmt.Sprint(want) {
				t.Errorf("event %v, want value %d", e, want)
			}
			want++
		}
	}
	got, err := c.Get(ctx, "p/", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Key) != "p/a" || string(got.Kvs[0].Value) != "2" {
		t.Errorf("get: %v, %v", got, err)
	}
	everything, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatalf("get everything: %v", err)
	}
	for _, kv := range everything.Kvs {
		if strings.HasPrefix(string(kv.Key), "ns/") {
			t.Errorf("a key outside: %s", kv.Key)
		}
	}
	ttl, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	if err != nil || len(ttl.Keys) != 1 || string(ttl.Keys[0]) != "p/a" {
		t.Errorf("time to live: %v, %v", ttl, err)
	}
	_, err = c.KeepAliveOnce(ctx, lease.ID)
	check("keep alive", err)
	session, err := concurrency.NewSession(c, concurrency.WithTTL(5))
	if err != nil {
		t.Fatal(err)
	}
	m := concurrency.NewMutex(session, "p/lock")
	check("lock", m.Lock(ctx))
	check("unlock", m.Unlock(ctx))
	check("session", session.Close())
	_, err = c.Get(ctx, "p/a", clientv3.WithRev(put.Header.Revision+1000))
	if err == nil || !strings.Contains(err.Error(), "required revision is a future revision") {
		t.Errorf("an error comes as %v", err)
	}
	members, err := c.MemberList(ctx)
	if err != nil || len(members.Members) != 1 || members.Members[0].ClientURLs[0] != "here.example:1" {
		t.Errorf("members: %v, %v", members, err)
	}
	deleted, err := c.Delete(ctx, "p/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil || deleted.Deleted < 1 || string(deleted.PrevKvs[0].Key) != "p/a" {
		t.Errorf("delete: %v, %v", deleted, err)
	}
	_, err = c.Revoke(ctx, lease.ID)
	check("revoke", err)
}

func page(t *testing.T, u string) (int, string) {
	t.Helper()
	r, err := http.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func TestGRPCProxy(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	at, metrics := testkit.FreeAddress(t), testkit.FreeAddress(t)
	start := func(more ...string) *helper {
		return startHelper(t, "started gRPC proxy", append([]string{"grpc-proxy", "start", "--listen-addr=" + at, "--endpoints=" + p.Endpoint,
			"--advertise-client-url=here.example:1"}, more...)...)
	}
	h := start("--metrics-addr=http://"+metrics, "--endpoints-auto-sync-interval=50ms")
	exercise(t, at, nil)
	h.await(`synced the endpoints","endpoints":["http://` + p.Endpoint + `"]`)
	for _, base := range []string{"http://" + at, "http://" + metrics} {
		for path, want := range map[string]string{
			"/health": `{"health":"true","reason":""}`, "/proxy/health": `{"health":"true","reason":""}`,
			"/metrics": "etcd_server_has_leader 1", "/proxy/metrics": "go_goroutines",
		} {
			if status, text := page(t, base+path); status != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("%s%s: %d, %.200s", base, path, status, text)
			}
		}
	}
	etcdctl := exec.Command("etcdctl", "--endpoints="+at, "put", "x", "y")
	etcdctl.Env = patientEtcdctl()
	if out, err := etcdctl.CombinedOutput(); err != nil || string(out) != "OK\n" {
		t.Errorf("etcdctl: %v, %s", err, out)
	}
	p.Kill()
	if status, text := page(t, "http://"+at+"/health"); status != http.StatusServiceUnavailable || !strings.HasPrefix(text, "GET ERROR:") {
		t.Errorf("health without a cluster: %d, %s", status, text)
	}
	if status, text := page(t, "http://"+at+"/proxy/health"); status != http.StatusServiceUnavailable || !strings.Contains(text, `{"health":"false","reason":"GET ERROR:`) {
		t.Errorf("the proxy's health without a cluster: %d, %s", status, text)
	}
	p.Start()
	h.cmd.Process.Signal(syscall.SIGTERM)
	<-h.done
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	start("--namespace=ns/")
	exercise(t, at, nil)
	if err := put(at, nil); err != nil {
		t.Fatal(err)
	}
	r, err := p.Client().Get(t.Context(), "ns/k")
	if err != nil || len(r.Kvs) != 1 {
		t.Errorf("in the namespace: %v, %v", r, err)
	}
}

// Proxies that share a prefix are the members that clients see, as long as they run.
func TestGRPCProxyResolver(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	var at []string
	for i := range 2 {
		at = append(at, testkit.FreeAddress(t))
		h := startHelper(t, "started gRPC proxy", "grpc-proxy", "start", "--listen-addr="+at[i], "--endpoints="+p.Endpoint,
			"--advertise-client-url="+at[i], "--resolver-prefix=proxies", "--resolver-ttl=60")
		h.await("registered endpoint")
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: at[:1], Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list, err := c.MemberList(t.Context())
	if err != nil || len(list.Members) != 2 {
		t.Errorf("members %v, %v", list, err)
	}
	if err := c.Sync(t.Context()); err != nil || len(c.Endpoints()) != 2 {
		t.Errorf("endpoints %v, %v", c.Endpoints(), err)
	}
}

func TestGRPCProxyTLS(t *testing.T) {
	who := newPeople(t)
	nameless := who.ca.Issue("nameless", testkit.Subject{Hosts: []string{"proxy.example"}})
	p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key, "--trusted-ca-file="+who.ca.File, "--client-cert-auth")
	p.TLS = who.as(t, who.client)
	p.Start()
	at := testkit.FreeAddress(t)
	args := func(upstream testkit.Pair, more ...string) []string {
		return append([]string{"grpc-proxy", "start", "--listen-addr", at, "--endpoints", "https://" + p.Endpoint, "--advertise-client-url=here.example:1",
			"--cacert", who.ca.File, "--cert", upstream.Cert, "--key", upstream.Key}, more...)
	}

	named := startHelper(t, "cert has non empty Common Name", args(who.client)...)
	<-named.done
	if code := named.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}

	h := startHelper(t, "started gRPC proxy", args(nameless, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key,
		"--trusted-ca-file="+who.ca.File, "--client-crl-file="+who.crl, "--tls-max-version=TLS1.2",
		"--listen-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")...)
	exercise(t, at, who.as(t, who.client))
	if status, _, err := get("https://"+at+"/health", who.as(t, who.client), true); err != nil || status != http.StatusOK {
		t.Errorf("health: %d, %v", status, err)
	}
	if err := refusedPut(at, who.as(t, who.revoked)); err == nil {
		t.Error("a revoked certificate gets in")
	}
	conn, err := tls.Dial("tcp", at, who.as(t, who.client))
	if err != nil {
		t.Fatal(err)
	}
	if s := conn.ConnectionState(); s.Version != tls.VersionTLS12 || s.CipherSuite != tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 {
		t.Errorf("%s, %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
	}
	conn.Close()
	h.cmd.Process.Signal(syscall.SIGTERM)
	<-h.done

	data := filepath.Join(t.TempDir(), "proxy")
	startHelper(t, "started gRPC proxy", args(nameless, "--auto-tls", "--data-dir="+data)...)
	exercise(t, at, &tls.Config{InsecureSkipVerify: true})
}

// What a proxy can't do it says before it starts.
func TestProxyRefusals(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"grpc-proxy start --experimental-leasing-prefix=a", 1, "--experimental-leasing-prefix is not supported"},
		{"grpc-proxy start --experimental-serializable-ordering", 1, "--experimental-serializable-ordering is not supported"},
		{"grpc-proxy start --tls-min-version=TLS1.1", 1, `unexpected TLS version \"TLS1.1\"`},
		{"grpc-proxy start --resolver-ttl=5", 1, `invalid resolver-prefix`},
		{"grpc-proxy start --nosuch", 2, "flag provided but not defined: -nosuch"},
		{"grpc-proxy", 2, "Usage: keelson grpc-proxy start"},
		{"gateway start --endpoints=nohost", 1, "missing port in address"},
		{"gateway start --retry-delay=0s", 1, "--retry-delay must be > 0"},
		{"gateway start extra", 2, `"extra" is not a valid flag`},
	} {
		h := startHelper(t, c.want, strings.Fields(c.args)...)
		<-h.done
		if code := h.cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, %s", c.args, code, h.log())
		}
	}
}
