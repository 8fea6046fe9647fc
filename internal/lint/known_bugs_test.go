package lint

import (
	"fmt"
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

// knownBugs says how many there are of each class.
var knownBugs = map[string]int{"D": 16, "A": 23, "R": 6, "W": 17, "L": 12, "M": 15, "S": 18}

const knownBugsPage = "docs/reliability-known-bugs.md"

var (
	bugRow   = regexp.MustCompile(`^\| ([A-Z]\d+) \|.*\| ([^|]*) \|$`)
	bugTests = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")
)

// Every known bug has a row, and every row names tests that exist: a bug whose test was renamed or removed comes back unseen.
func TestEveryKnownBugHasATest(t *testing.T) {
	there := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test && f.Recv == nil {
				there[s.dir+"."+f.Name.Name] = true
			}
		}
	}
	rows := map[string]int{}
	walk(t, true, func(name string, text []byte) {
		if name != knownBugsPage {
			return
		}
		for line := range strings.Lines(string(text)) {
			row := bugRow.FindStringSubmatch(strings.TrimSpace(line))
			if row == nil {
				continue
			}
			rows[row[1]]++
			named := bugTests.FindAllStringSubmatch(row[2], -1)
			if len(named) == 0 {
				t.Errorf("%s: %s has no test", knownBugsPage, row[1])
			}
			for _, test := range named {
				if !there[test[1]+"."+test[2]] {
					t.Errorf("%s: %s names %s.%s, which does not exist", knownBugsPage, row[1], test[1], test[2])
				}
			}
		}
	})
	for class, n := range knownBugs {
		for i := 1; i <= n; i++ {
			if id := fmt.Sprint(class, i); rows[id] != 1 {
				t.Errorf("%s has %d rows for %s, want one", knownBugsPage, rows[id], id)
			}
			delete(rows, fmt.Sprint(class, i))
		}
	}
	for id := range rows {
		t.Errorf("%s has a row for %s, which is unknown here", knownBugsPage, id)
	}
}
