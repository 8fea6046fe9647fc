package inspect

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// TestAgainstEtcdutl37 types the same lines to etcdutl 3.7.1 and to ours and compares what is said, on stderr too, and exit codes.
func TestAgainstEtcdutl37(t *testing.T) {
	theirs := filepath.Join(tools(t), "etcdutl")
	ours := filepath.Join(t.TempDir(), "etcdutl")
	if err := os.Symlink(testkit.Binary(t), ours); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/etcdutl/compare.cases")
	if err != nil {
		t.Fatal(err)
	}
	dirs := [2]string{t.TempDir(), t.TempDir()}
	reason, cases := "", 0
	for i, line := range strings.Split(string(text), "\n") {
		if why, isMark := strings.CutPrefix(line, "! "); isMark {
			reason = why
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		cases++
		var answers [2]string
		for side, program := range []string{theirs, ours} {
			layOut(t, dirs[side])
			answers[side] = etcdutlSays(t, program, dirs[side], line)
		}
		switch {
		case answers[0] == answers[1] && reason != "":
			t.Errorf("%d: etcdutl %s: no difference, but one is said to exist: %s", i+1, line, reason)
		case answers[0] != answers[1] && reason == "":
			t.Errorf("%d: etcdutl %s\ntheirs:\n%s\nours:\n%s", i+1, line, answers[0], answers[1])
		}
		reason = ""
	}
	if cases < 100 {
		t.Errorf("only %d cases", cases)
	}
}

// layOut writes the files that the cases are about, as they were before anybody looked at them.
func layOut(t *testing.T, dir string) {
	whole, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), whole...)
	bad[9000]++
	for name, b := range map[string][]byte{"s.db": whole, "bare": whole[:len(whole)-32], "bad": bad, "junk": []byte("junk\n"), "empty": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func etcdutlSays(t *testing.T, program, dir, line string) string {
	cmd := exec.Command("sh", "-c", "exec "+program+" "+line)
	cmd.Dir = dir
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	said := ""
	for l := range strings.Lines(errs.String()) {
		if !strings.Contains(l, "\tinfo\t") { // what the database is doing is theirs alone
			said += l
		}
	}
	for _, n := range normalUtl {
		said = n.what.ReplaceAllString(said, n.by)
	}
	return out.String() + "stderr:\n" + said + fmt.Sprintf("exit: %v", cmd.ProcessState)
}

var normalUtl = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`(?m)^20\S+T\S+\t(\w+)\t\S+:\d+\t`), "T\t$1\tC\t"},
	// The stack below an error that was logged.
	{regexp.MustCompile(`(?m)^T\terror\t.*\n((go\.etcd\.io|github\.com|main|runtime)\S*\n\t.*\n)*`), ""},
}
