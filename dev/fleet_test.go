package dev

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// patience is what a loaded machine is given.
const patience = 60 * time.Second

// transcript collects what is printed, and lets a test wait for a line.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	from    int // what waitFor has looked at
	changed chan struct{}
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{}, 1)} }

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.text.Write(p)
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// waitFor returns the next match of pattern behind the one it returned before, with its groups.
func (w *transcript) waitFor(t *testing.T, pattern string) []string {
	t.Helper()
	return w.waitForAnswer(t, pattern, func() {})
}

// waitForAnswer is waitFor; it asks again each second.
func (w *transcript) waitForAnswer(t *testing.T, pattern string, ask func()) []string {
	t.Helper()
	p := regexp.MustCompile(pattern)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for deadline := time.After(patience); ; {
		w.mu.Lock()
		text := w.text.String()
		if at := p.FindStringSubmatchIndex(text[w.from:]); at != nil {
			match := p.FindStringSubmatch(text[w.from:])
			w.from += at[1]
			w.mu.Unlock()
			return match
		}
		w.mu.Unlock()
		select {
		case <-w.changed:
		case <-again.C:
			ask()
		case <-deadline:
			t.Fatalf("nothing like %q in the rest of\n%s\n(looked at: %d bytes)", pattern, text, w.from)
		}
	}
}

// freeBasePort claims all ports of n members, at most 3, and returns their base port. They lie below those that systems use for
// outgoing connections, and none of them is among those that clusters have by default.
func freeBasePort(t *testing.T, n int) int {
	t.Helper()
search:
	for range 100 {
		base := 1100 + rand.IntN(1200)
		for i := range n {
			if port := clientPort(base, i); !testkit.Claim(port) || !testkit.Claim(port+1) {
				continue search
			}
		}
		return base
	}
	t.Fatal("no free ports")
	return 0
}

// running is a fleet of fakes under test.
type running struct {
	t     *testing.T
	fleet *fleet
	out   *transcript
	in    io.WriteCloser
	code  chan int
}

// runFleet starts a fleet of fake members of a kind.
func runFleet(t *testing.T, kind string, o Options) *running {
	t.Helper()
	t.Setenv(fakeVariable, kind)
	o.BasePort, o.Host = freeBasePort(t, o.Members), hostDefault
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	r := &running{t: t, out: newTranscript(), code: make(chan int, 1)}
	f, err := newFleet(o, newScreen(r.out, nil))
	if err != nil {
		t.Fatal(err)
	}
	r.fleet = f
	if f.program, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	in, typing := io.Pipe()
	r.in = typing
	f.lines = readLines(in)
	go func() { r.code <- f.run() }()
	t.Cleanup(func() { typing.Close() })
	return r
}

func (r *running) typeLine(line string) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, line+"\n"); err != nil {
		r.t.Fatal(err)
	}
}

// leave waits for the end.
func (r *running) leave(want int) {
	r.t.Helper()
	select {
	case code := <-r.code:
		if code != want {
			r.t.Errorf("exit code %d, want %d:\n%s", code, want, r.out)
		}
	case <-time.After(patience):
		r.t.Fatalf("it does not end:\n%s", r.out)
	}
	for _, pid := range pids(r.out.String()) {
		if syscall.Kill(pid, 0) == nil {
			r.t.Errorf("process %d is still there", pid)
		}
	}
}

var pidPattern = regexp.MustCompile(`pid (\d+)`)

func pids(text string) []int {
	var list []int
	for _, match := range pidPattern.FindAllStringSubmatch(text, -1) {
		pid, _ := strconv.Atoi(match[1])
		list = append(list, pid)
	}
	return list
}

func TestFleetShowsWhatMembersSay(t *testing.T) {
	r := runFleet(t, fakeServes, Options{Members: 3})
	base := r.fleet.options.BasePort
	r.out.waitFor(t, fmt.Sprintf(`clients:  127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d\n`, base, base+20000, base+30000))
	r.out.waitFor(t, `etcdctl --endpoints=`)
	for _, name := range []string{"m1", "m2", "m3"} {
		r.out.waitFor(t, name+`: starting, pid \d+, log `)
	}
	for _, want := range []string{"m1: leader", "m2: follower", "m3: learner"} {
		r.out.mu.Lock()
		r.out.from = 0
		r.out.mu.Unlock()
		r.out.waitFor(t, want+`, pid \d+, term 2, revision 7, applied 9, db 3.0 MiB, log .*/m\d.log\n`)
	}
	r.typeLine("quit")
	r.leave(0)
}

func TestCommandsReachTheirMember(t *testing.T) {
	r := runFleet(t, fakeServes, Options{Members: 2})
	r.out.waitFor(t, `m1: leader, pid`)
	r.typeLine("kill m1")
	r.out.waitFor(t, `m1: down \(signal: killed\), log`)
	r.typeLine("kill m1")
	r.out.waitFor(t, `m1 is down\n`)
	r.typeLine("start m1")
	r.out.waitFor(t, `m1: starting, pid \d+`)
	pid := r.out.waitFor(t, `m1: leader, pid (\d+)`)[1]
	r.typeLine("start m1")
	r.out.waitFor(t, `m1 runs already, as process `+pid)
	r.typeLine("pause m1")
	r.out.waitFor(t, `m1: paused, pid `+pid)
	r.typeLine("resume m1")
	r.out.waitFor(t, `m1: leader, pid `+pid)
	r.typeLine("pause m1")
	r.out.waitFor(t, `m1: paused`)
	r.typeLine("stop m1") // a paused one has to go on to stop
	r.out.waitFor(t, `m1: down \(signal: terminated\)`)
	status := func() { r.typeLine("status") }
	status()
	r.out.waitForAnswer(t, `m1: down .*\n.*m2: follower`, status) // it is silent if its last answer took too long
	r.typeLine("help")
	r.out.waitFor(t, `resume NAME`)
	r.typeLine("frob m1")
	r.out.waitFor(t, `unknown command "frob"`)
	if strings.Contains(r.out.String(), "by itself") {
		t.Errorf("what was asked for counts as an accident:\n%s", r.out)
	}
	r.typeLine("quit")
	r.leave(0)
}

