package main

import (
	"bufio"
	"fmt"
	"strings"
)

// exception is a line of known.txt: a test that does not pass, how it ends, and why; or one that is to be run alone.
type exception struct {
	version string // of etcd's tests; *: any
	suite   string
	verdict verdict // failed, skipped, or measured
	name    string
	reason  string
}

// measured is said of tests that pass if nothing else runs meanwhile: they measure milliseconds.
const measured verdict = "is run alone"

// parseKnown reads known.txt: blank-separated version, suite, `fails`, `skips` or `alone`, the name, the reason. Lines that
// begin with # say something about those that follow.
//
// Errors: a line of another shape, named by its number.
func parseKnown(text string) ([]exception, error) {
	var list []exception
	lines := bufio.NewScanner(strings.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 5 {
			return nil, fmt.Errorf("known.txt:%d: not VERSION SUITE fails|skips|alone TEST REASON", number)
		}
		e := exception{version: words[0], suite: words[1], name: words[3], reason: strings.Join(words[4:], " ")}
		switch words[2] {
		case "fails":
			e.verdict = failed
		case "skips":
			e.verdict = skipped
		case "alone":
			e.verdict = measured
		default:
			return nil, fmt.Errorf("known.txt:%d: %q is neither fails nor skips nor alone", number, words[2])
		}
		list = append(list, e)
	}
	return list, lines.Err()
}

// only returns the exceptions of one suite of one version, by name.
func only(list []exception, version, suite string) map[string]exception {
	chosen := map[string]exception{}
	for _, e := range list {
		if (e.version == "*" || e.version == version) && e.suite == suite {
			chosen[e.name] = e
		}
	}
	return chosen
}
