package surface

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"keelson/peer/process"
)

var keelsonPath = process.BinaryFlag()

// The two that are compared, set by TestMain. Both are called etcd.
var theirs, ours process.Program

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "surface-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if theirs, ours, err = process.Programs(dir, *keelsonPath); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

const (
	readyLine    = "ready to serve client requests"
	readyTimeout = 30 * time.Second
)

// start runs a program in dir until it serves clients. It is killed with the test, if it still runs.
func start(t *testing.T, p process.Program, dir string, args ...string) *process.Run {
	t.Helper()
	run, err := p.Start(dir, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.Kill() })
	ready, err := run.Await(readyLine, readyTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if !ready {
		text, _ := run.Out.Text()
		t.Fatalf("%s ends:\n%s", p.Name, text)
	}
	return run
}

// stop asks a process to end and waits for that.
func stop(t *testing.T, run *process.Run) {
	t.Helper()
	if err := run.Stop(); err != nil {
		t.Error(err)
	}
}

// freeAddresses finds n distinct loopback addresses that nobody listens on.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	list, err := process.FreeAddresses(n)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
