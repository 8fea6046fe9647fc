package main

import (
	"strings"
	"testing"
)

func TestKnownIsReadable(t *testing.T) {
	list, err := parseKnown(knownText)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d exceptions, %v", len(list), err)
	}
	seen := map[exception]bool{}
	for _, e := range list {
		e.reason = ""
		if seen[e] {
			t.Errorf("%s is there twice", e.name)
		}
		seen[e] = true
	}
}

func TestKnownRefusesOtherLines(t *testing.T) {
	for _, line := range []string{"3.7.1 e2e fails TestA", "3.7.1 e2e passes TestA it should"} {
		if _, err := parseKnown("# said\n" + line); err == nil || !strings.HasPrefix(err.Error(), "known.txt:2: ") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestOutcomesInOutput(t *testing.T) {
	cases := []struct{ name, output, want string }{
		{"passes", "noise --- PASS: TestA (1.00s)\nPASS\n", "TestA passes"},
		{"subtests twice", "    --- FAIL: TestA/b (0.1s)\n--- FAIL: TestA (1s)\n    --- FAIL: TestA/b (0.1s)\n", "TestA/b fails, TestA fails"},
		{"a panic", "    --- PASS: TestA/b (0.1s)\npanic: test timed out after 4m0s\n", "TestA/b passes, TestA fails"},
		{"leaks that are seen after the test", "--- SKIP: TestA (0.00s)\nFAIL\n", "TestA is skipped"},
	}
	for _, c := range cases {
		var got []string
		for _, o := range outcomesIn([]byte(c.output), "TestA", "log") {
			got = append(got, o.name+" "+string(o.verdict))
		}
		if got := strings.Join(got, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestJudgement(t *testing.T) {
	cases := []struct{ name, known, outcomes, want string }{
		{"as expected", "* e2e fails B why not\n* e2e skips C why", "A passes, B fails, C is skipped", "1 2 0"},
		{"an unknown failure", "", "A fails", "0 0 0 A fails"},
		{"an unknown skip", "", "A is skipped", "0 0 0 A is skipped"},
		{"a part that is left out", "", "A passes, A/x is skipped", "1 0 1"},
		{"an unexpected pass", "* e2e fails A why not", "A passes", "0 0 0 A passes, but known.txt says that it fails: why not"},
		{"a subtest is known", "* e2e fails A/x why not", "A/x fails, A fails", "0 1 0"},
		{"a subtest is not known", "* e2e fails A/x why not", "A/x fails, A/y fails, A fails", "0 1 0 A/y fails"},
		{"the whole test is known", "* e2e fails A why not", "A/x fails, A fails", "0 2 0"},
		{"alone means nothing else", "* e2e alone A why", "A passes", "1 0 0"},
		{"not there any more", "* e2e fails A/x why not", "A passes", "1 0 0 A/x is in known.txt, but did not run"},
		{"another version's", "3.0.0 e2e fails A why not", "A passes", "1 0 0"},
	}
	for _, c := range cases {
		list, err := parseKnown(c.known)
		if err != nil {
			t.Fatal(err)
		}
		var outcomes []outcome
		for _, text := range strings.Split(c.outcomes, ", ") {
			name, v, _ := strings.Cut(text, " ")
			outcomes = append(outcomes, outcome{name: name, verdict: verdict(v)})
		}
		if got := judge(outcomes, []string{"A", "B", "C"}, only(list, "3.7.1", "e2e")).text(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func (r report) text() string {
	var b strings.Builder
	r.write(&b)
	counts := []string{digits(r.passed), digits(r.excused), digits(r.skipped)}
	return strings.TrimSpace(strings.Join(counts, " ") + " " + b.String())
}

func digits(n int) string { return string(rune('0' + n)) }
