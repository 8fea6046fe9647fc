package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Program is one of the two server programs called etcd that are compared as black boxes: etcd's own and ours.
type Program struct {
	Name string // for reports
	Path string
}

// Programs builds etcd (cmd/etcd of this module) and calls our binary etcd; both are below dir.
//
// Errors: etcd does not compile; there is no binary at keelson.
func Programs(dir, keelson string) (theirs, ours Program, err error) {
	theirs = Program{"etcd", filepath.Join(dir, "theirs", "etcd")}
	ours = Program{"keelson", filepath.Join(dir, "ours", "etcd")}
	build := exec.Command("go", "build", "-o", theirs.Path, "keelson/peer/cmd/etcd")
	if out, err := build.CombinedOutput(); err != nil {
		return theirs, ours, fmt.Errorf("process: build etcd: %w\n%s", err, out)
	}
	if keelson, err = filepath.Abs(keelson); err == nil {
		_, err = os.Stat(keelson)
	}
	if err == nil {
		err = os.Mkdir(filepath.Dir(ours.Path), 0o700)
	}
	if err == nil {
		err = os.Symlink(keelson, ours.Path)
	}
	if err != nil {
		return theirs, ours, fmt.Errorf("process: our binary: %w", err)
	}
	return theirs, ours, nil
}

// Run is a process of a program.
type Run struct {
	Program Program
	Out     *Output       // stdout and stderr, as they came
	Ended   chan struct{} // closed when it has ended
	Code    int           // once ended: the exit code, or 128 + the signal that ended it

	command *exec.Cmd
}

// Start runs a program in dir with these arguments and, of variables that begin with ETCD, only those in env.
//
// Errors: it can't be run.
func (p Program) Start(dir string, env []string, args ...string) (*Run, error) {
	r := &Run{Program: p, Out: NewOutput(), Ended: make(chan struct{}), command: exec.Command(p.Path, args...)}
	r.command.Dir = dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ETCD") {
			r.command.Env = append(r.command.Env, variable)
		}
	}
	r.command.Env = append(r.command.Env, env...)
	r.command.Stdout, r.command.Stderr = r.Out, r.Out
	if err := r.command.Start(); err != nil {
		return nil, fmt.Errorf("process: start %s: %w", p.Name, err)
	}
	go func() {
		defer close(r.Ended)
		var exit *exec.ExitError
		if err := r.command.Wait(); errors.As(err, &exit) {
			r.Code = exit.ExitCode()
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				r.Code = 128 + int(status.Signal())
			}
		}
	}()
	return r, nil
}

// Await waits until the process has written text, or has ended, and reports which.
//
// Errors: neither within timeout; with all that it wrote.
func (r *Run) Await(text string, timeout time.Duration) (found bool, err error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		written, changed := r.Out.Text()
		if strings.Contains(written, text) {
			return true, nil
		}
		select {
		case <-changed:
		case <-r.Ended:
			written, _ = r.Out.Text()
			return strings.Contains(written, text), nil
		case <-deadline.C:
			return false, fmt.Errorf("process: %s has neither written %q nor ended after %v:\n%s", r.Program.Name, text, timeout, written)
		}
	}
}

// Stop asks the process to end and waits for that.
//
// Errors: it had to be killed after 20 s.
func (r *Run) Stop() error {
	if err := r.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(fmt.Errorf("process: stop %s: %w", r.Program.Name, err), r.Kill())
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-r.Ended:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("process: %s ignored SIGTERM for %v", r.Program.Name, stopTimeout), r.Kill())
	}
}

// Kill ends the process at once, if it still runs.
func (r *Run) Kill() error {
	err := r.command.Process.Kill()
	<-r.Ended
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process: kill %s: %w", r.Program.Name, err)
	}
	return nil
}
