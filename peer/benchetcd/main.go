package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"keelson/peer/process"
)

// settings is the command line.
type settings struct {
	keelson   string   // path of the binary under test
	etcd      string   // path of etcd-peer
	bench     []string // program and first arguments of the load generator
	against   process.Kind
	match     *regexp.Regexp
	rounds    int
	quick     bool
	huge      bool
	behindMiB int      // how far a member falls behind
	dir       string   // parent of the data directories
	args      []string // further flags for Keelson
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == echoWord {
		runEcho(os.Args[2:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchetcd:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if s.etcd == "" && s.needsEtcdPeer() {
		dir, err := os.MkdirTemp("", "benchetcd-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if s.etcd, err = process.BuildEtcd(dir); err != nil {
			return err
		}
	}
	var failures []error
	ran := false
	tables := map[string]*table{}
	for _, scenario := range scenarios() {
		if !s.match.MatchString(scenario.name) || scenario.huge && !s.huge {
			continue
		}
		ran = true
		table, err := compare(ctx, s, scenario)
		table.write(os.Stdout)
		tables[scenario.name] = table
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", scenario.name, err))
			fmt.Fprintf(os.Stdout, "  failed: %v\n", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	writeBars(os.Stdout, tables)
	if !ran {
		return errors.New("no scenario of that name; -list shows them")
	}
	return errors.Join(failures...)
}

// needsEtcdPeer reports whether any scenario that is asked for compares with it.
func (s settings) needsEtcdPeer() bool {
	for _, scenario := range scenarios() {
		if s.match.MatchString(scenario.name) && !scenario.isV2() && !scenario.huge {
			return true
		}
	}
	return false
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("benchetcd", flag.ContinueOnError)
	flags.StringVar(&s.keelson, "keelson", "../bin/keelson", "`path` of the binary under test")
	flags.StringVar(&s.etcd, "etcd", "", "`path` of etcd-peer; empty: build it")
	bench := flags.String("bench", "", "load generator, `program` and arguments; empty: KEELSON bench")
	against := flags.String("against", "keelson", "what etcd is compared with: keelson, or etcd, which shows how much the figures vary")
	match := flags.String("run", "", "`regexp` of the scenarios to run")
	list := flags.Bool("list", false, "list the scenarios")
	flags.IntVar(&s.rounds, "rounds", 0, "how often each scenario runs on each server; the median counts; 0: 3, or 1 with -quick")
	flags.BoolVar(&s.quick, "quick", false, "a few seconds for each scenario")
	flags.BoolVar(&s.huge, "huge", false, "also what takes many minutes and gigabytes")
	flags.IntVar(&s.behindMiB, "behind", 256, "how far behind a member is that comes back, in `MiB`; 2048 for the full size")
	flags.StringVar(&s.dir, "dir", "", "where the data directories go; empty: the system's temporary directory")
	extra := flags.String("keelson-args", "", "further `flags` for Keelson, blank-separated")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch *against {
	case "keelson":
		s.against = process.Keelson
	case "etcd":
		s.against = process.Etcd
	default:
		return s, fmt.Errorf("-against=%s: neither keelson nor etcd", *against)
	}
	if s.behindMiB <= 0 {
		return s, fmt.Errorf("-behind=%d: not positive", s.behindMiB)
	}
	if s.rounds == 0 {
		if s.rounds = 3; s.quick {
			s.rounds = 1
		}
	}
	if s.bench = strings.Fields(*bench); len(s.bench) == 0 {
		s.bench = []string{s.keelson, "bench"}
	}
	s.args = strings.Fields(*extra)
	var err error
	if s.match, err = regexp.Compile(*match); err != nil {
		return s, fmt.Errorf("-run: %w", err)
	}
	if *list {
		for _, scenario := range scenarios() {
			fmt.Printf("%-20s %s\n", scenario.name, scenario.about)
		}
		os.Exit(0)
	}
	return s, nil
}
