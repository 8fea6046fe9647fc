package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keelson/internal/testkit"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testkit.RemoveBinary()
	os.Exit(code)
}

// comparison is two programs that are given the same command lines, each with a server of its own, so that both find the
// same state.
type comparison struct {
	version      string // of the other program, as the marks in the case files name it
	theirs, ours tool
	stderr       bool // whether what they log has to agree, too
}

type tool struct {
	path     string
	endpoint string
	dir      string
	env      []string
	lease    string // the newest lease that was seen
	member   string // the newest member that was added
}

// TestAgainstEtcdctl37 compares with etcdctl 3.7.1, at etcd 3.7.1: output, what is said on stderr, and exit codes.
func TestAgainstEtcdctl37(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, "go.etcd.io/etcd/etcdctl/v3", "./cmd/etcd-peer")
	build.Dir = filepath.Join("..", "peer")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcdctl and etcd-peer: %v\n%s", err, out)
	}
	for _, file := range caseFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".cases"), func(t *testing.T) {
			c := &comparison{version: "3.7", stderr: true}
			c.theirs, c.ours = tool{path: filepath.Join(dir, "etcdctl")}, tool{path: ourEtcdctl(t)}
			client, peer := testkit.FreeAddress(t), testkit.FreeAddress(t)
			c.run(t, file, client, func(t *testing.T) { startEtcdPeer(t, filepath.Join(dir, "etcd-peer"), client, peer) })
		})
	}
}

// TestAgainstDebian compares with the etcdctl that Debian ships, 3.4, at our server: output and exit codes. Where 3.4 and
// 3.7 differ we follow 3.7; the case files name these differences.
func TestAgainstDebian(t *testing.T) {
	testkit.Need(t, "etcdctl")
	for _, file := range caseFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".cases"), func(t *testing.T) {
			c := &comparison{version: "3.4"}
			c.theirs, c.ours = tool{path: "etcdctl", env: []string{"ETCDCTL_API=3"}}, tool{path: ourEtcdctl(t)}
			client, peer := testkit.FreeAddress(t), testkit.FreeAddress(t)
			c.run(t, file, client, func(t *testing.T) {
				p := testkit.NewProcess(t)
				p.Endpoint, p.Peer = client, peer
				p.Start()
			})
		})
	}
}

func caseFiles(t *testing.T) []string {
	files, err := filepath.Glob("testdata/etcdctl/*.cases")
	if err != nil || len(files) < 5 {
		t.Fatalf("case files: %v, %v", files, err)
	}
	return files
}

func ourEtcdctl(t *testing.T) string {
	link := filepath.Join(t.TempDir(), "etcdctl")
	if err := os.Symlink(testkit.Binary(t), link); err != nil {
		t.Fatal(err)
	}
	return link
}

// startEtcdPeer starts an etcd, which ends with the test.
func startEtcdPeer(t *testing.T, path, client, peer string) {
	cmd := exec.Command(path, "--data-dir", t.TempDir(), "--name=m1", "--listen-client-urls=http://"+client, "--listen-peer-urls=http://"+peer)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if n, err := out.Read(make([]byte, 5)); n == 0 {
		t.Fatalf("etcd is not ready: %v", err)
	}
}

// line is a line of a case file.
type line struct {
	number int
	text   string
	reason string // why the other program answers otherwise; empty: it does not
}

// run goes through a case file, with one program after the other. Both servers are empty at first and have the same
// addresses, and so the same ids.
func (c *comparison) run(t *testing.T, file, endpoint string, start func(t *testing.T)) {
	lines := c.lines(t, file)
	var answers [2][]string
	for i, program := range []*tool{&c.theirs, &c.ours} {
		t.Run([]string{"theirs", "ours"}[i], func(t *testing.T) {
			start(t)
			program.endpoint, program.dir = endpoint, t.TempDir()
			for _, l := range lines {
				answers[i] = append(answers[i], program.say(t, l.text, c.stderr))
			}
		})
	}
	if t.Failed() { // not all was said
		return
	}
	for i, l := range lines {
		theirs, ours := answers[0][i], answers[1][i]
		switch {
		case theirs == ours && l.reason != "":
			t.Errorf("%s:%d: etcdctl %s: no difference, but one is said to exist: %s", file, l.number, l.text, l.reason)
		case theirs != ours && l.reason == "":
			t.Errorf("%s:%d: etcdctl %s\ntheirs:\n%s\nours:\n%s", file, l.number, l.text, theirs, ours)
		}
	}
}

func (c *comparison) lines(t *testing.T, file string) (list []line) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reason := ""
	for i, text := range strings.Split(string(text), "\n") {
		switch mark, isMark := strings.CutPrefix(text, "! "); {
		case text == "" || strings.HasPrefix(text, "#"):
		case isMark:
			if version, why, _ := strings.Cut(mark, " "); version == c.version {
				reason = why
			}
		default:
			list = append(list, line{i + 1, text, reason})
			reason = ""
		}
	}
	return list
}

var (
	untilLines = regexp.MustCompile(`^@(\d+) `)
	assigned   = regexp.MustCompile(`^(?:[A-Z_]+=\S* |-u [A-Z_]+ )+`)
	leaseSeen  = regexp.MustCompile(`lease ([0-9a-f]{16}) granted`)
	memberSeen = regexp.MustCompile(`Member +([0-9a-f]{1,16}) added`)
)

