package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keelson/internal/testkit"
)

const (
	guidesDir = "../../docs/guides"
	// guideTimeout is for a whole guide. Blocks take seconds; a loaded machine is no failure.
	guideTimeout = 5 * time.Minute
)

// TestGuides does what each guide says.
func TestGuides(t *testing.T) {
	for _, program := range []string{"bash", "curl", "openssl", "etcd", "etcdctl"} {
		testkit.Need(t, program)
	}
	files, err := filepath.Glob(filepath.Join(guidesDir, "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	for _, file := range append(files, filepath.Join("..", "..", "docs", "monitoring.md")) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".md"), func(t *testing.T) {
			t.Parallel()
			newReader(t).follow(readGuide(t, file))
		})
	}
}

// TestReadmeNamesTheGuides makes sure that they are found.
func TestReadmeNamesTheGuides(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(guidesDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if link := "(docs/guides/" + filepath.Base(file) + ")"; !strings.Contains(string(readme), link) {
			t.Errorf("README.md has no link %s", link)
		}
	}
}

// reader does what a guide says. Its machines are directories with a shell each. The addresses 10.0.0.N that guides use become
// loopback addresses of this reader alone, with the same ports; files below /etc, /var and /backup become files of the machine.
type reader struct {
	t        *testing.T
	ctx      context.Context
	dir      string
	network  string // stands for "10.0.0."
	machines map[string]*machine
}

func newReader(t *testing.T) *reader {
	program := testkit.Binary(t)
	ctx, cancel := context.WithTimeout(context.Background(), guideTimeout)
	t.Cleanup(cancel)
	r := &reader{
		t: t, ctx: ctx, dir: t.TempDir(), machines: map[string]*machine{},
		network: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)),
	}
	bin := filepath.Join(r.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"keelson", "etcd", "etcdctl", "etcdutl"} {
		link(program, name)
	}
	// The programs of another etcd, for setups.
	for _, name := range []string{"etcd", "etcdctl"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		link(path, "other-"+name)
	}
	// Machines are directories: scp FILE... MACHINE:PATH copies between them, as scp does: into PATH if that is a directory.
	scp := "#!/bin/bash\nset -e\nto=${!#}\nto=\"" + r.dir + "/${to%%:*}${to#*:}\"\nmkdir -p \"$(dirname \"${to}x\")\"\ncp -r \"${@:1:$#-1}\" \"$to\"\n"
	if err := os.WriteFile(filepath.Join(bin, "scp"), []byte(scp), 0o700); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reader) follow(steps []step) {
	r.t.Helper()
	for _, s := range steps {
		if s.kind == stepSyntax {
			if out, err := exec.Command("bash", "-n", "-c", s.text).CombinedOutput(); err != nil {
				r.t.Errorf("line %d: %v\n%s", s.line, err, out)
			}
			continue
		}
		m := r.machine(s.machine)
		var err error
		switch s.kind {
		case stepRun:
			err = m.run(s)
			for s.soon && err != nil && r.ctx.Err() == nil {
				time.Sleep(200 * time.Millisecond)
				err = m.run(s)
			}
		case stepServe:
			err = m.serve(s)
		case stepStop:
			err = m.stop(syscall.SIGTERM)
		case stepEnded:
			err = m.stop(0)
		}
		if err != nil {
			r.t.Fatalf("line %d, on %s: %v\n%s%s", s.line, s.machine, err, s.text, r.logs())
		}
	}
}

func (r *reader) logs() string {
	var all strings.Builder
	for name, m := range r.machines {
		if log := m.log.String(); log != "" {
			fmt.Fprintf(&all, "\nthe end of the log of %s:\n%s", name, log[max(0, len(log)-4096):])
		}
	}
	return all.String()
}

// machine is a shell that keeps its variables from block to block, and at most one server.
type machine struct {
	r     *reader
	root  string
	shell *exec.Cmd
	stdin io.WriteCloser
	told  chan struct{} // gets a value when a block has been run
	gone  chan struct{} // closed when the shell has ended
	count int

	server *exec.Cmd
	exited chan struct{}
	log    syncBuffer
}

// syncBuffer is a buffer that one writes while another reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (r *reader) machine(name string) *machine {
	r.t.Helper()
	if m := r.machines[name]; m != nil {
		return m
	}
	m := &machine{r: r, root: filepath.Join(r.dir, name), told: make(chan struct{}), gone: make(chan struct{})}
	for _, dir := range []string{"home", "etc", "var/lib", "backup", "tmp"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	m.shell = m.command("--noprofile", "--norc", "-s")
	m.shell.Dir = filepath.Join(m.root, "home")
	out, err := m.shell.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if m.stdin, err = m.shell.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	if err := testkit.Spawn(m.shell); err != nil {
		r.t.Fatal(err)
	}
	go func() { // until the shell ends, and what it has started
		defer close(m.gone)
		for line := make([]byte, 1); ; {
			if _, err := out.Read(line); err != nil {
				break
			}
			select {
			case m.told <- struct{}{}:
			case <-r.ctx.Done():
			}
		}
		m.shell.Wait()
	}()
	r.machines[name] = m
	r.t.Cleanup(m.close)
	return m
}

