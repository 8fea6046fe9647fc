// Kubetests runs the tests of Kubernetes' storage, as they are published with its API server, against our program: what lists, watches,
// creates, updates, deletes and compacts for a cluster must find nothing to complain about.
//
// The tests run as they are, with their module's own requirements, but for the file that would start an etcd within them:
// testdata/testserver.go takes its place.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// serverFile is what testserver.go takes the place of.
const serverFile = "pkg/storage/etcd3/testserver/test_server.go"

//go:embed testdata/testserver.go
var testserver []byte

// settings is the command line.
type settings struct {
	etcd     string   // absolute
	version  string   // of k8s.io/apiserver, with the v
	packages []string // of that module, below pkg/storage
	match    string
	limit    time.Duration // of a package
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kubetests:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kubetests-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	module, err := download(ctx, "k8s.io/apiserver@"+s.version)
	if err != nil {
		return err
	}
	if err := prepare(dir, module); err != nil {
		return err
	}
	failed := false
	for _, name := range s.packages {
		start := time.Now()
		sum, err := test(ctx, s, dir, "./pkg/storage/"+name)
		if err != nil {
			return err
		}
		fmt.Printf("k8s.io/apiserver %s, %s: %d passed, %d failed, %d skipped, in %v\n",
			s.version, name, sum.passed, sum.failed, sum.skipped, time.Since(start).Round(time.Second))
		failed = failed || sum.failed > 0 || sum.passed == 0
	}
	if failed {
		return errors.New("not all that ran has passed")
	}
	return nil
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("kubetests", flag.ContinueOnError)
	binDir := flags.String("bin", "../bin", "`directory` that holds etcd")
	flags.StringVar(&s.version, "version", "v0.37.2", "version of k8s.io/apiserver")
	packages := flags.String("packages", "etcd3,storagebackend/factory,cacher", "packages of pkg/storage")
	flags.StringVar(&s.match, "run", "", "`regexp` of the tests to run")
	flags.DurationVar(&s.limit, "limit", 30*time.Minute, "how long the tests of a package may take")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	s.packages = strings.Split(*packages, ",")
	var err error
	if s.etcd, err = filepath.Abs(filepath.Join(*binDir, "etcd")); err != nil {
		return s, err
	}
	if _, err := os.Stat(s.etcd); err != nil {
		return s, fmt.Errorf("-bin: %w (make build makes it)", err)
	}
	return s, nil
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

// prepare copies the module, with testserver.go where it belongs.
func prepare(dir, module string) error {
	replaced := filepath.Join(dir, serverFile)
	return errors.Join(
		os.CopyFS(dir, os.DirFS(module)),
		os.Remove(replaced),
		os.WriteFile(replaced, testserver, 0o644),
	)
}

// summary counts tests and subtests.
type summary struct{ passed, failed, skipped int }

// test runs the tests of a package and shows the output of those that fail.
func test(ctx context.Context, s settings, module, pkg string) (summary, error) {
	var sum summary
	c := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout", s.limit.String(), "-run", s.match, pkg)
	c.Dir = module
	c.Env = append(os.Environ(), "KUBETESTS_ETCD="+s.etcd, "GOFLAGS=-mod=readonly", "GOWORK=off")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return sum, err
	}
	said := map[string]*bytes.Buffer{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var e struct{ Action, Test, Output string }
		if dec.Decode(&e) != nil {
			break
		}
		switch e.Action {
		case "output":
			if said[e.Test] == nil {
				said[e.Test] = new(bytes.Buffer)
			}
			said[e.Test].WriteString(e.Output)
		case "pass", "skip", "fail":
			if e.Action == "fail" {
				os.Stdout.Write(said[e.Test].Bytes())
			}
			sum.count(e.Action, e.Test != "")
			delete(said, e.Test)
		}
	}
	if err != nil && sum.failed == 0 { // it was not built, or has not ended in order
		return sum, fmt.Errorf("%s: %w\n%s", pkg, err, out)
	}
	return sum, nil
}

func (s *summary) count(action string, isTest bool) {
	switch {
	case action == "fail":
		s.failed++
	case !isTest:
	case action == "pass":
		s.passed++
	default:
		s.skipped++
	}
}
