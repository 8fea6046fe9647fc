package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// verdict is how a test ended.
type verdict string

const (
	passed  verdict = "passes"
	failed  verdict = "fails"
	skipped verdict = "is skipped"
)

// outcome is the end of one test, or of one of its subtests.
type outcome struct {
	name    string
	verdict verdict
	log     string // path of what it said
}

// resultLine is what the testing package prints of each test that ends.
var resultLine = regexp.MustCompile(`--- (PASS|FAIL|SKIP): (\S+) \(`)

// runAll runs the tests, some at a time, each in a process of its own, and then those that are to be run alone.
//
// Errors: a cancelled ctx, and programs that can't be started. A test that fails is no error.
func runAll(ctx context.Context, s settings, room room, b binary, names []string, known map[string]exception) ([]outcome, error) {
	var together, alone []string
	for _, name := range names {
		if known[name].verdict == measured {
			alone = append(alone, name)
		} else {
			together = append(together, name)
		}
	}
	outcomes, err := runTogether(ctx, s, room, b, together, s.jobs)
	if err != nil {
		return nil, err
	}
	last, err := runTogether(ctx, s, room, b, alone, 1)
	return append(outcomes, last...), err
}

func runTogether(ctx context.Context, s settings, room room, b binary, names []string, jobs int) ([]outcome, error) {
	queue := make(chan string)
	var (
		mu       sync.Mutex
		outcomes []outcome
		failure  error
		workers  sync.WaitGroup
	)
	for range jobs {
		workers.Go(func() {
			for name := range queue {
				list, err := runOne(ctx, s, room, b, name)
				mu.Lock()
				outcomes = append(outcomes, list...)
				if err != nil && failure == nil {
					failure = err
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	workers.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return outcomes, failure
}

// runOne runs one test with its subtests. Whatever keeps it from telling its verdict, a panic or its time limit, is a failure.
func runOne(ctx context.Context, s settings, room room, b binary, name string) ([]outcome, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	log := filepath.Join(s.logDir, b.label+"-"+name+".log")
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// The test's own time limit says where it stands; the other one is for a test that doesn't come to that.
	limited, cancel := context.WithTimeout(ctx, s.limit+time.Minute)
	defer cancel()
	command := room.command(limited, b.path, "-test.v", "-test.run", "^"+name+"$", "-test.timeout", s.limit.String(),
		"-test.artifacts", "-test.outputdir", s.logDir, "-bin-dir", s.binDir)
	command.Dir, command.Stdout, command.Stderr = b.dir, file, file
	command.WaitDelay = 10 * time.Second
	start := time.Now()
	if err := command.Start(); err != nil {
		return nil, err
	}
	exit := command.Wait()
	fmt.Fprintf(file, "\n%s: exit: %v, after %v\n", name, exit, time.Since(start).Round(time.Millisecond))
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	return outcomesIn(text, name, log), nil
}

// outcomesIn gathers the verdicts from a test's output. A test that says nothing about itself has failed. How the process ended
// does not count beside that: in etcd's suites it also says whether all goroutines were gone at the end, which in a suite of
// one test comes too early for children that are just stopping.
func outcomesIn(text []byte, name, log string) []outcome {
	words := map[string]verdict{"PASS": passed, "FAIL": failed, "SKIP": skipped}
	seen := map[string]bool{}
	var list []outcome
	for _, match := range resultLine.FindAllSubmatch(text, -1) {
		if found := string(match[2]); !seen[found] { // a failed parent prints its subtests again
			seen[found] = true
			list = append(list, outcome{found, words[string(match[1])], log})
		}
	}
	if !seen[name] {
		list = append(list, outcome{name, failed, log})
	}
	return list
}