// say carries out one line and returns, normalised, what came of it.
func (o *tool) say(t *testing.T, line string, withErrors bool) string {
	lines := 0
	if m := untilLines.FindStringSubmatch(line); m != nil {
		fmt.Sscan(m[1], &lines)
		line = line[len(m[0]):]
	}
	args, stdin, _ := strings.Cut(line+" ", " <<< ")
	variables := assigned.FindString(args)
	args = strings.NewReplacer("{ENDPOINT}", o.endpoint, "{DIR}", o.dir, "{LEASE}", o.lease, "{MEMBER}", o.member).Replace(args[len(variables):])
	stdin = strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(strings.TrimSuffix(stdin, " "))

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec env "+variables+o.path+" "+args)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "ETCDCTL_ENDPOINTS=" + o.endpoint}, o.env...)
	cmd.Stdin = strings.NewReader(stdin)
	out := &counted{wanted: lines, reached: func() { cmd.Process.Signal(syscall.SIGINT) }}
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %s: not finished; stdout %q, stderr %q", o.path, args, out, &errs)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if m := leaseSeen.FindStringSubmatch(out.String()); m != nil {
		o.lease = m[1]
	}
	if m := memberSeen.FindStringSubmatch(out.String()); m != nil {
		o.member = m[1]
	}
	result := out.String()
	if withErrors {
		result += "stderr:\n" + errs.String()
	}
	return o.normalise(result) + fmt.Sprintf("exit: %v", cmd.ProcessState)
}

// counted calls reached once so many lines were written; wanted 0 never.
type counted struct {
	mu      sync.Mutex
	text    bytes.Buffer
	wanted  int
	reached func()
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := bytes.Count(c.text.Bytes(), []byte("\n"))
	c.text.Write(b)
	if after := bytes.Count(c.text.Bytes(), []byte("\n")); c.wanted > 0 && before < c.wanted && after >= c.wanted {
		go c.reached()
	}
	return len(b), nil
}

func (c *counted) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// normal are the parts of an output that differ from run to run, and what stands for them.
var normal = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`"ts":"[^"]*"`), `"ts":T`},
	{regexp.MustCompile(`"caller":"[^"]*"`), `"caller":C`},
	{regexp.MustCompile(`,"stacktrace":"[^"]*"`), ``},
	{regexp.MustCompile(`0x[0-9a-f]+`), `0xN`},
	{regexp.MustCompile(`LocalAddr: '[^']*'`), `LocalAddr: L`},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|s)\b`), `T`},
	{regexp.MustCompile(`\b(lease|Member|cluster|from|to)( +)[0-9a-f]{10,16}\b`), `$1$2-ID-`},
	{regexp.MustCompile(`ETCD_INITIAL_CLUSTER="[^"]*"`), `ETCD_INITIAL_CLUSTER="..."`}, // in the order of ids, which are drawn
	{regexp.MustCompile(`\b(nm|el)/[0-9a-f]{10,16}\b`), `$1/-ID-`},
	{regexp.MustCompile(`(?m)^[0-9a-f]{16}$`), `ID`}, // of digits alone, too
	{regexp.MustCompile(`\b\d{10,20}\b`), `N`},
	{regexp.MustCompile(`\b[0-9a-f]{12,16}\b`), `ID`},
	{regexp.MustCompile(`"key":"(bm0v|ZWwv)[^"]*"`), `"key":"$1..."`}, // ends with a lease's id
	{regexp.MustCompile(`"(ttl|TTL)":\d+`), `"$1":T`},
	{regexp.MustCompile(`"TTL" : \d+`), `"TTL" : T`},
	{regexp.MustCompile(`(─|━)+`), `─`},
	{regexp.MustCompile(` +`), ` `},
	{regexp.MustCompile(`\b\d+(\.\d+)? [kM]?B\b`), `SIZE`},
	{regexp.MustCompile(`\b\d+%`), `P%`},
	{regexp.MustCompile(`"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex)":\d+`), `"$1":N`},
	{regexp.MustCompile(`"(DBSize|DBSizeInUse|RaftIndex|RaftAppliedIndex)" : \d+`), `"$1" : N`},
	{regexp.MustCompile(`(true|false), (\d+), \d+, \d+, `), `$1, $2, N, N, `},
	{regexp.MustCompile(`(true|false) │ (\d+) │ \d+ │ \d+ │`), `$1 │ $2 │ N │ N │`},
	{regexp.MustCompile(`(?m)^stty: .*\n`), ``},
}

func (o *tool) normalise(text string) string {
	text = strings.NewReplacer(o.endpoint, "ENDPOINT", o.dir, "DIR").Replace(text)
	for _, n := range normal {
		text = n.what.ReplaceAllString(text, n.by)
	}
	return memberList.ReplaceAllStringFunc(text, func(list string) string {
		members := strings.Split(list[len(`"members":[{`):len(list)-len(`}]`)], "},{")
		slices.Sort(members)
		return `"members":[{` + strings.Join(members, "},{") + `}]`
	})
}

// memberList is a list of members in JSON: in the order of ids, which are drawn.
var memberList = regexp.MustCompile(`"members":\[\{[^{}]*\}(,\{[^{}]*\})*\]`)
