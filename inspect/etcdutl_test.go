package inspect

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/server"
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
		{"migrate --data-dir " + dir + " --target-version abc", 128, `Error: wrong target version format, expected "X.Y", got "abc"` + "\n"},
		{"migrate --data-dir " + dir + " --target-version a.b", 128, `Error: failed to parse target version: strconv.ParseInt: parsing "a": invalid syntax` + "\n"},
		{"migrate --data-dir " + dir + " --target-version 3.4", 128, `Error: target version "3.4" not supported. Minimal "3.5"` + "\n"},
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

// TestWhatNext: in keelson's manner, what an import refuses says what to do; in etcdutl's, it is etcdutl's text alone.
func TestWhatNext(t *testing.T) {
	dir := t.TempDir()
	bare := filepath.Join("..", "snapshot", "etcdfile", "testdata", "etcd-3.7.1.snapshot")
	whole, err := os.ReadFile(bare)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	changed := bytes.Clone(whole)
	changed[1000] ^= 1
	for name, c := range map[string]struct{ path, to, next string }{
		"no file":            {filepath.Join(dir, "none"), "a", "give the file"},
		"no sum":             {file("nosum", whole[:len(whole)-32]), "b", "--skip-hash-check"},
		"a wrong sum":        {file("changed", changed), "c", "damaged or cut short"},
		"a directory in use": {bare, "", "choose a directory"},
	} {
		for _, plain := range []bool{true, false} {
			to := filepath.Join(dir, c.to)
			tool := &tool{plain: plain, out: io.Discard, err: io.Discard}
			o := &foundingFlags{dataDir: to, name: "m1", cluster: "m1=http://localhost:2380", peerURLs: "http://localhost:2380", token: "t"}
			err := tool.restore(o, server.Restoration{Snapshot: c.path})
			if err == nil || strings.Contains(err.Error(), "next:") == plain || !plain && !strings.Contains(err.Error(), c.next) {
				t.Errorf("%s, plain %v: %v", name, plain, err)
			}
		}
	}
}
