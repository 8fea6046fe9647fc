package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	cases := []struct {
		args           string
		code           int
		stdout, stderr string // how they begin
	}{
		{"keelson", 2, "", "Keelson is"},
		{"keelson help", 0, "Keelson is", ""},
		{"/usr/bin/keelson --help", 0, "Keelson is", ""},
		{"keelson --version", 0, "keelson Version: ", ""},
		{"keelson nothing", 2, "", `unknown command "nothing"`},
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

func TestUsageNamesEveryCommand(t *testing.T) {
	for _, c := range commands {
		if !strings.Contains(usage(), "keelson "+c.name+" ") || c.help == "" {
			t.Errorf("%s is missing in the usage", c.name)
		}
	}
}