// command is bash on this machine, in a process group of its own.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("bash", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = []string{
		"PATH=" + filepath.Join(m.r.dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + filepath.Join(m.root, "home"),
		"TMPDIR=" + filepath.Join(m.root, "tmp"), "LANG=C.UTF-8",
		"ETCDCTL_DIAL_TIMEOUT=60s", "ETCDCTL_COMMAND_TIMEOUT=60s", // a loaded machine is no failure
	}
	return cmd
}

// here is a text of the guide as it has to be on this machine; there is the opposite.
func (m *machine) here(text string) string {
	return strings.NewReplacer("10.0.0.", m.r.network,
		"/etc/keelson", m.root+"/etc/keelson", "/var/lib/", m.root+"/var/lib/", "/backup/", m.root+"/backup/",
		// Behind a colon it is another machine's, and scp knows where that is.
		":/etc/keelson", ":/etc/keelson", ":/var/lib/", ":/var/lib/", ":/backup/", ":/backup/").Replace(text)
}

func (m *machine) there(text string) string {
	return strings.NewReplacer(m.r.network, "10.0.0.", m.root, "").Replace(text)
}

func (m *machine) file(name, text string) (string, error) {
	m.count++
	path := filepath.Join(m.root, "tmp", fmt.Sprintf("%s-%d", name, m.count))
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// run types a block and waits until it has been done.
func (m *machine) run(s step) error {
	block, err := m.file("block", m.here(s.text))
	if err != nil {
		return err
	}
	code := block + ".code"
	line := fmt.Sprintf("set -e -o pipefail; . %[1]s </dev/null >%[1]s.out 2>&1; set +e; echo 0 >%[2]s; echo -n .\n", block, code)
	if s.soon {
		line = fmt.Sprintf("( set -e -o pipefail; . %[1]s ) </dev/null >%[1]s.out 2>&1; echo $? >%[2]s; echo -n .\n", block, code)
	}
	if s.fails {
		line = fmt.Sprintf("( . %[1]s ) </dev/null >%[1]s.out 2>&1; echo $? >%[2]s; echo -n .\n", block, code)
	}
	if _, err := io.WriteString(m.stdin, line); err != nil {
		return fmt.Errorf("the shell has ended: %w", err)
	}
	select {
	case <-m.told:
	case <-m.gone: // a command has failed
	case <-m.r.ctx.Done():
		err = fmt.Errorf("the guide did not come to its end within %v", guideTimeout)
	}
	out, readErr := os.ReadFile(block + ".out")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if readErr != nil {
		return readErr
	}
	came := m.there(string(out))
	ended, err := os.ReadFile(code)
	switch {
	case err != nil:
		return fmt.Errorf("a command failed:\n%s", came)
	case s.fails == (strings.TrimSpace(string(ended)) == "0"):
		return fmt.Errorf("it ended with code %s:\n%s", ended, came)
	case s.output != nil && !shows(s.output, outputLines(came)):
		return fmt.Errorf("it printed\n%s\nand not\n%s", came, strings.Join(s.output, "\n"))
	}
	return nil
}

// serve starts a block in the background, with the variables of the shell, and waits until its log says what it should.
func (m *machine) serve(s step) error {
	if m.server != nil {
		return fmt.Errorf("there is a server already")
	}
	variables := filepath.Join(m.root, "tmp", "variables")
	if err := m.run(step{text: "export -p >" + variables + "\n"}); err != nil {
		return err
	}
	// The server, which is the last command, takes the place of its shell, so that it is who gets signals.
	text := regexp.MustCompile(`(?m)^(keelson (serve|join)|etcd)\s`).ReplaceAllString(s.text, "exec $0")
	block, err := m.file("server", "set -e\n. "+variables+"\n"+m.here(text))
	if err != nil {
		return err
	}
	m.log = syncBuffer{}
	m.server, m.exited = m.command(block), make(chan struct{})
	m.server.Dir = filepath.Join(m.root, "home")
	m.server.Stdout, m.server.Stderr = &m.log, &m.log
	if err := testkit.Spawn(m.server); err != nil {
		return err
	}
	go func(cmd *exec.Cmd, exited chan struct{}) { // until the server ends
		defer close(exited)
		cmd.Wait()
	}(m.server, m.exited)
	for !strings.Contains(m.log.String(), s.until) {
		select {
		case <-m.exited:
			return fmt.Errorf("the server ended (%v) before its log said %q", m.server.ProcessState, s.until)
		case <-m.r.ctx.Done():
			return fmt.Errorf("the log does not say %q", s.until)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// stop waits for the end of the server, after a signal if there is one.
func (m *machine) stop(signal syscall.Signal) error {
	if m.server == nil {
		return fmt.Errorf("no server runs")
	}
	if signal != 0 {
		if err := m.server.Process.Signal(signal); err != nil {
			return err
		}
	}
	select {
	case <-m.exited:
		m.server = nil
		return nil
	case <-m.r.ctx.Done():
		return fmt.Errorf("the server does not end")
	}
}

// close ends everything that the machine runs.
func (m *machine) close() {
	if m.server != nil {
		syscall.Kill(-m.server.Process.Pid, syscall.SIGKILL)
		<-m.exited
	}
	syscall.Kill(-m.shell.Process.Pid, syscall.SIGKILL)
	select {
	case <-m.told: // what it said last
	case <-m.gone:
	}
	<-m.gone
}
