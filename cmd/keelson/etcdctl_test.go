package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// etcdctl runs Debian's etcdctl against a member and returns what it printed.
func etcdctl(t *testing.T, p *testkit.Process, stdin string, args ...string) string {
	t.Helper()
	out, err := tryEtcdctl(t, p, stdin, args...)
	if err != nil {
		t.Fatalf("etcdctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// patientEtcdctl are the variables that make etcdctl speak v3 and wait for a loaded machine.
func patientEtcdctl() []string {
	return append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_DIAL_TIMEOUT=60s", "ETCDCTL_COMMAND_TIMEOUT=60s")
}

func tryEtcdctl(t *testing.T, p *testkit.Process, stdin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "etcdctl", append([]string{"--endpoints=" + p.Endpoint}, args...)...)
	cmd.Env = patientEtcdctl()
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// TestEtcdctl walks a member through what people type, with an etcdctl that knows nothing of us.
func TestEtcdctl(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	for _, step := range []struct {
		args  string
		stdin string
		want  string // a regular expression over the whole output
	}{
		{args: "put a 1", want: `OK`},
		{args: "put b 2", want: `OK`},
		{args: "put c/x 3", want: `OK`},
		{args: "put a 10 --prev-kv", want: `OK\na\n1`},
		{args: "get a", want: `a\n10`},
		{args: "get --prefix c/ --keys-only", want: `c/x`},
		{args: "get --from-key b --print-value-only", want: `2\n3`},
		{args: "get a --rev=2 --print-value-only", want: `1`},
		{args: "get --prefix  a --sort-by=KEY --order=DESCEND --limit=1", want: `a\n10`},
		{args: "get nothing", want: ``},
		{args: "del c/x --prev-kv", want: `1\nc/x\n3`},
		{args: "del nothing", want: `0`},
		{args: "txn", stdin: "value(\"a\") = \"10\"\n\nput a 11\nget b\n\nput failed yes\n\n", want: `SUCCESS\n\nOK\n\nb\n2`},
		{args: "txn", stdin: "version(\"a\") > \"99\"\n\nput a 12\n\nget a\n\n", want: `FAILURE\n\na\n11`},
		{args: "compaction 4", want: `compacted revision 4`},
		{args: "defrag", want: `Finished defragmenting etcd member.*`},
		{args: "endpoint health", want: `(?s).*is healthy: successfully committed proposal: took = .*`},
		{args: "endpoint status -w=json", want: `(?s).*"version":"3\.7\.1".*"raftAppliedIndex":\d+.*`},
		{args: "endpoint hashkv", want: p.Endpoint + `, \d+`},
		{args: "member list", want: `[0-9a-f]+, started, m1, http://.*, http://` + p.Endpoint + `, false`},
		{args: "alarm list", want: ``},
		{args: "get a -w=json", want: `\{"header":\{"cluster_id":\d+,"member_id":\d+,"revision":7,"raft_term":\d+\},"kvs":\[\{"key":"YQ==","create_revision":2,"mod_revision":7,"version":3,"value":"MTE="\}\],"count":1\}`},
	} {
		got := strings.TrimSpace(etcdctl(t, p, step.stdin, strings.Fields(step.args)...))
		if want := strings.TrimSpace(step.want); !regexp.MustCompile(`^(?:` + want + `)$`).MatchString(got) {
			t.Errorf("etcdctl %s: got %q, want %q", step.args, got, want)
		}
	}
}

func TestEtcdctlErrors(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	etcdctl(t, p, "", "put", "a", "1")
	etcdctl(t, p, "", "put", "a", "2")
	etcdctl(t, p, "", "compact", "3")
	for _, c := range []struct{ args, want string }{
		{"compact 3", "etcdserver: mvcc: required revision has been compacted"},
		{"compact 99", "etcdserver: mvcc: required revision is a future revision"},
		{"get a --rev=2", "etcdserver: mvcc: required revision has been compacted"},
		{"get a --rev=99", "etcdserver: mvcc: required revision is a future revision"},
		{"put a b --lease=1234", "etcdserver: requested lease not found"},
		{"put nosuch --ignore-value", "etcdserver: key not found"},
		{"lease revoke 1234", "etcdserver: requested lease not found"},
	} {
		out, err := tryEtcdctl(t, p, "", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("etcdctl %s: got %v, %q, want an error that says %q", c.args, err, out, c.want)
		}
	}
}

func TestEtcdctlLease(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	granted := etcdctl(t, p, "", "lease", "grant", "600")
	m := regexp.MustCompile(`^lease ([0-9a-f]+) granted with TTL\(600s\)`).FindStringSubmatch(granted)
	if m == nil {
		t.Fatalf("grant: %q", granted)
	}
	id := m[1]
	etcdctl(t, p, "", "put", "k", "v", "--lease="+id)
	for _, c := range []struct{ args, want string }{
		{"lease list", `found 1 leases\n` + id},
		{"lease keep-alive --once " + id, `lease ` + id + ` keepalived with TTL\(600\)`},
		{"lease timetolive --keys " + id, `lease ` + id + ` granted with TTL\(600s\), remaining\((600|5\d\d)s\), attached keys\(\[k\]\)`},
		{"lease revoke " + id, `lease ` + id + ` revoked`},
		{"get k", ``},
		{"lease timetolive " + id, `lease ` + id + ` already expired`},
	} {
		got := strings.TrimSpace(etcdctl(t, p, "", strings.Fields(c.args)...))
		if !regexp.MustCompile(`^(?:` + c.want + `)$`).MatchString(got) {
			t.Errorf("etcdctl %s: got %q, want %q", c.args, got, c.want)
		}
	}
}

// TestEtcdctlWatch watches from a revision, so that nothing depends on when the watch begins.
func TestEtcdctlWatch(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	etcdctl(t, p, "", "put", "w/1", "a")
	etcdctl(t, p, "", "del", "w/1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "etcdctl", "--endpoints="+p.Endpoint, "watch", "--prefix", "w/", "--rev=2", "--prev-kv")
	cmd.Env = patientEtcdctl()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	etcdctl(t, p, "", "put", "w/2", "b")
	want := "PUT\nw/1\na\nDELETE\nw/1\na\nw/1\n\nPUT\nw/2\nb\n"
	got := make([]byte, len(want))
	n := 0
	for n < len(want) {
		k, err := out.Read(got[n:])
		n += k
		if err != nil {
			t.Fatalf("got %q, then %v, want %q", got[:n], err, want)
		}
	}
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
