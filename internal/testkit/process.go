package testkit

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// ready is the log line that says that a member serves clients.
const ready = "ready to serve client requests"

// readyTimeout is generous: a loaded machine is no failure.
const readyTimeout = 60 * time.Second

var built struct {
	sync.Once
	path string
	err  error
}

// Binary builds the program once per test process and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		dir, err := os.MkdirTemp("", "keelson-bin-")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "keelson")
		cmd := exec.Command("go", "build", "-o", built.path, "keelson/cmd/keelson")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// RemoveBinary is for TestMain, after the tests have run.
func RemoveBinary() {
	if built.path != "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
}

// Process is one member as a process of its own, with a data directory and ports that stay the same over restarts.
type Process struct {
	t         testing.TB
	Name      string
	DataDir   string
	Endpoint  string // host:port for clients
	Peer      string // host:port for other members
	ExtraArgs []string
	// Initial is the initial cluster, and Joins says that it exists already. Initial empty: this member alone.
	Initial string
	Joins   bool
	// ClientURL is where it listens for clients. Empty: http:// (https:// with TLS) and Endpoint.
	ClientURL string
	// PeerURL is where it listens for other members. Empty: http:// and Peer.
	PeerURL string
	// TLS is how clients connect. Nil: in clear text.
	TLS *tls.Config
	// Program is run in place of ours, with the same flags: another etcd, to compare with.
	Program string
	// Wrap is put before the command line.
	Wrap []string
	// Env are settings as variables, NAME=value. If there are any, ExtraArgs are the only arguments besides.
	Env  []string
	host int // in a Lab

	cmd    *exec.Cmd
	stderr *lines
	exited chan struct{}
}

// NewProcess prepares a member; Start starts it.
func NewProcess(t testing.TB, extraArgs ...string) *Process {
	t.Helper()
	p := &Process{
		t: t, Name: "m1", DataDir: filepath.Join(t.TempDir(), "data"),
		Endpoint: FreeAddress(t), Peer: FreeAddress(t), ExtraArgs: extraArgs,
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.Kill()
		}
		if t.Failed() && p.stderr != nil {
			t.Logf("the end of the log of %s:\n%s", p.Name, tail(p.Log(), 8<<10))
		}
	})
	return p
}

// tail is the end of a text.
func tail(text string, bytes int) string { return text[max(0, len(text)-bytes):] }

// Need skips the test if a program that it runs is not installed.
func Need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// NeedRoot skips the test if it may not change the machine it runs on.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// Args are the arguments the member is started with.
func (p *Process) Args() []string {
	if len(p.Env) > 0 {
		return append([]string{"serve"}, p.ExtraArgs...)
	}
	client, peer := "http://"+p.Endpoint, p.peerURL()
	switch {
	case p.ClientURL != "":
		client = p.ClientURL
	case p.TLS != nil:
		client = "https://" + p.Endpoint
	}
	initial, state := p.Initial, "new"
	if initial == "" {
		initial = p.Name + "=" + peer
	}
	if p.Joins {
		state = "existing"
	}
	return append([]string{"serve",
		"--name=" + p.Name, "--data-dir=" + p.DataDir,
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + initial, "--initial-cluster-state=" + state,
	}, p.ExtraArgs...)
}

func (p *Process) peerURL() string {
	if p.PeerURL != "" {
		return p.PeerURL
	}
	return "http://" + p.Peer
}

// Start starts the member and waits until it serves.
func (p *Process) Start() {
	p.t.Helper()
	if err := p.TryStart(); err != nil {
		p.t.Fatal(err)
	}
}

// TryStart is Start for members that may refuse to.
func (p *Process) TryStart() error {
	if err := p.Begin(); err != nil {
		return err
	}
	return p.AwaitReady()
}

// Begin starts the member and does not wait.
func (p *Process) Begin() error {
	program, args := p.Program, p.Args()
	if program == "" {
		program = Binary(p.t)
	} else {
		args = args[1:] // it does nothing but serve
	}
	line := append(append(append([]string{}, p.Wrap...), program), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(environment(), p.Env...)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := Spawn(cmd); err != nil {
		return err
	}
	p.cmd, p.stderr, p.exited = cmd, newLines(), make(chan struct{})
	go func() {
		defer close(p.exited)
		p.stderr.copy(pipe)
		cmd.Wait()
	}()
	return nil
}

// AwaitReady waits until the member serves.
func (p *Process) AwaitReady() error {
	select {
	case <-p.stderr.seen:
		return nil
	case <-p.exited:
		return fmt.Errorf("member ended (%v) before it served:\n%s", p.cmd.ProcessState, p.stderr)
	case <-time.After(readyTimeout):
		p.Kill()
		return fmt.Errorf("member did not serve within %v:\n%s", readyTimeout, p.stderr)
	}
}

// environment is the test's without the variables that a member would read.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "ETCD_") && !strings.HasPrefix(e, "ETCDCTL_") {
			env = append(env, e)
		}
	}
	return append(env, "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
}

// Kill ends the member as a power cut would, and waits until it is gone.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// Stop ends the member as an operator would, and returns how it ended.
func (p *Process) Stop() *os.ProcessState { return p.signal(syscall.SIGTERM) }

func (p *Process) signal(s os.Signal) *os.ProcessState {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v: %v", s, err)
	}
	select {
	case <-p.exited:
	case <-time.After(readyTimeout):
		p.cmd.Process.Kill()
		<-p.exited
		p.t.Errorf("member did not end within %v of %v:\n%s", readyTimeout, s, p.stderr)
	}
	return p.cmd.ProcessState
}

// Pause stops the member where it stands; Resume lets it go on.
func (p *Process) Pause() { p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume is the opposite of Pause.
func (p *Process) Resume() { p.cmd.Process.Signal(syscall.SIGCONT) }

// AwaitExit waits until the member has ended by itself, and returns how.
func (p *Process) AwaitExit() *os.ProcessState {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(readyTimeout):
		p.t.Fatalf("%s did not end within %v:\n%s", p.Name, readyTimeout, tail(p.Log(), 8<<10))
	}
	return p.cmd.ProcessState
}

// Exited is closed when the member has ended since its last start.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// PID is the process id of the running member.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is what the member has written to stderr since its last start.
func (p *Process) Log() string { return p.stderr.String() }

// Says waits until the log since the last start says text, for a while; what a member has written comes a moment later.
func (p *Process) Says(text string) bool {
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(p.Log(), text) {
			return true
		}
	}
	return false
}

// Client connects the official client to the member.
func (p *Process) Client() *clientv3.Client {
	p.t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{p.Endpoint}, DialTimeout: readyTimeout, Logger: zap.NewNop(), TLS: p.TLS,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// lines keeps what a process writes, and notices the line that says it is ready.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	seen chan struct{}
	once sync.Once
}

func newLines() *lines { return &lines{seen: make(chan struct{})} }

func (l *lines) copy(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		l.mu.Lock()
		l.text.Write(s.Bytes())
		l.text.WriteByte('\n')
		l.mu.Unlock()
		if strings.Contains(s.Text(), ready) {
			l.once.Do(func() { close(l.seen) })
		}
	}
	io.Copy(io.Discard, r)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
