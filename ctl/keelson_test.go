package ctl

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"

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
func noTools() []*cobra.Command { return nil }

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
	for _, c := range []struct{ got, want string }{
		{complete("get", ""), "app/\nother\n"},
		{complete("get", "app/"), "app/one\napp/two/\n"},
		{complete("del", "app/t"), "app/two/\n"},
		{complete("move-leader", ""), "\tm1\n"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("got %s, want %s", strconv.Quote(c.got), strconv.Quote(c.want))
		}
	}
}
