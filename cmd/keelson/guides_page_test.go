package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A guide is a page of docs/guides. Its blocks marked sh are run from top to bottom, on the machines that comments before
// them name; a block marked text shows what the one before it prints. The comments are:
//
//	<!-- on m1 -->                    the next block is typed at m1, in one shell for the whole page (admin, if there is none)
//	<!-- on m1, until "TEXT" -->      it is a server: it runs on in the background once its log says TEXT
//	<!-- on m1, fails -->             its last command ends with another code than 0
//	<!-- on m1, soon -->              it looks: if all is not yet as shown, it is typed again after a moment
//	<!-- stop m1 -->                  what runs in the background there is stopped, as systemd or Ctrl-C would
//	<!-- ended m1 -->                 it ends by itself
//	<!-- not run: WHY -->             the next block is checked for its syntax only
//	<!-- setup on m1 ... -->          what readers have already: the lines that follow within the comment are run; here, too, a
//	                                  machine and until may be left out
type step struct {
	line    int // in the page, for messages
	kind    stepKind
	machine string
	until   string // serve
	fails   bool
	soon    bool
	text    string
	output  []string // shown; nil: none is
}

type stepKind int

const (
	stepRun stepKind = iota
	stepServe
	stepStop
	stepEnded
	stepSyntax
)

var (
	markedOn     = regexp.MustCompile(`^(setup )?on (\w+)(?:, (fails|soon)|, until "([^"]+)")?$`)
	markedSetup  = "setup"
	markedStop   = regexp.MustCompile(`^(stop|ended) (\w+)$`)
	markedNotRun = regexp.MustCompile(`^not run: \w`)
	markedTable  = "The table below is made by " // says who writes a page, not who runs it
)

// parseGuide reads a page.
func parseGuide(page string) ([]step, error) {
	var steps []step
	lines := strings.Split(page, "\n")
	next := step{machine: "admin"}
	marked := false
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "<!--"):
			if marked {
				return nil, fmt.Errorf("line %d: the comment before this one belongs to no block", i+1)
			}
			text := strings.TrimPrefix(line, "<!--")
			from := i
			for !strings.HasSuffix(text, "-->") {
				if i++; i == len(lines) {
					return nil, fmt.Errorf("line %d: the comment does not end", from+1)
				}
				text += "\n" + lines[i]
			}
			head, body, _ := strings.Cut(strings.TrimSpace(strings.TrimSuffix(text, "-->")), "\n")
			s := step{line: from + 1, machine: "admin", text: body + "\n"}
			if m := markedOn.FindStringSubmatch(head); m != nil {
				s.machine, s.fails, s.soon, s.until = m[2], m[3] == "fails", m[3] == "soon", m[4]
				if s.until != "" {
					s.kind = stepServe
				}
				if m[1] != "" {
					steps = append(steps, s)
					continue
				}
				next, marked = s, true
			} else if strings.HasPrefix(head, markedTable) {
				continue
			} else if head == markedSetup {
				steps = append(steps, s)
			} else if m := markedStop.FindStringSubmatch(head); m != nil {
				s.machine, s.kind = m[2], map[string]stepKind{"stop": stepStop, "ended": stepEnded}[m[1]]
				steps = append(steps, s)
			} else if markedNotRun.MatchString(head) {
				s.kind = stepSyntax
				next, marked = s, true
			} else {
				return nil, fmt.Errorf("line %d: no such mark: %q", from+1, head)
			}
		case strings.HasPrefix(line, "```"):
			language, from := strings.TrimPrefix(line, "```"), i
			var block []string
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				block = append(block, lines[i])
			}
			switch {
			case i == len(lines):
				return nil, fmt.Errorf("line %d: the block does not end", from+1)
			case language == "sh":
				next.line, next.text = from+1, strings.Join(block, "\n")+"\n"
				steps = append(steps, next)
			case language == "text" && !marked && len(steps) > 0 && steps[len(steps)-1].kind == stepRun && steps[len(steps)-1].output == nil:
				steps[len(steps)-1].output = block
			default:
				return nil, fmt.Errorf("line %d: a block is either sh, or the text that the sh before it prints", from+1)
			}
			next, marked = step{machine: "admin"}, false
		}
	}
	return steps, nil
}

