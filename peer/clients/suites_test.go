package clients

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTimeout is what a loaded machine is given.
const startTimeout = time.Minute

func TestSuites(t *testing.T) {
	at := startMember(t)
	for _, suite := range []struct {
		name, path string
		without    string
		excused    string // what a test may fail with
		tests      int    // so many, at least
		tries      int
	}{
		// TestSync has the library parse a URL that begins with a host and a port, at which it panics: Go has learnt to refuse them.
		// TestSetCurlChan wants a map to be listed in one order.
		// Those of watches count goroutines in the end, and take no heed of one of theirs, which may still wait for the answer to the
		// write whose event has come.
		{name: "go-etcd", path: "github.com/coreos/go-etcd/etcd", without: "^(TestSync|TestSetCurlChan)$", tests: 21, tries: 1,
			excused: "Routine numbers differ after watch stop"},
		// They call themselves flaky. They give one second to everything, and stop watching as soon as a deletion has been answered:
		// whether its event, which they wait for, has come by then is a race.
		{name: "Go kit, v2", path: "github.com/go-kit/kit/sd/etcd", tests: 11, tries: 5},
		{name: "Go kit, v3", path: "github.com/go-kit/kit/sd/etcdv3", tests: 9, tries: 5},
	} {
		t.Run(suite.name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "suite")
			if out, err := exec.Command("go", "test", "-tags=flaky_integration", "-c", "-o", program, suite.path).CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			var failure error
			for range suite.tries {
				if failure = at.run(t, suite.tests, suite.excused, program, "-test.v", "-test.timeout=2m", "-test.skip="+suite.without); failure == nil {
					return
				}
				t.Log(failure)
			}
			t.Error("no try passed")
		})
	}
}

// member is a network of its own with a member of ours, which listens where these libraries look for one.
type member struct {
	pid  int
	user bool // the network belongs to a user namespace
}

// startMember builds the program in this repository and runs it until the test ends.
func startMember(t *testing.T) member {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "keelson")
	build := exec.Command("go", "build", "-o", program, "./cmd/keelson")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	at := member{user: os.Getuid() != 0}
	line := []string{"--net"}
	if at.user {
		line = append(line, "--user", "--map-root-user")
	}
	line = append(line, "sh", "-c", `ip link set lo up && exec "$0" "$@"`, program, "serve", "--data-dir="+filepath.Join(dir, "data"),
		"--listen-client-urls=http://127.0.0.1:4001,http://127.0.0.1:4002", "--advertise-client-urls=http://localhost:4001")
	cmd := exec.Command("unshare", line...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	ready := make(chan string, 1)
	go func() {
		var said strings.Builder
		for s := bufio.NewScanner(log); s.Scan(); said.WriteString(s.Text() + "\n") {
			if strings.Contains(s.Text(), "ready to serve client requests") {
				ready <- ""
				io.Copy(io.Discard, log)
				return
			}
		}
		ready <- "it has ended:\n" + said.String()
	}()
	select {
	case problem := <-ready:
		if problem != "" {
			t.Fatal(problem)
		}
	case <-time.After(startTimeout):
		t.Fatalf("the member does not serve after %v", startTimeout)
	}
	at.pid = cmd.Process.Pid
	return at
}

// run runs a suite where the member is: an error unless there are as many tests as there should be, and all pass or are excused.
func (m member) run(t *testing.T, tests int, excused string, command ...string) error {
	line := []string{"-t", fmt.Sprint(m.pid), "--net"}
	if m.user {
		line = append(line, "--user", "--preserve-credentials")
	}
	cmd := exec.CommandContext(t.Context(), "nsenter", append(line, command...)...)
	cmd.Dir = t.TempDir() // some write files
	cmd.Env = append(os.Environ(), "ETCD_ADDR=http://127.0.0.1:4001")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	text := "\n" + string(out)
	passed, failed := strings.Count(text, "\n--- PASS"), strings.Count(text, "\n--- FAIL")
	if failed > 0 && excused != "" && failed == strings.Count(text, excused) {
		err = nil
	}
	if err == nil && passed+failed < tests {
		err = fmt.Errorf("%d tests were run, there should be %d", passed+failed, tests)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
