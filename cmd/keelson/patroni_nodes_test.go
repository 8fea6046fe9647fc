package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// patroni is three nodes of Patroni, each with a PostgreSQL server, on a cluster of ours.
type patroni struct {
	t        *testing.T
	keelson  *testkit.Cluster
	base     string // directory of everything
	programs string // directory of PostgreSQL's programs
	owner    *syscall.Credential
	nodes    []*patroniNode
	started  time.Time
	primary  *patroniNode // as whole has found it
	heir     *patroniNode // the one that would follow it
	marks    int          // that have been written

	observer struct {
		in  io.WriteCloser
		out *bufio.Scanner
	}
}

type patroniNode struct {
	name, rest, sql string // name, and addresses: host:port
	cmd             *exec.Cmd
}

// patroniMember is a node as Patroni's /cluster tells of it.
type patroniMember struct{ Name, Role, State string }

const patroniPassword = "super"

func newPatroni(t *testing.T, dcs string, secured bool) *patroni {
	p := &patroni{t: t, started: time.Now()}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil || len(found) == 0 {
		t.Fatalf("PostgreSQL's server is not installed: %v", err)
	}
	p.programs = filepath.Dir(found[len(found)-1])
	if p.base, err = os.MkdirTemp("", "kp"); err != nil { // the path of a socket has to be short
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.base) })
	p.chooseOwner()

	settings := "hosts: '%s'"
	if secured {
		who := newPeople(t)
		p.keelson = testkit.NewCluster(t, 3, "--heartbeat-interval=50", "--election-timeout=500", "--bcrypt-cost=4",
			"--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
		for _, m := range p.keelson.Members {
			m.TLS = who.as(t, testkit.Pair{})
		}
		authority, err := os.ReadFile(who.ca.File)
		if err != nil {
			t.Fatal(err)
		}
		settings += ", protocol: https, cacert: " + p.write("ca.pem", string(authority)) + ", username: patroni, password: secret"
		// This Patroni asks for the members before it says who it is, which etcd has refused since 3.6.10. So it is told not to ask.
		settings += ", use_proxies: true"
	} else {
		p.keelson = testkit.NewCluster(t, 3, "--heartbeat-interval=50", "--election-timeout=500")
	}
	p.keelson.Start()
	if secured {
		addPatroniUser(t, p.keelson.Client())
	}
	settings = dcs + ": {" + fmt.Sprintf(settings, strings.Join(p.keelson.Endpoints(), ",")) + "}"
	var ports []string
	for i := range 3 {
		n := &patroniNode{name: fmt.Sprintf("pg%d", i+1), rest: testkit.FreeAddress(t), sql: testkit.FreeAddress(t)}
		p.nodes = append(p.nodes, n)
		p.write(n.name+".yml", p.configuration(n, settings))
		ports = append(ports, n.port())
	}
	p.observe(ports)
	t.Cleanup(p.close)
	for _, n := range p.nodes {
		p.start(n)
	}
	return p
}

