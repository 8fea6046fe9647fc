package lint

import (
	"bytes"
	"go/ast"
	"go/format"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEveryPackageIntroducesItself(t *testing.T) {
	type found struct{ code, introduced bool }
	packages := map[string]found{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		p := packages[s.dir]
		p.code = true
		if path.Base(s.path) == "doc.go" {
			want := "Package " + s.syntax.Name.Name + " "
			if s.syntax.Name.Name == "main" {
				want = "Command "
			}
			text := s.syntax.Doc.Text()
			if !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment must begin with %q", s.path, want)
			}
			p.introduced = true
		}
		packages[s.dir] = p
	}
	for _, dir := range sorted(packages) {
		if p := packages[dir]; p.code && !p.introduced {
			t.Errorf("%s has no doc.go: say what it owns, what it leaves to others, and who may call it", dir)
		}
	}
}

func TestFormatted(t *testing.T) {
	for _, s := range sources(t) {
		formatted, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		} else if !bytes.Equal(formatted, s.text) {
			t.Errorf("%s is not formatted: run gofmt", s.path)
		}
	}
}

// namedFile matches a file of the tree in backquotes.
var namedFile = regexp.MustCompile("`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*\\.(?:go|md|yml|txt))`")

func TestDocumentsNameFilesThatExist(t *testing.T) {
	walk(t, true, func(name string, text []byte) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		for _, match := range namedFile.FindAllSubmatch(text, -1) {
			target := string(match[1])
			if !exists(target) && !exists(path.Join(path.Dir(name), target)) {
				t.Errorf("%s names %s, which does not exist", name, target)
			}
		}
	})
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil
}

// Written in pieces, so that they do not find themselves.
var (
	unfinished = regexp.MustCompile(`\b(` + "TO" + `DO|` + "FIX" + `ME|` + "XX" + `X|` + "HA" + `CK)\b`)
	foreign    = regexp.MustCompile(`(?i)\b(` + "cla" + `ude|` + "chat" + `gpt|` + "l" + `lm|` + "ai ag" + `ents?|` + "coding ag" + `ents?|` +
		"sub" + `agents?|` + "this sess" + `ion|` + "previous sess" + `ion)\b|` + "/wo" + `rk/main|` + "/ro" + `ot/go`)
)

func TestTheTreeSpeaksOfItselfAlone(t *testing.T) {
	walk(t, true, func(name string, text []byte) {
		switch path.Base(name) {
		case "go.sum", "LICENSE", ".git": // the last is a file in a linked worktree
			return
		}
		if !utf8.Valid(text) || strings.Contains(name, "/testdata/fuzz/") {
			return
		}
		number := 0
		for line := range bytes.Lines(text) {
			number++
			if found := unfinished.Find(line); found != nil && !bytes.Contains(line, []byte("context."+"TO"+"DO")) {
				t.Errorf("%s:%d says %s: finish it, or say what is so", name, number, found)
			}
			if found := foreign.Find(line); found != nil {
				t.Errorf("%s:%d says %q, which is no business of the project", name, number, found)
			}
		}
	})
}

func TestNoTestIsSkipped(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
				receiver, isName := selector.X.(*ast.Ident)
				switch selector.Sel.Name {
				case "Skip", "Skipf", "SkipNow":
					if isName && (receiver.Name == "t" || receiver.Name == "f" || receiver.Name == "tb") {
						t.Errorf("%s skips: a test that does not run proves nothing", s.at(call))
					}
				}
			}
			return true
		})
	}
}
