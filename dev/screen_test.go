package dev

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOrders(t *testing.T) {
	names := []string{"m1", "m2"}
	for line, want := range map[string]order{
		"":            {},
		"   ":         {},
		"kill m1":     {"kill", "m1"},
		" start  m2 ": {"start", "m2"},
		"quit":        {"quit", ""},
		"exit":        {"quit", ""},
		"?":           {"help", ""},
	} {
		if got, err := parseOrder(line, names); err != nil || got != want {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	for line, want := range map[string]string{
		"kill":       "kill needs one member: m1, m2",
		"kill m3":    "kill needs one member: m1, m2",
		"stop m1 m2": "stop needs one member: m1, m2",
		"quit m1":    "quit takes no member",
		"frob":       `unknown command "frob"; there are: kill, stop, start, pause, resume, status, help, quit`,
	} {
		if got, err := parseOrder(line, names); err == nil || err.Error() != want {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

func TestLastError(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "",
		`{"level":"info","msg":"closed"}` + "\n": "",
		`{"level":"info","msg":"x"}` + "\n" + `{"level":"fatal","msg":"member ended","error":"e"}` + "\n": "e",
		`{"level":"fatal","msg":"no more"}` + "\n\n":                                                      "no more",
		"half a line\nbind: address in use\n":                                                             "bind: address in use",
		"{\"level\":\"info\"}\npanic: broken 1 2\n\ngoroutine 1 [running]:\nmain.main()\n":                "panic: broken 1 2",
		"fatal error: out of memory\n\nruntime stack:\n":                                                  "fatal error: out of memory",
	} {
		if got := lastError([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestEnvironmentWithoutSettings(t *testing.T) {
	got := environment([]string{"PATH=/bin", "ETCD_NAME=x", "ETCD_UNSUPPORTED_ARCH=riscv64", "ETCDCTL_API=3"})
	if want := []string{"PATH=/bin", "ETCD_UNSUPPORTED_ARCH=riscv64", "ETCDCTL_API=3"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 20: "3.0 MiB", 5 << 30: "5.0 GiB", 1 << 50: "1024.0 TiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestRestartsGrowApart(t *testing.T) {
	now := time.Unix(1000, 0)
	m := &member{}
	var got []time.Duration
	for range 7 {
		m.startedAt = now
		m.planRestart(now)
		got = append(got, m.restartAt.Sub(now))
	}
	m.startedAt = now.Add(-steadyAfter)
	m.planRestart(now)
	got = append(got, m.restartAt.Sub(now))
	if want := "[1s 2s 4s 8s 16s 30s 30s 1s]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// A report about an earlier process of a member says nothing about this one.
func TestLateAnswers(t *testing.T) {
	m := &member{}
	m.started(&child{}, time.Now())
	late := report{member: m, run: m.run, status: status{role: "leader"}}
	m.answer(late)
	if m.state() != "leader" {
		t.Errorf("state %s", m.state())
	}
	m.answer(report{member: m, run: m.run, err: os.ErrDeadlineExceeded})
	if m.state() != "silent" {
		t.Errorf("state %s", m.state())
	}
	m.ending = true
	m.ended(&os.ProcessState{})
	m.answer(late)
	if m.state() != "down" {
		t.Errorf("state %s", m.state())
	}
	m.started(&child{}, time.Now())
	if m.answer(late); m.state() != "starting" {
		t.Errorf("state %s", m.state())
	}
}

// terminal understands what screen sends, as far as a terminal does.
type terminal struct {
	lines              [][]rune
	row, col           int
	savedRow, savedCol int
}

func (v *terminal) Write(p []byte) (int, error) {
	text := []rune(string(p))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\r':
			v.col = 0
		case '\n':
			v.row, v.col = v.row+1, 0
		case 0x1b:
			i += v.escape(text[i+1:])
		default:
			v.put(c)
		}
	}
	return len(p), nil
}

// escape carries out a sequence and returns its length.
func (v *terminal) escape(rest []rune) int {
	switch rest[0] {
	case '7':
		v.savedRow, v.savedCol = v.row, v.col
		return 1
	case '8':
		v.row, v.col = v.savedRow, v.savedCol
		return 1
	}
	n, end := 0, 1
	for ; rest[end] >= '0' && rest[end] <= '9'; end++ {
		n = n*10 + int(rest[end]-'0')
	}
	switch rest[end] {
	case 'A':
		v.row = max(0, v.row-n)
	case 'J':
		v.eraseLine()
		v.lines = v.lines[:min(len(v.lines), v.row+1)]
	case 'K':
		v.eraseLine()
	default:
		panic("unknown sequence " + string(rest[:end+1]))
	}
	return end + 1
}

func (v *terminal) eraseLine() {
	if v.row < len(v.lines) {
		v.lines[v.row] = v.lines[v.row][:min(len(v.lines[v.row]), v.col)]
	}
}

func (v *terminal) put(c rune) {
	for len(v.lines) <= v.row {
		v.lines = append(v.lines, nil)
	}
	line := v.lines[v.row]
	for len(line) <= v.col {
		line = append(line, ' ')
	}
	line[v.col] = c
	v.lines[v.row] = line
	v.col++
}

func (v *terminal) String() string {
	var b strings.Builder
	for _, line := range v.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return b.String()
}

func TestScreenOnATerminal(t *testing.T) {
	v := &terminal{}
	s := newScreen(v, func() int { return 86 })
	check := func(step, want string) {
		t.Helper()
		if got := v.String(); got != strings.TrimPrefix(want, "\n") {
			t.Errorf("%s:\n%s", step, got)
		}
	}
	rows := []row{
		{name: "m1", pid: 10, state: "starting", log: "d/m1.log"},
		{name: "m2", pid: 2000, state: "starting", log: "d/m2.log"},
	}
	s.say("welcome")
	s.show(rows)
	check("at first", `
welcome
NAME  PID   STATE     TERM  REVISION  APPLIED  DB  LOG
m1    10    starting  -     -         -        -   d/m1.log
m2    2000  starting  -     -         -        -   d/m2.log
>
`)
	v.Write([]byte("kill m")) // the echo of what is typed
	rows[0].state, rows[0].known, rows[0].status = "leader", true, status{term: 3, revision: 12345, applied: 7, dbBytes: 4096}
	s.show(rows)
	check("redrawn under somebody who types", `
welcome
NAME  PID   STATE     TERM  REVISION  APPLIED  DB       LOG
m1    10    leader    3     12345     7        4.0 KiB  d/m1.log
m2    2000  starting  -     -         -        -        d/m2.log
> kill m
`)
	v.Write([]byte("2\n"))
	s.typed("kill m2")
	rows[1] = row{name: "m2", state: "down", reason: "signal: killed, and a long story", log: "d/m2.log"}
	s.show(rows)
	check("a line was typed", `
welcome
> kill m2
NAME  PID  STATE   TERM  REVISION  APPLIED  DB       LOG
m1    10   leader  3     12345     7        4.0 KiB  d/m1.log
m2    -    down    -     -         -        -        d/m2.log  signal: killed, and a
>
`)
	s.say("two\nlines")
	s.close()
	fmt.Fprint(v, "$")
	check("left", `
welcome
> kill m2
two
lines
NAME  PID  STATE   TERM  REVISION  APPLIED  DB       LOG
m1    10   leader  3     12345     7        4.0 KiB  d/m1.log
m2    -    down    -     -         -        -        d/m2.log  signal: killed, and a
$
`)
}

// Elsewhere only what is worth a line makes one.
func TestScreenWithoutATerminal(t *testing.T) {
	var out strings.Builder
	s := newScreen(&out, nil)
	r := row{name: "m1", pid: 10, state: "starting", log: "l"}
	s.show([]row{r})
	s.show([]row{r})
	r.state, r.known, r.status = "leader", true, status{term: 2, revision: 1, applied: 5}
	s.show([]row{r})
	r.status.revision = 2
	s.show([]row{r})
	s.print([]row{r}, true)
	r.status.term = 3
	s.show([]row{r})
	s.typed("x")
	s.show([]row{{name: "m1", state: "down", log: "l", reason: "exit status 1"}})
	s.close()
	const want = `m1: starting, pid 10, log l
m1: leader, pid 10, term 2, revision 1, applied 5, db 0 B, log l
m1: leader, pid 10, term 2, revision 2, applied 5, db 0 B, log l
m1: leader, pid 10, term 3, revision 2, applied 5, db 0 B, log l
m1: down (exit status 1), log l
`
	if out.String() != want {
		t.Errorf("%s", &out)
	}
}