// addPatroniUser makes users count, and a user who may touch what Patroni keeps, and nothing else.
func addPatroniUser(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := within(t)
	_, err := c.UserAdd(ctx, "root", "secret")
	for _, f := range []func() error{
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.RoleAdd(ctx, "service"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "service", "/service/", clientv3.GetPrefixRangeEnd("/service/"),
				clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := c.UserAdd(ctx, "patroni", "secret"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "patroni", "service"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err == nil {
			err = f()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// chooseOwner finds out as whom PostgreSQL runs, which refuses to be root, and gives the directory away.
func (p *patroni) chooseOwner() {
	if os.Getuid() != 0 {
		return
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		p.t.Fatal(err)
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		p.t.Fatal(err)
	}
	p.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(p.base, uid, gid); err != nil {
		p.t.Fatal(err)
	}
}

// write makes a file that the owner can read, and returns its path.
func (p *patroni) write(name, text string) string {
	p.t.Helper()
	file := filepath.Join(p.base, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if p.owner != nil {
		if err := os.Chown(file, int(p.owner.Uid), int(p.owner.Gid)); err != nil {
			p.t.Fatal(err)
		}
	}
	return file
}

func (p *patroni) configuration(n *patroniNode, dcs string) string {
	return strings.NewReplacer("NAME", n.name, "REST", n.rest, "SQL", n.sql, "BASE", p.base, "PROGRAMS", p.programs, "DCS", dcs,
		"PASSWORD", patroniPassword, "TTL", fmt.Sprint(patroniTTL)).Replace(`
scope: batman
name: NAME
restapi: {listen: 'REST', connect_address: 'REST'}
DCS
bootstrap:
  dcs:
    ttl: TTL
    loop_wait: 1
    retry_timeout: 7
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 20, shared_buffers: 8MB, wal_level: replica, fsync: off, max_wal_size: 64MB}
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums, no-sync]
  pg_hba: [host replication replicator 127.0.0.1/32 md5, host all all 127.0.0.1/32 md5]
postgresql:
  listen: 'SQL'
  connect_address: 'SQL'
  data_dir: BASE/NAME
  bin_dir: PROGRAMS
  pgpass: BASE/NAME.pgpass
  authentication:
    replication: {username: replicator, password: rep}
    superuser: {username: postgres, password: PASSWORD}
    rewind: {username: rewinder, password: rew}
  basebackup: [{checkpoint: fast}, no-sync]
  parameters: {unix_socket_directories: BASE}
`)
}

// command prepares a program that runs as the owner, without the variables that might lead it elsewhere.
func (p *patroni) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.base
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + p.base, "LC_ALL=C.UTF-8", "PGPASSWORD=" + patroniPassword}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.owner}
	return cmd
}

func (p *patroni) start(n *patroniNode) {
	p.t.Helper()
	log, err := os.OpenFile(filepath.Join(p.base, n.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	n.cmd = p.command(context.Background(), "patroni", n.name+".yml")
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := testkit.Spawn(n.cmd); err != nil {
		p.t.Fatal(err)
	}
}

func (n *patroniNode) kill() {
	if n.cmd != nil && n.cmd.ProcessState == nil {
		syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
		n.cmd.Wait()
	}
}

// killServer takes a PostgreSQL server away as a power cut would.
func (p *patroni) killServer(n *patroniNode) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.base, n.name, "postmaster.pid"))
	if err != nil {
		p.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
}

func (n *patroniNode) port() string {
	_, port, _ := net.SplitHostPort(n.sql)
	return port
}

// observe starts the program that watches from outside. It outlives this process long enough to end the servers.
func (p *patroni) observe(ports []string) {
	p.t.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", "patroni", "observer.py"))
	if err != nil {
		p.t.Fatal(err)
	}
	args := append([]string{p.write("observer.py", string(script)), p.base, patroniPassword}, ports...)
	cmd := p.command(context.Background(), "/usr/bin/python3", args...)
	cmd.Stderr = os.Stderr
	if p.observer.in, err = cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.observer.out = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		p.observer.in.Close()
		cmd.Wait()
	})
}

func (p *patroni) close() {
	for _, n := range p.nodes {
		n.kill()
	}
	if !p.t.Failed() {
		return
	}
	for _, n := range p.nodes {
		if text, err := os.ReadFile(filepath.Join(p.base, n.name+".log")); err == nil {
			p.t.Logf("the end of the log of %s:\n%s", n.name, text[max(0, len(text)-6<<10):])
		}
	}
}

// until waits for something that must come, and says when it came.
func (p *patroni) until(what string, f func() error) {
	p.t.Helper()
	const limit = 4 * time.Minute
	begin := time.Now()
	err := f()
	for ; err != nil && time.Since(begin) < limit; err = f() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		p.t.Fatalf("%s: not within %v: %v", what, limit, err)
	}
	p.t.Logf("%5.1fs, after %4.1fs: %s", time.Since(p.started).Seconds(), time.Since(begin).Seconds(), what)
}

// get asks Patroni itself.
func (n *patroniNode) get(path string, into any) error {
	r, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + n.rest + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, r.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(r.Body).Decode(into)
}

// findPrimary is the node of which Patroni says that it is the primary, and which takes writes; nil: none is.
func (p *patroni) findPrimary() *patroniNode {
	for _, n := range p.nodes {
		if n.get("/primary", nil) == nil && p.answers(n, "SELECT pg_is_in_recovery()", "f") == nil {
			return n
		}
	}
	return nil
}

// query has a server answer with psql.
func (p *patroni) query(n *patroniNode, statement string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	out, err := p.command(ctx, filepath.Join(p.programs, "psql"), "-h", "127.0.0.1", "-p", n.port(), "-U", "postgres", "-XAtqc", statement).
		CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", n.name, statement, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// answers is an error unless a server gives an answer.
func (p *patroni) answers(n *patroniNode, statement, want string) error {
	got, err := p.query(n, statement)
	if err == nil && got != want {
		err = fmt.Errorf("%s: %s: %s, not %s", n.name, statement, got, want)
	}
	return err
}
