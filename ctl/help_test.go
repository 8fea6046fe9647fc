package ctl

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// testdata/etcdctl/help.txt is what etcdctl 3.7.1 says to --help of each command.
func TestHelpIsEtcdctls(t *testing.T) {
	text, err := os.ReadFile("testdata/etcdctl/help.txt")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "##### ")[1:]
	if len(sections) < 50 {
		t.Fatalf("only %d commands in the file", len(sections))
	}
	for _, section := range sections {
		command, want, _ := strings.Cut(section, "\n")
		var out, errs bytes.Buffer
		code := Etcdctl(append(strings.Fields(command), "--help"), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		if code != 0 || out.String() != want || errs.Len() > 0 {
			t.Errorf("etcdctl %s --help: exit code %d, stderr %q\n%s\nwant\n%s", command, code, &errs, &out, want)
		}
	}
}
