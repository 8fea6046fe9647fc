package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/ctl"
	"keelson/inspect"
)

func TestCommandLine(t *testing.T) {
	cases := []struct {
		args           string
		code           int
		stdout, stderr string // how they begin
	}{
		{"keelson", 0, "Keelson is", ""},
		{"keelson help", 0, "Keelson is", ""},
		{"/usr/bin/keelson --help", 0, "Keelson is", ""},
		{"keelson --version", 0, "keelson Version: ", ""},
		{"keelson version", 0, "keelson Version: ", ""},
		{"etcdctl version", 0, "etcdctl version: 3.7.1", ""},
		{"keelson nothing", 1, "", `Error: unknown command "nothing" for "keelson"`},
	}
	for _, c := range cases {
		var stdout, stderr bytes.Buffer
		code := run(strings.Fields(c.args), &stdout, &stderr)
		if code != c.code || !strings.HasPrefix(stdout.String(), c.stdout) || !strings.HasPrefix(stderr.String(), c.stderr) ||
			(c.stdout == "") != (stdout.Len() == 0) || (c.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%s: %d, %q, %q", c.args, code, &stdout, &stderr)
		}
	}
}

func TestHelpNamesEveryProgram(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run([]string{"keelson", "help"}, &stdout, &stderr)
	for _, p := range programs {
		if !strings.Contains(stdout.String(), "\n  "+p.Name+" ") || p.Short == "" {
			t.Errorf("%s is missing in the help", p.Name)
		}
	}
}

// TestDocumentsAreCurrent compares docs/cli.md and the man pages with the commands; make docs writes them.
func TestDocumentsAreCurrent(t *testing.T) {
	pages := ctl.Documents(programs, inspect.Commands(nil))
	if len(pages) < 30 {
		t.Fatalf("only %d pages", len(pages))
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil || string(got) != want {
			t.Errorf("docs/%s is not what the commands say (%v): run make docs", name, err)
		}
	}
	present, err := filepath.Glob("../../docs/man/*")
	if err != nil || len(present) != len(pages)-1 {
		t.Errorf("docs/man has %d pages, want %d: remove what no command stands for (%v)", len(present), len(pages)-1, err)
	}
}