// A member that ends without being asked to stays down, with its reason.
func TestAccidentIsShown(t *testing.T) {
	r := runFleet(t, fakeServes, Options{Members: 2})
	pid := r.out.waitFor(t, `m2: follower, pid (\d+)`)[1]
	number, _ := strconv.Atoi(pid)
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.out.waitFor(t, `m2 ended by itself \(signal: killed\); its log is .*m2.log, and start m2 starts it again`)
	r.out.waitFor(t, `m2: down \(signal: killed\)`)
	r.typeLine("start m2")
	r.out.waitFor(t, `m2: follower`)
	r.fleet.signals <- syscall.SIGINT
	r.leave(0)
}

func TestReasonComesFromTheLog(t *testing.T) {
	r := runFleet(t, fakeFails, Options{Members: 1})
	r.out.waitFor(t, `m1: down \(exit status 1: raftlog: no more\)`)
	r.typeLine("quit")
	r.leave(0)
}

func TestRestart(t *testing.T) {
	r := runFleet(t, fakeServes, Options{Members: 1, Restart: true})
	first := r.out.waitFor(t, `m1: leader, pid (\d+)`)[1]
	number, _ := strconv.Atoi(first)
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.out.waitFor(t, `m1 ended by itself \(signal: killed\); it is started again in 1s`)
	if second := r.out.waitFor(t, `m1: leader, pid (\d+)`)[1]; second == first {
		t.Errorf("still process %s", second)
	}
	r.typeLine("quit")
	r.leave(0)
}

// Who does not stop in order is killed when leaving is asked for twice.
func TestImpatientEnd(t *testing.T) {
	r := runFleet(t, fakeStubborn, Options{Members: 2})
	r.out.waitFor(t, `m1: leader`)
	r.fleet.signals <- syscall.SIGINT
	r.out.waitFor(t, `interrupt: stopping 2 members`)
	r.out.waitFor(t, `m1: ending`)
	r.typeLine("start m1")
	r.out.waitFor(t, `start: everything is being stopped`)
	r.fleet.signals <- syscall.SIGINT
	r.leave(1)
}

// The end of the input is no reason to leave where nobody sits at a terminal.
func TestEndOfInput(t *testing.T) {
	r := runFleet(t, fakeServes, Options{Members: 1})
	r.out.waitFor(t, `m1: leader`)
	r.in.Close()
	pid := pids(r.out.String())[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.out.waitFor(t, `m1: down`) // it still looks after its members
	r.fleet.signals <- syscall.SIGTERM
	r.leave(0)
}

func TestEndOfInputAtATerminal(t *testing.T) {
	t.Setenv(fakeVariable, fakeServes)
	out := newTranscript()
	f, err := newFleet(Options{Members: 1, DataDir: t.TempDir(), BasePort: freeBasePort(t, 1), Host: hostDefault}, newScreen(out, nil))
	if err != nil {
		t.Fatal(err)
	}
	f.program, f.quitOnEOF, f.lines = os.Args[0], true, readLines(strings.NewReader("status\n"))
	if code := f.run(); code != 0 || !strings.Contains(out.String(), "end of input: stopping 1 members") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// TestMembersEndWithTheirParent kills the parent: nothing is left behind, not even a member that is stopped.
func TestMembersEndWithTheirParent(t *testing.T) {
	out := newTranscript()
	parent := exec.Command(os.Args[0], t.TempDir(), strconv.Itoa(freeBasePort(t, 2)))
	parent.Env = append(os.Environ(), fakeVariable+"="+fakeParent)
	parent.Stdout, parent.Stderr = out, out
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, `m2: follower`)
	children := pids(out.String())
	if len(children) < 2 {
		t.Fatal(out)
	}
	if err := syscall.Kill(children[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	parent.Process.Kill()
	parent.Wait()
	for _, pid := range children {
		waitGone(t, pid)
	}
}

// waitGone waits until nothing of a process that is not ours to wait for runs any more.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for isAlive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// isAlive reports whether a process runs. One that nobody has waited for yet has ended all the same.
func isAlive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(text), ") Z ")
}

// TestLifeline: where the system does not kill children, the end of their input does.
func TestLifeline(t *testing.T) {
	t.Setenv(fakeVariable, fakeServes)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	dir := t.TempDir()
	places := plan{planVersion, 1, hostDefault, freeBasePort(t, 1), false}.places(dir)
	c, err := startChild(os.Args[0], flagsOf(places[0], places, nil), filepath.Join(dir, "log"), read)
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	if state := c.wait(); state.String() != "signal: terminated" {
		t.Errorf("ended by %v", state)
	}
}

func TestBusyPortIsRefused(t *testing.T) {
	base := freeBasePort(t, 2)
	l, err := net.Listen("tcp", net.JoinHostPort(hostDefault, strconv.Itoa(base+20001)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = newFleet(Options{Members: 2, DataDir: t.TempDir(), BasePort: base, Host: hostDefault}, newScreen(io.Discard, nil))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("member m2 can't listen on 127.0.0.1:%d (", base+20001)) {
		t.Errorf("got %v", err)
	}
}
