package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// TestConfigCheck looks at what an operator sees before a start.
func TestConfigCheck(t *testing.T) {
	who := newPeople(t)
	file := filepath.Join(t.TempDir(), "member.yml")
	text := "name: infra1\ndata-dir: /var/lib/etcd\nclient-transport-security: {cert-file: " + who.server.Cert + ", key-file: " + who.server.Key + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		env    []string
		args   []string
		code   int
		stdout []string // lines, their columns joined by one space
		stderr string
	}{
		{"defaults", nil, nil, 0, []string{"heartbeat-interval 100 default", "data-dir default.etcd derived"}, "warning: 'data-dir' was empty; using default data-dir=default.etcd"},
		{"flags and variables", []string{"ETCD_ELECTION_TIMEOUT=3000"}, []string{"--name=a", "--experimental-corrupt-check-time=5s"}, 0,
			[]string{"name a flag", "election-timeout 3000 ETCD_ELECTION_TIMEOUT", "corrupt-check-time 5s flag --experimental-corrupt-check-time"},
			"warning: --experimental-corrupt-check-time is deprecated; use --corrupt-check-time instead"},
		{"file", []string{"ETCD_NAME=no"}, []string{"--config-file=" + file}, 0, []string{"name infra1 file", "cert-file " + who.server.Cert + " file"}, ""},
		{"refused", nil, []string{"--heartbeat-interval=500"}, 1, nil, "refused: --election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]"},
		{"certificate", nil, []string{"--cert-file=" + who.server.Cert, "--key-file=" + who.client.Key}, 1, []string{"cert-file " + who.server.Cert + " flag"}, "private key"},
		{"unknown", nil, []string{"--nosuch"}, 2, nil, "flag provided but not defined: -nosuch"},
		{"conflict", []string{"ETCD_NAME=b"}, []string{"--name=a"}, 1, nil, "conflicting environment variable is shadowed by corresponding command-line flag"},
	} {
		cmd := exec.Command(testkit.Binary(t), append([]string{"config", "check"}, c.args...)...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: exit code %d, stderr %q", c.name, code, &stderr)
		}
		lines := map[string]bool{}
		for line := range strings.Lines(stdout.String()) {
			lines[strings.Join(strings.Fields(line), " ")] = true
		}
		for _, want := range c.stdout {
			if !lines[want] {
				t.Errorf("%s: %q is not printed:\n%s", c.name, want, &stdout)
			}
		}
	}
}

// TestLogLines lists lines that tools look for, and the flags with which a member alone writes them.
func TestLogLines(t *testing.T) {
	for _, c := range []struct {
		args  []string
		lines []string
	}{
		{nil, []string{
			`"msg":"starting an etcd server"`, `"snapshot-catchup-entries":5000`, `"v2-deprecation":"write-only"`,
			`"msg":"now serving peer/client/metrics"`, `"msg":"published local member to cluster through raft"`,
			`"msg":"ready to serve client requests"`, `"msg":"serving client traffic insecurely; this is strongly discouraged!","traffic":"grpc+http"`,
			`"msg":"notifying init daemon"`, `"msg":"successfully notified init daemon"`, `"msg":"updated cluster version"`,
			`"msg":"enabled capabilities for version"`, `elected leader`,
		}},
		{[]string{"--max-snapshots=7"}, []string{`--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.`}},
		{[]string{"--v2-deprecation=gone"}, []string{`--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.`, `"v2-deprecation":"write-only"`}},
		{[]string{"--snapshot-catchup-entries=1000"}, []string{`"snapshot-catchup-entries":1000`}},
		{[]string{"--bootstrap-defrag-threshold-megabytes=1000"}, []string{`"msg":"Skipping defragmentation"`}},
		{[]string{"--snapshot-count=1"}, []string{`"msg":"saved snapshot to disk"`}},
		{[]string{"--warning-unary-request-duration=1ns"}, []string{`"msg":"request stats"`}},
		{[]string{"--warning-apply-duration=1ns"}, []string{`"msg":"apply request took too long"`, `"expected-duration":"1ns"`}},
		{[]string{"--raft-read-timeout=1s"}, []string{`raft-read-timeout increased to minimum value: 5s`}},
		{[]string{"--max-request-bytes=20000000"}, []string{`exceeded recommended request limit`}},
		{[]string{"--log-level=debug"}, []string{`"level":"debug"`, `"msg":"request stats"`}},
		{[]string{"--feature-gates=SetMemberLocalAddr=true"}, []string{`searching for a suitable member local address in AdvertisePeerURLs`}},
	} {
		p := testkit.NewProcess(t, c.args...)
		p.Start()
		if err := put(p.Endpoint, nil); err != nil {
			t.Errorf("%q: %v", c.args, err)
		}
		for _, want := range c.lines {
			if !p.Says(want) {
				t.Errorf("%q: the log does not say %s", c.args, want)
			}
		}
		p.Stop()
		for _, want := range []string{`received signal; shutting down","signal":"terminated"`, `"msg":"closing etcd server"`, `"msg":"closed etcd server"`} {
			if !strings.Contains(p.Log(), want) {
				t.Errorf("%q: the log does not say %s", c.args, want)
			}
		}
		if strings.Contains(p.Log(), `"level":"error"`) {
			t.Errorf("%q: an error in a healthy run", c.args)
		}
	}
}

