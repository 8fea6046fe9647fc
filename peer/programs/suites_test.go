package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	const said = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/b (0.00s)\n--- SKIP: TestC (0.00s)\n    --- FAIL: TestD/e (1.00s)\n--- FAIL: TestD (1.00s)\nPASS\n"
	if got, want := count([]byte(said)), (summary{passed: 2, failed: 2, skipped: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestSuitesAreDocumented: each suite has its row, with the version that is run, and there is no row without one.
func TestSuitesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/programs.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		rows[row[1]] = row[2]
	}
	for _, u := range suites {
		path, version, _ := strings.Cut(u.module, "@")
		if want := path + "/" + u.pkg + " " + version; rows[u.name] != want {
			t.Errorf("%s: docs/programs.md has %q, want %q", u.name, rows[u.name], want)
		}
		delete(rows, u.name)
	}
	for name := range rows {
		t.Errorf("%s: docs/programs.md has it, the list of suites has not", name)
	}
}
