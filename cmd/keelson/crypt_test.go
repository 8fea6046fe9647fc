package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// TestCrypt has Debian's crypt, which keeps configuration in the v2 API with etcd's client of 2016, write, read and list.
func TestCrypt(t *testing.T) {
	testkit.Need(t, "crypt-xordataexchange")
	member := testkit.NewProcess(t)
	member.Start()
	const value = `{"port": 80}`
	file := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	crypt := func(verb string, words ...string) (string, error) {
		line := append([]string{verb, "-plaintext", "-endpoint", "http://" + member.Endpoint}, words...)
		out, err := exec.CommandContext(t.Context(), "crypt-xordataexchange", line...).CombinedOutput()
		return string(out), err
	}
	for _, key := range []string{"/app/one", "/app/two"} {
		if out, err := crypt("set", key, file); err != nil {
			t.Fatalf("set: %v\n%s", err, out)
		}
		if out, err := crypt("get", key); err != nil || strings.TrimSpace(out) != value {
			t.Errorf("get %s: %v\n%s", key, err, out)
		}
	}
	out, err := crypt("list", "/app")
	if err != nil || !strings.Contains(out, "/app/one: "+value) || !strings.Contains(out, "/app/two: "+value) {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := crypt("get", "/app/three"); err == nil || !strings.HasPrefix(out, "100: Key not found (/app/three)") {
		t.Errorf("get what is not there: %v\n%s", err, out)
	}
	if e := newV2Client(t, member).must("GET", "/app/one", "", 0); e.Node.value() != value {
		t.Errorf("what it wrote: %+v", e.Node)
	}
}
