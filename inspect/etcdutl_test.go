package inspect

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// testdata/etcdutl/help.txt is what etcdutl 3.7.1 says to --help of each command.
func TestHelpIsEtcdutls(t *testing.T) {
	text, err := os.ReadFile("testdata/etcdutl/help.txt")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "##### ")[1:]
	if len(sections) < 10 {
		t.Fatalf("only %d commands in the file", len(sections))
	}
	for _, section := range sections {
		command, want, _ := strings.Cut(section, "\n")
		var out, errs bytes.Buffer
		code := Etcdutl(append(strings.Fields(command), "--help"), &out, &errs)
		if code != 0 || out.String() != want || errs.Len() > 0 {
			t.Errorf("etcdutl %s --help: exit code %d, stderr %q\n%s\nwant\n%s", command, code, &errs, &out, want)
		}
	}
}

const saved = "../snapshot/etcdfile/testdata/etcd-3.7.1.snapshot"

func TestEtcdutlRefuses(t *testing.T) {
	dir := t.TempDir()
	short, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	bare := dir + "/bare"
	if err := os.WriteFile(bare, short[:len(short)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	short[len(short)-1]++
	wrong := dir + "/wrong"
	if err := os.WriteFile(wrong, short, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"snapshot status", 128, "Error: snapshot status requires exactly one argument\n"},
		{"snapshot status " + dir + "/nosuch", 1, "Error: stat " + dir + "/nosuch: no such file or directory\n"},
		{"snapshot status " + saved + " -w nosuch", 4, "Error: unsupported output format\n"},
		{"snapshot status " + saved + " -w protobuf", 4, "Error: protobuf not supported as output format\n"},
		{"snapshot restore", 128, "Error: snapshot restore requires exactly one argument\n"},
		{"snapshot restore x --bump-revision 5", 128, "Error: --mark-compacted required if --revision-bump > 0\n"},
		{"snapshot restore x --mark-compacted", 128, "Error: --mark-compacted required if --revision-bump > 0\n"},
		{"snapshot restore " + bare + " --data-dir " + dir + "/1", 1, "Error: snapshot missing hash but --skip-hash-check=false\n"},
		{"snapshot restore " + wrong + " --data-dir " + dir + "/1", 1, "Error: expected sha256 ["},
		{"snapshot restore " + saved + " --data-dir " + dir, 1, `Error: data-dir "` + dir + "\" not empty or could not be read\n"},
		{"snapshot restore " + saved + " --data-dir " + dir + "/1 --name x", 1, `Error: couldn't find local name "x" in the initial cluster configuration`},
		{"migrate --data-dir " + dir + " --target-version abc", 1, `Error: wrong target version format, expected "X.Y", got "abc"` + "\n"},
		{"migrate --data-dir " + dir + " --target-version a.b", 1, `Error: failed to parse target version: strconv.ParseInt: parsing "a": invalid syntax` + "\n"},
		{"migrate --data-dir " + dir + " --target-version 3.4", 1, `Error: target version "3.4" not supported. Minimal "3.5"` + "\n"},
		{"defrag", 1, "Error: required flag(s) \"data-dir\" not set\nUsage:\n"},
		{"hashkv", 1, "Error: accepts 1 arg(s), received 0\nUsage:\n"},
		{"nosuch", 1, "Error: unknown command \"nosuch\" for \"etcdutl\"\nRun 'etcdutl --help' for usage.\n"},
	} {
		var out, errs bytes.Buffer
		code := Etcdutl(strings.Fields(c.args), &out, &errs)
		if code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("etcdutl %s: %d, %q, want %d, %q", c.args, code, &errs, c.code, c.want)
		}
	}
	if after, err := os.ReadFile(wrong); err != nil || !bytes.Equal(after, short) {
		t.Error("a file was changed by looking at it")
	}
}
