package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// layers lists the packages from top to bottom. A package imports only from layers further down; those that share a
// layer do not know each other. A name with a star stands for every package below it.
var layers = [][]string{
	{"cmd/*"},
	{"dev", "join", "proxy", "inspect"},
	{"server"},
	{"sim/*"},
	{"sim"},
	{"server/*"},
	{"config"},
	{"ctl", "bench"},
	{"api/gateway", "api/v3", "api/v2", "api/ops", "api/peer"},
	{"rpc", "http1", "api/identity", "api/v3lockpb", "api/v3electionpb"},
	{"node"},
	{"leader", "watch", "replica", "transport"},
	{"state"},
	{"state/*", "raftlog"},
	{"snapshot", "snapshot/*", "command/*"},
	{"storage"},
	{"command", "env"},
	{"internal/*"},
}

// few lists, for packages that must stay apart from what their layer would allow, all they may import of ours.
var few = map[string][]string{
	"command":           nil,
	"env":               nil,
	"storage":           {"env"},
	"raftlog":           {"storage", "env"},
	"snapshot":          {"storage", "env"},
	"transport":         {"env", "internal/socket"},
	"state/mvcc":        {"storage", "command"},
	"state/lease":       {"storage", "command"},
	"state/auth":        {"storage", "command"},
	"state/tree":        {"storage", "command"},
	"state/members":     {"storage", "command"},
	"state/alarm":       {"storage", "command"},
	"api/ops":           nil,                                                             // an interface each
	"api/gateway":       {"api/v3lockpb", "api/v3electionpb", "http1", "internal/sched"}, // it speaks the wire
	"bench":             {"internal/socket"},                                             // it speaks the wire
	"ctl":               {"internal/cli"},                                                // it speaks the wire
	"rpc":               nil,
	"http1":             {"internal/sched", "internal/socket"},
	"server/certs":      {"config"},
	"server/mux":        {"internal/sched", "internal/socket"},
	"server/tracing":    nil,
	"snapshot/etcdfile": nil,
}

func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(layer []string) bool {
		return slices.ContainsFunc(layer, func(name string) bool {
			prefix, isStar := strings.CutSuffix(name, "/*")
			return name == pkg || isStar && path.Dir(pkg) == prefix
		})
	})
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		for _, finding := range arrows(s) {
			t.Error(finding)
		}
	}
}

// arrows lists the imports of a file that point in a forbidden direction. Tests may look at anything.
func arrows(s source) []string {
	from := layerOf(s.dir)
	if from < 0 {
		return []string{fmt.Sprintf("%s: package %s has no place in the layers; give it one, in the architecture and here", s.path, s.dir)}
	}
	if s.test {
		return nil
	}
	var findings []string
	for _, imported := range s.imports {
		to, isOurs := strings.CutPrefix(imported, module+"/")
		allowed, strict := few[s.dir]
		switch {
		case !isOurs:
		case to == "internal/testkit":
			findings = append(findings, fmt.Sprintf("%s: %s is for tests", s.path, to))
		case layerOf(to) <= from:
			findings = append(findings, fmt.Sprintf("%s: %s imports %s, which does not stand below it", s.path, s.dir, to))
		case strict && !slices.Contains(allowed, to) && !isPlumbing(to):
			findings = append(findings, fmt.Sprintf("%s: %s may import only %q of ours, not %s", s.path, s.dir, allowed, to))
		}
	}
	return findings
}

func TestArrowsAreFound(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		bad            bool
	}{
		{"state/mvcc/a.go", "keelson/storage", false},
		{"state/mvcc/a.go", "keelson/state/lease", true}, // a brother
		{"state/mvcc/a.go", "keelson/state", true},
		{"state/mvcc/a.go", "keelson/env", true}, // below, but not for this one
		{"state/a.go", "keelson/state/lease", false},
		{"node/a.go", "keelson/server", true},
		{"node/a.go", "keelson/leader", false},
		{"api/v3/a.go", "keelson/api/gateway", true},
		{"server/a.go", "keelson/node", false},
		{"server/a.go", "keelson/internal/testkit", true},
		{"server/a_test.go", "keelson/internal/testkit", false},
		{"elsewhere/a.go", "fmt", true}, // no place
		{"storage/a.go", "fmt", false},
	} {
		got := arrows(parse(t, c.file, "package p\nimport _ \""+c.imported+"\"\n"))
		if (len(got) > 0) != c.bad {
			t.Errorf("%s importing %s: %q", c.file, c.imported, got)
		}
	}
}

// isPlumbing reports packages that every other may use.
func isPlumbing(pkg string) bool { return pkg == "internal/fault" }

// etcd's server and its module of packages are what this project replaces; the modules below are its published contract.
func TestNothingOfTheOtherServer(t *testing.T) {
	contract := []string{"go.etcd.io/etcd/api/v3", "go.etcd.io/etcd/client/v3", "go.etcd.io/raft/v3", "go.etcd.io/bbolt"}
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if !strings.HasPrefix(imported, "go.etcd.io/") {
				continue
			}
			if !slices.ContainsFunc(contract, func(m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") }) {
				t.Errorf("%s imports %s", s.path, imported)
			}
		}
	}
}
