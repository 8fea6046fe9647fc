package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modulePath is where etcd publishes its tests.
const modulePath = "go.etcd.io/etcd/tests/v3"

// module is one version of etcd's tests, required by an otherwise empty module in a temporary directory. The go command
// compiles them from its module cache.
type module struct {
	version string
	dir     string
}

// binary is a compiled suite.
type binary struct {
	path  string
	dir   string // where it expects to be started
	suite string
	label string // version and suite, for names of files
}

// fetch makes a module in dir that requires the tests, and lays out what they read besides: certificates in `fixtures` and
// a configuration file, both found by paths relative to where a suite starts.
//
// Errors: the go command's.
func fetch(ctx context.Context, dir, version string) (module, error) {
	m := module{version: version, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return m, err
	}
	content := fmt.Sprintf("module etcdtests\n\ngo 1.26.0\n\nrequire %s v%s\n", modulePath, version)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(content), 0o644); err != nil {
		return m, err
	}
	source, err := m.goCommand(ctx, "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return m, err
	}
	if source = strings.TrimSpace(source); source == "" {
		if _, err := m.goCommand(ctx, "mod", "download", modulePath); err != nil {
			return m, err
		}
		if source, err = m.goCommand(ctx, "list", "-m", "-f", "{{.Dir}}", modulePath); err != nil {
			return m, err
		}
		source = strings.TrimSpace(source)
	}
	if err := os.CopyFS(filepath.Join(dir, "tests", "fixtures"), os.DirFS(filepath.Join(source, "fixtures"))); err != nil {
		return m, err
	}
	return m, os.WriteFile(filepath.Join(dir, "etcd.conf.yml.sample"), []byte(sampleConfig), 0o644)
}

// build compiles a suite. The tag is what makes the common tests run against programs.
func (m module) build(ctx context.Context, suite string) (binary, error) {
	b := binary{
		path:  filepath.Join(m.dir, suite+".test"),
		dir:   filepath.Join(m.dir, "tests", suite),
		suite: suite,
		label: m.version + "-" + suite,
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return b, err
	}
	from := modulePath + "/" + suite
	if suite == robustness {
		if err := m.addRobustness(); err != nil {
			return b, err
		}
		from = "./" + robustness
	}
	_, err := m.goCommand(ctx, "test", "-c", "-tags=e2e", "-o", b.path, from)
	return b, err
}

// list returns the names of the tests in their order.
func (b binary) list(ctx context.Context) ([]string, error) {
	command := exec.CommandContext(ctx, b.path, "-test.list", "^Test")
	command.Dir = b.dir
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests of %s: %w", b.label, err)
	}
	return strings.Fields(string(output)), nil
}

func (m module) goCommand(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = m.dir
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(output), nil
}
