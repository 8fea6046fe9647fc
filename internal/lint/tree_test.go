package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// root is the top of the tree, seen from this package.
const root = "../.."

// module is the path of the main module.
const module = "keelson"

// source is one Go file of the main module.
type source struct {
	path    string // from the top, with slashes
	dir     string // its package
	test    bool
	text    []byte
	syntax  *ast.File
	files   *token.FileSet
	imports []string
}

// isForeign reports directories that are not part of the main module's tree: what git ignores, and other modules.
func isForeign(dir string, d fs.DirEntry) bool {
	if dir == root {
		return false
	}
	switch d.Name() {
	case ".git", "bin":
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// walk calls f for every file of the tree; nested tells whether to go into other modules as well.
func walk(t *testing.T, nested bool, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if isForeign(path, d) && (!nested || d.Name() == ".git" || d.Name() == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil // somebody's temporary file
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(relative), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// parsed is what sources found, once for all tests.
var parsed struct {
	sync.Once
	list []source
}

// sources parses every Go file of the main module.
func sources(t *testing.T) []source {
	t.Helper()
	parsed.Do(func() {
		walk(t, false, func(path string, text []byte) {
			if strings.HasSuffix(path, ".go") && !strings.Contains(path, "/testdata/") {
				parsed.list = append(parsed.list, parse(t, path, string(text)))
			}
		})
	})
	if len(parsed.list) < 50 {
		t.Fatalf("only %d files were found: the walk has lost its way", len(parsed.list))
	}
	return parsed.list
}

func parse(t *testing.T, name, text string) source {
	t.Helper()
	s := source{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: []byte(text), files: token.NewFileSet()}
	syntax, err := parser.ParseFile(s.files, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s.syntax = syntax
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.imports = append(s.imports, imported)
	}
	return s
}

// at is a position as an editor understands it.
func (s source) at(node ast.Node) string { return s.files.Position(node.Pos()).String() }

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
