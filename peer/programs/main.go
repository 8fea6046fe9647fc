// Command programs runs what programs that use etcd publish to test that part of them with, as it is, against our program; and against
// another etcd, to see what is their own fault. docs/programs.md says what came of it.
//
//	go run ./programs                              # all of them
//	go run ./programs -run 'coredns|vitess'        # some
//	go run ./programs -etcd /usr/bin/etcd -args=--enable-v2
//
// Programs are fetched and built by the go command in a temporary directory: nothing of theirs comes into this tree. Each runs in a
// network and process namespace of its own, beside a member that listens where programs look for one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// settings is the command line.
type settings struct {
	etcd  string // absolute
	args  []string
	match *regexp.Regexp
	limit time.Duration // of a suite
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == insideWord {
		err = inside(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "programs:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	failed, ran := false, false
	for _, u := range suites {
		if !s.match.MatchString(u.name) {
			continue
		}
		ran = true
		start := time.Now()
		sum, err := execute(ctx, s, u)
		if err != nil {
			return fmt.Errorf("%s: %w", u.name, err)
		}
		fmt.Printf("%s: %s, %s: %d passed, %d failed, %d skipped, in %v\n", u.name, u.module, u.pkg, sum.passed, sum.failed, sum.skipped,
			time.Since(start).Round(time.Second))
		failed = failed || sum.failed > 0 || sum.passed == 0
	}
	switch {
	case !ran:
		return errors.New("-run: there is no such suite")
	case failed:
		return errors.New("not all that ran has passed")
	}
	return nil
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("programs", flag.ContinueOnError)
	etcd := flags.String("etcd", "../bin/etcd", "`path` of the server, called etcd")
	words := flags.String("args", "", "more `words` for the server's command line")
	match := flags.String("run", "", "`regexp` of the suites to run")
	flags.DurationVar(&s.limit, "limit", 5*time.Minute, "how long a suite may take once it is built")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	s.args = strings.Fields(*words)
	var err error
	if s.match, err = regexp.Compile(*match); err != nil {
		return s, err
	}
	if s.etcd, err = filepath.Abs(*etcd); err != nil {
		return s, err
	}
	if _, err := os.Stat(s.etcd); err != nil {
		return s, fmt.Errorf("-etcd: %w (make build makes it)", err)
	}
	return s, nil
}