// TestOpenDataDirectory warns of a directory that others may read, and goes on.
func TestOpenDataDirectory(t *testing.T) {
	p := testkit.NewProcess(t)
	if err := os.Mkdir(p.DataDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.DataDir, "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	for _, want := range []string{"check file permission", `"msg":"found invalid file under data directory","filename":"stray"`} {
		if !p.Says(want) {
			t.Errorf("the log does not say %s", want)
		}
	}
}

// TestLogApart keeps the raft log in a directory of its own, over a crash too.
func TestLogApart(t *testing.T) {
	wal := filepath.Join(t.TempDir(), "wal")
	p := testkit.NewProcess(t, "--wal-dir="+wal)
	p.Start()
	if err := put(p.Endpoint, nil); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if names, err := os.ReadDir(wal); err != nil || len(names) == 0 {
		t.Errorf("the log's directory: %v, %v", names, err)
	}
	if names, err := os.ReadDir(filepath.Join(p.DataDir, "member", "wal")); err != nil || len(names) > 0 {
		t.Errorf("inside the data directory: %v, %v", names, err)
	}
	p.Start()
	r, err := p.Client().Get(t.Context(), "k")
	if err != nil || len(r.Kvs) != 1 {
		t.Errorf("after the crash: %v, %v", r, err)
	}
	p.Stop()
	p.ExtraArgs = nil
	if err := p.TryStart(); err == nil {
		t.Error("it starts without its log")
	}
}

// TestTooFewFiles ends a member that may open next to nothing, and keeps clients of another from taking what it needs itself.
func TestTooFewFiles(t *testing.T) {
	testkit.Need(t, "prlimit")
	p := testkit.NewProcess(t)
	p.Wrap = []string{"prlimit", "--nofile=140:140"}
	if err := p.TryStart(); err == nil || !strings.Contains(err.Error(), "file descriptor limit of etcd process is too low; please set higher") {
		t.Errorf("got %v", err)
	} else if code := p.AwaitExit().ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}

	p = testkit.NewProcess(t)
	p.Wrap = []string{"prlimit", "--nofile=400:400"}
	p.Start()
	var idle []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", p.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
		fmt.Fprint(conn, "GET /")
	}
	if !p.Says("too many client connections; closing new ones until others end") {
		t.Error("the log does not say so")
	}
	if status, _, err := get("http://"+p.Peer+"/version", nil, false); err != nil || status != 200 {
		t.Errorf("other members can't reach it: %d, %v", status, err)
	}
	for _, conn := range idle {
		conn.Close()
	}
	if err := put(p.Endpoint, nil); err != nil {
		t.Errorf("when they are gone: %v", err)
	}
}

// TestSharedPorts binds two members' client listeners to one port.
func TestSharedPorts(t *testing.T) {
	first := testkit.NewProcess(t, "--socket-reuse-port", "--socket-reuse-address")
	first.Start()
	second := testkit.NewProcess(t, "--socket-reuse-port")
	second.Endpoint = first.Endpoint
	second.Start()
	third := testkit.NewProcess(t)
	third.Endpoint = first.Endpoint
	if err := third.TryStart(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("without being asked for: %v", err)
	}
}
