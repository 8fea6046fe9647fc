package ctl

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"

	"keelson/internal/cli"
	"keelson/internal/testkit"
)

// TestKeelson runs the scripts of testdata/keelson: each command is a line of arguments, with stdin below it behind a line
// of dashes; the output is what it prints, on stderr behind "stderr:", and the exit code if it is not 0.
func TestKeelson(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	t.Setenv(contextsVariable, filepath.Join(t.TempDir(), "contexts.yaml"))
	t.Setenv("KEELSON_CONTEXT", "")
	t.Setenv("EDITOR", "sed -i s/old/new/")
	t.Setenv("VISUAL", "")
	datadriven.RunTest(t, "testdata/keelson/commands", func(t *testing.T, d *datadriven.TestData) string {
		line, stdin, _ := strings.Cut(d.Input, "\n---\n")
		args := words(strings.NewReplacer("ENDPOINT", p.Endpoint, "DIR", t.TempDir()).Replace(line))
		var out, errs bytes.Buffer
		code := Keelson(args, Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs}, "keelson Version: test\n", nil, noTools)
		text := out.String()
		if errs.Len() > 0 {
			text += "stderr: " + errs.String()
		}
		if code != 0 {
			text += fmt.Sprintf("exit code %d\n", code)
		}
		return normaliseKeelson(strings.NewReplacer(p.Endpoint, "ENDPOINT", p.Peer, "PEER").Replace(text))
	})
}

// noTools stands for the tools that work offline, which belong to another package.
func noTools(cli.Connector) []*cobra.Command { return nil }

var normalKeelson = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`/\S*(contexts.yaml|keelson-edit-\d+)`), `DIR/$1`},
	{regexp.MustCompile(`keelson-edit-\d+`), `keelson-edit-N`},
	{regexp.MustCompile(`\b[0-9a-f]{15,16}\b`), `ID`},
	{regexp.MustCompile(`\d+\.\d+ms`), `N.Nms`},
	{regexp.MustCompile(`"latency_ms":[0-9.]+,`), `"latency_ms":N,`},
	{regexp.MustCompile(`"db_size":\d+`), `"db_size":N`},
	{regexp.MustCompile(`N\.Nms +0 +\d+ +2147483648`), `N.Nms  0  SIZE  2147483648`},
	{regexp.MustCompile(`(NAME|m1) +(ID) +(ROLE|leader) +(LATENCY)? *`), `$1  $2  $3  $4  `},
}

func normaliseKeelson(text string) string {
	for _, n := range normalKeelson {
		text = n.what.ReplaceAllString(text, n.by)
	}
	return text
}

// TestEveryCommandHasExamples keeps the help helpful: keelson's commands have examples, and every example can be parsed.
func TestEveryCommandHasExamples(t *testing.T) {
	s := newSession("keelson", false, Standard())
	root := s.keelsonRoot("", nil, nil)
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd == root || cmd.Name() == "help" || cmd.Name() == "__complete" {
			return
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example; give it one in examples.go", cmd.CommandPath())
		}
		if cmd.Short == "" {
			t.Errorf("%s says not what it does", cmd.CommandPath())
		}
	})
}

func TestCompletionAsksTheCluster(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	run := func(args ...string) string {
		var out, errs bytes.Buffer
		Keelson(append([]string{"--endpoints", p.Endpoint}, args...), Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, "", nil, noTools)
		return out.String()
	}
	complete := func(args ...string) string {
		var out, errs bytes.Buffer
		words := append([]string{"__complete", args[0], "--endpoints", p.Endpoint}, args[1:]...)
		Keelson(words, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, "", nil, noTools)
		return out.String()
	}
	run("put", "app/one", "1")
	run("put", "app/two/three", "1")
	run("put", "other", "1")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"get", ""}, "app/\nother\n"},
		{[]string{"get", "app/"}, "app/one\napp/two/\n"},
		{[]string{"del", "app/t"}, "app/two/\n"},
		{[]string{"move-leader", ""}, "m1\t"},
	} {
		got := ""
		if !completes(func() bool { got = complete(c.args...); return strings.Contains(got, c.want) }) {
			t.Errorf("got %s, want %s", strconv.Quote(got), strconv.Quote(c.want))
		}
	}
}

// completes tries to complete something until that succeeds, for some time: what has no answer within completeWithin is not completed.
func completes(try func() bool) bool {
	for end := time.Now().Add(20 * time.Second); !try(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// TestFlagAndVariable: keelson takes the flag if its variable is set too, and says nothing.
func TestFlagAndVariable(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	t.Setenv(contextsVariable, filepath.Join(t.TempDir(), "contexts.yaml"))
	t.Setenv("ETCDCTL_ENDPOINTS", "127.0.0.1:1")
	t.Setenv("ETCDCTL_WRITE_OUT", "json")
	var out, errs bytes.Buffer
	code := Keelson([]string{"put", "a", "b", "--endpoints", p.Endpoint, "-w", "simple"}, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, "", nil, noTools)
	if code != 0 || out.String() != "OK\n" || errs.Len() > 0 {
		t.Errorf("%d, %s%s", code, &out, &errs)
	}
}

// TestCompletionInBash has a real bash complete words: commands, flags, keys and members of a running cluster.
func TestCompletionInBash(t *testing.T) {
	testkit.Need(t, "bash")
	p := testkit.NewProcess(t)
	p.Start()
	for _, key := range []string{"/app/one", "/app/two", "/b c", "/other"} {
		if _, err := p.Client().Put(t.Context(), key, "v"); err != nil {
			t.Fatal(err)
		}
	}
	const script = `
export PATH="$1:$PATH" ETCDCTL_ENDPOINTS="$2"
source <(keelson completion bash)
compopt() { :; } # which bash itself allows only while somebody types
shift 2
COMP_WORDS=(keelson "$@") COMP_CWORD=$# COMP_LINE="keelson $*"
COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9
__start_keelson
printf '%s\n' "${COMPREPLY[@]}"
`
	for _, c := range []struct{ words, want string }{
		{"mem", "member"},
		{"get /a", "/app/"},
		{"get /app/", "/app/one|/app/two"},
		{"member remove ", "m1"},
		{"move-leader m", "m1"},
		{"import etc", "etcd"},
		{"get --consist", "--consistency"},
		{"--write-out js", "json"},
	} {
		args := append([]string{"--norc", "-c", script, "bash", filepath.Dir(testkit.Binary(t)), p.Endpoint}, strings.Split(c.words, " ")...)
		var out []byte
		var err error
		if !completes(func() bool {
			out, err = exec.Command("bash", args...).CombinedOutput()
			got := strings.Join(strings.Fields(regexp.MustCompile(` +\([^)]*\)`).ReplaceAllString(string(out), "")), "|")
			return err == nil && strings.HasPrefix(got, c.want)
		}) {
			t.Errorf("%q: %s, %v; want %s", c.words, out, err, c.want)
		}
	}
}
