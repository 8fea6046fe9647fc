package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings is the command line.
type settings struct {
	binDir   string   // absolute; holds etcd, etcdctl and etcdutl, and keelson for the robustness suite
	versions []string // of the test module, without the v
	suites   []string // packages of the test module, or robustness
	match    *regexp.Regexp
	quick    bool          // without those that are to be run alone
	jobs     int           // tests at a time
	limit    time.Duration // for one test
	logDir   string        // absolute; one file per test
}

// quickTests are a part of each kind, which takes two or three minutes.
const quickTests = `^Test(CtlV3(Get|Put|Del|Txn|Watch|Lease|Lock|Elect|MakeMirror|Snapshot|Member|Role|MoveLeader|Migrate)|CurlV3|V3Curl|V3Metrics|` +
	`NoMetricsMissing|ServerJsonLogging|ConnectionReject|ConnectionMultiplexing|HTTP|Gateway|EtcdExample|EtcdMultiPeer|EtcdPeerCN|Alarm|AuthAlarm|` +
	`Reproduce20340|VerifyHashKVAfterCompactAndDefrag|KVPut|KVDelete|LeaseGrant|Member|Role|User|Txn|Status|OneOfEach)`

//go:embed known.txt
var knownText string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcdtests:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	known, err := parseKnown(knownText)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "etcdtests-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	room := findRoom(ctx)
	if !room.isolated() {
		fmt.Println("no namespaces here: one test at a time, on this machine's ports")
		s.jobs = 1
	}
	unexpected := 0
	for _, version := range s.versions {
		module, err := fetch(ctx, filepath.Join(dir, version), version)
		if err != nil {
			return err
		}
		for _, suite := range s.suites {
			if suite == robustness && version != robustnessVersion {
				continue
			}
			n, err := runSuite(ctx, s, room, module, suite, known)
			if err != nil {
				return err
			}
			unexpected += n
		}
	}
	if unexpected > 0 {
		return fmt.Errorf("%d tests did not end as expected; their output is in %s", unexpected, s.logDir)
	}
	return nil
}

// runSuite runs what matches of a suite, prints what came of it, and returns how many tests did not end as known says.
func runSuite(ctx context.Context, s settings, room room, module module, suite string, known []exception) (int, error) {
	start := time.Now()
	binary, err := module.build(ctx, suite)
	if err != nil {
		return 0, err
	}
	all, err := binary.list(ctx)
	if err != nil {
		return 0, err
	}
	if suite == robustness {
		s.jobs = 1 // it asks for a rate of calls
	}
	exceptions := only(known, module.version, suite)
	names := s.chosen(all, exceptions)
	fmt.Printf("=== etcd %s, %s: %d of %d tests\n", module.version, suite, len(names), len(all))
	outcomes, err := runAll(ctx, s, room, binary, names, exceptions)
	if err != nil {
		return 0, err
	}
	report := judge(outcomes, names, exceptions)
	report.write(os.Stdout)
	fmt.Printf("%d passed, %d cannot as known, %d subtests skipped, %d unexpected, in %v\n\n",
		report.passed, report.excused, report.skipped, len(report.findings), time.Since(start).Round(time.Second))
	return len(report.findings), nil
}

func (s settings) chosen(names []string, known map[string]exception) []string {
	var chosen []string
	for _, name := range names {
		if s.match.MatchString(name) && !(s.quick && known[name].verdict == measured) {
			chosen = append(chosen, name)
		}
	}
	return chosen
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("etcdtests", flag.ContinueOnError)
	binDir := flags.String("bin", "../bin", "`directory` that holds etcd, etcdctl and etcdutl")
	versions := flags.String("version", "3.7.1,3.6.16", "versions of etcd's tests")
	suites := flags.String("suite", "e2e,common", "which suites: theirs, or robustness")
	match := flags.String("run", "", "`regexp` of the tests to run")
	flags.BoolVar(&s.quick, "quick", false, "only a part of the tests of the newest version, for two or three minutes")
	flags.IntVar(&s.jobs, "jobs", 4, "how many tests run at a time, where the system can keep them apart")
	flags.DurationVar(&s.limit, "limit", 10*time.Minute, "how long one test may take")
	logDir := flags.String("logs", filepath.Join(os.TempDir(), "etcdtests-logs"), "`directory` for the output of the tests")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	s.versions, s.suites = strings.Split(*versions, ","), strings.Split(*suites, ",")
	if s.quick {
		s.versions = s.versions[:1]
		if *match == "" {
			*match = quickTests
		}
	}
	var err error
	if s.match, err = regexp.Compile(*match); err != nil {
		return s, fmt.Errorf("-run: %w", err)
	}
	if s.jobs < 1 {
		return s, errors.New("-jobs must be positive")
	}
	if s.binDir, err = filepath.Abs(*binDir); err != nil {
		return s, err
	}
	if s.logDir, err = filepath.Abs(*logDir); err != nil {
		return s, err
	}
	names := []string{"etcd", "etcdctl", "etcdutl"}
	if slices.Contains(s.suites, robustness) {
		names = append(names, "keelson")
		if !slices.Contains(s.versions, robustnessVersion) {
			return s, fmt.Errorf("-version: the robustness suite is made of the parts of %s", robustnessVersion)
		}
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(s.binDir, name)); err != nil {
			return s, fmt.Errorf("-bin: %w (make build makes them)", err)
		}
	}
	return s, os.MkdirAll(s.logDir, 0o755)
}
