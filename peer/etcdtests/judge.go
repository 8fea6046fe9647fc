package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// report is what came of a suite. Subtests count like tests.
type report struct {
	passed   int
	excused  int       // did not pass, as known
	skipped  int       // parts of a test that etcd's suite leaves out by itself
	findings []finding // sorted by test
}

// finding is a test that did not end as expected.
type finding struct {
	name string
	text string
	log  string
}

// judge compares the outcomes with what is known. names are the tests that were run: exceptions of others are not missed.
func judge(outcomes []outcome, names []string, known map[string]exception) report {
	var r report
	seen := map[string]bool{}
	for _, o := range outcomes {
		seen[o.name] = true
		e, isKnown := known[o.name]
		switch isKnown = isKnown && e.verdict != measured; {
		case isKnown && e.verdict == o.verdict, o.verdict == failed && isBelowFailure(o.name, known):
			r.excused++
		case isKnown:
			r.add(o, fmt.Sprintf("%s, but known.txt says that it %s: %s", o.verdict, e.verdict, e.reason))
		case o.verdict == passed:
			r.passed++
		case o.verdict == failed && isExplained(o, outcomes):
			// Its subtests speak for it.
		case o.verdict == skipped && strings.Contains(o.name, "/"):
			r.skipped++
		default:
			r.add(o, string(o.verdict))
		}
	}
	for name := range known {
		top, _, _ := strings.Cut(name, "/")
		if !seen[name] && slices.Contains(names, top) {
			r.findings = append(r.findings, finding{name: name, text: "is in known.txt, but did not run"})
		}
	}
	slices.SortFunc(r.findings, func(a, b finding) int { return strings.Compare(a.name, b.name) })
	return r
}

func (r *report) add(o outcome, text string) {
	r.findings = append(r.findings, finding{o.name, text, o.log})
}

// isBelowFailure tells whether a subtest belongs to a test that is known to fail as a whole.
func isBelowFailure(name string, known map[string]exception) bool {
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return false
		}
		if name = name[:i]; known[name].verdict == failed {
			return true
		}
	}
}

// isExplained tells whether a test failed because of a subtest.
func isExplained(parent outcome, outcomes []outcome) bool {
	return slices.ContainsFunc(outcomes, func(o outcome) bool {
		return o.verdict == failed && strings.HasPrefix(o.name, parent.name+"/")
	})
}

func (r report) write(w io.Writer) {
	for _, f := range r.findings {
		fmt.Fprintf(w, "%s %s", f.name, f.text)
		if f.log != "" {
			fmt.Fprintf(w, " (%s)", f.log)
		}
		fmt.Fprintln(w)
		for _, line := range endOf(f.log) {
			fmt.Fprintln(w, "    "+line)
		}
	}
}

const (
	linesShown = 40
	lineMax    = 400 // bytes
)

// endOf is the end of what a test has said, without the command lines of its servers. Of a log that can't be read it is empty.
func endOf(log string) (lines []string) {
	text, _ := os.ReadFile(log)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "spawning process") {
			lines = append(lines, strings.TrimRight(line[:min(len(line), lineMax)], "\n"))
		}
	}
	return lines[max(0, len(lines)-linesShown):]
}
