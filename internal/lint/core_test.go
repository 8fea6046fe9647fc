package lint

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// core are the packages whose every step follows from what is put into them: the log's words, the state, the replica,
// and what a leader decides. Members must agree on their results and a seed must replay them, so they have no door to
// the outside of their own.
var core = []string{"command", "state", "replica", "leader"}

// doored are packages that may wait and run goroutines, but take clock, chance, files and network from env.
var doored = []string{"watch", "node", "raftlog", "storage"}

func within(dir string, packages []string) bool {
	return slices.ContainsFunc(packages, func(p string) bool { return dir == p || strings.HasPrefix(dir, p+"/") })
}

var (
	chanceImports = []string{"math/rand", "math/rand/v2", "crypto/rand"}
	coreImports   = append([]string{"os", "os/exec", "os/signal", "net", "net/http", "syscall", "io/ioutil"}, chanceImports...)
	clockCalls    = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
)

func TestCoreHasNoDoors(t *testing.T) {
	for _, s := range sources(t) {
		for _, finding := range doors(s) {
			t.Error(finding)
		}
	}
}

// doors lists what a file takes from outside though its package must not.
func doors(s source) []string {
	inCore, inDoored := within(s.dir, core), within(s.dir, doored)
	if s.test || !inCore && !inDoored || strings.HasSuffix(s.dir, "test") {
		return nil
	}
	var findings []string
	report := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	forbidden := chanceImports
	if inCore {
		forbidden = coreImports
	}
	for _, imported := range s.imports {
		if slices.Contains(forbidden, imported) {
			report("%s imports %s: %s takes it from outside, as an argument or through env", s.path, imported, s.dir)
		}
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if inCore {
				report("%s: %s starts a goroutine: its steps would no longer follow from its inputs", s.at(n), s.dir)
			}
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clockCalls, n.Sel.Name) {
				report("%s: %s asks the machine's clock (time.%s): use env.Clock or a field of the command", s.at(n), s.dir, n.Sel.Name)
			}
		}
		return true
	})
	return findings
}

func TestDoorsAreFound(t *testing.T) {
	const text = `package p
import ("math/rand"; "os"; "time")
func f() { go f(); _, _, _ = rand.Int(), os.Args, time.Now(); _ = time.Second }
`
	for file, want := range map[string]int{
		"state/mvcc/a.go": 4, "command/a.go": 4, "watch/a.go": 2, "server/a.go": 0, "state/a_test.go": 0, "command/commandtest/a.go": 0,
	} {
		if got := doors(parse(t, file, text)); len(got) != want {
			t.Errorf("%s: %d findings, want %d: %q", file, len(got), want, got)
		}
	}
}