// What differs from run to run looks the same after this.
var volatile = []struct {
	pattern *regexp.Regexp
	as      string
}{
	{regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)`), "WHEN"},
	{regexp.MustCompile(`\b[0-9a-f]{14,16}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9]+(\.[0-9]+)?(ns|µs|ms|s|m[0-9.]+s)\b`), "TIME"},
	{regexp.MustCompile(`\b[0-9]+(\.[0-9]+)? ?([kMG]i?B|[kMG]|B)\b`), "SIZE"},
	{regexp.MustCompile(`\b[0-9]+%`), "PERCENT"},
	{regexp.MustCompile(`[─-]{2,}`), "─"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

func settled(line string) string {
	for _, v := range volatile {
		line = v.pattern.ReplaceAllString(line, v.as)
	}
	return strings.TrimSpace(line)
}

// shows reports whether a shown output is what came. A line "..." stands for any number of lines, and "..." in a line for
// any letters.
func shows(shown, came []string) bool {
	if len(shown) == 0 {
		return len(came) == 0
	}
	if shown[0] == "..." {
		for i := range len(came) + 1 {
			if shows(shown[1:], came[i:]) {
				return true
			}
		}
		return false
	}
	if len(came) == 0 {
		return false
	}
	parts := strings.Split(settled(shown[0]), "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	pattern := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
	return pattern.MatchString(settled(came[0])) && shows(shown[1:], came[1:])
}

// outputLines are the lines that came, without empty ones at the end.
func outputLines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func TestGuidePagesAreUnderstood(t *testing.T) {
	page := "# T\n<!-- setup on m1\nprepare\n-->\n```sh\na\n```\nprints\n```text\nx ... 5ms\n...\n```\n" +
		"<!-- on m2, until \"ready\" -->\n```sh\nserve\n```\n<!-- stop m2 -->\n<!-- not run: systemd -->\n```sh\ns\n```\n<!-- on m1, fails -->\n```sh\nf\n```\n" +
		"<!-- on m1, soon -->\n```sh\nl\n```\n"
	steps, err := parseGuide(page)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, fmt.Sprintf("%d %s %q %v %v %q %d", s.kind, s.machine, s.until, s.fails, s.soon, s.text, len(s.output)))
	}
	want := []string{
		`0 m1 "" false false "prepare\n" 0`, `0 admin "" false false "a\n" 2`, `1 m2 "ready" false false "serve\n" 0`, `2 m2 "" false false "\n" 0`,
		`4 admin "" false false "s\n" 0`, `0 m1 "" true false "f\n" 0`, `0 m1 "" false true "l\n" 0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, bad := range []string{"```sh\na", "```\na\n```", "```text\na\n```", "<!-- mark -->", "<!-- on m1 -->\n<!-- on m1 -->", "<!-- on m1\n"} {
		if _, err := parseGuide(bad); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
}

func TestShownOutputIsCompared(t *testing.T) {
	for _, c := range []struct {
		shown, came string
		same        bool
	}{
		{"OK", "OK\n", true},
		{"OK", "NO\n", false},
		{"OK", "OK\nmore\n", false},
		{"OK\n...", "OK\nmore\n", true},
		{"...\nend", "a\nb\nend\n", true},
		{"took = 2.1ms", "took = 13.7µs\n", true},
		{"8e9e05c52164694d, started", "91bc3c398fb3c146, started\n", true},
		{"8e9e05c52164694d, started", "91bc3c398fb3c146, unstarted\n", false},
		{"a ... z", "a and so on z\n", true},
		{"20 kB, 3", "1.4 MB, 3\n", true},
		{"revision 7", "revision 8\n", false},
	} {
		if got := shows(strings.Split(c.shown, "\n"), outputLines(c.came)); got != c.same {
			t.Errorf("shown %q, came %q: same is %v", c.shown, c.came, got)
		}
	}
}

func readGuide(t *testing.T, file string) []step {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parseGuide(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return steps
}
