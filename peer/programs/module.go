package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed testdata
var testdata embed.FS

// build makes the suite's program in dir, and returns where it is and where it expects to be started.
//
// Errors: the go command's.
func build(ctx context.Context, dir string, u suite) (program, at string, err error) {
	source, err := download(ctx, u.module)
	if err != nil {
		return "", "", err
	}
	path, _, _ := strings.Cut(u.module, "@")
	program = filepath.Join(dir, "suite.test")
	line := []string{"test", "-c", "-vet=off", "-tags=" + u.tags, "-o", program}
	if !u.required {
		copied := filepath.Join(dir, "module")
		if err := os.CopyFS(copied, os.DirFS(source)); err != nil {
			return "", "", err
		}
		return program, filepath.Join(copied, u.pkg), goCommand(ctx, copied, append(line, "./"+u.pkg)...)
	}
	what := path + "/" + u.pkg
	if err := require(ctx, dir, u, what); err != nil {
		return "", "", err
	}
	if u.file != "" {
		what = "."
	}
	return program, dir, goCommand(ctx, dir, append(line, "-mod=mod", what)...)
}

// require makes a module in dir that requires the suite's, and holds the test of ours, if there is one.
func require(ctx context.Context, dir string, u suite, pkg string) error {
	files := map[string][]byte{
		"go.mod":     []byte("module suite\n\ngo 1.26.0\n"),
		"require.go": fmt.Appendf(nil, "package suite\n\nimport _ %q\n", pkg),
	}
	if u.file != "" {
		text, err := testdata.ReadFile("testdata/" + u.file)
		if err != nil {
			return err
		}
		files[u.file] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return goCommand(ctx, dir, "get", u.module)
}

// download fetches a module and returns where it is.
func download(ctx context.Context, module string) (dir string, err error) {
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", module).Output()
	var told struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &told); told.Error != "" || jsonErr != nil {
		return "", fmt.Errorf("download %s: %w", module, errors.Join(err, jsonErr, errors.New(told.Error)))
	}
	return told.Dir, err
}

// goCommand runs the go command in dir. Paths are left out, so that what was built is found again in another temporary directory.
func goCommand(ctx context.Context, dir string, words ...string) error {
	c := exec.CommandContext(ctx, "go", words...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOFLAGS=-trimpath", "GOWORK=off")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return nil
}
