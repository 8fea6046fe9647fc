package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	insideWord   = "inside" // begins the command line of this program within a room
	startTimeout = time.Minute
)

// addresses is where programs look for an etcd: they say so in their tests.
const addresses = "http://127.0.0.1:2379,http://127.0.0.1:4001,http://127.0.0.1:4002"

// summary counts tests and subtests.
type summary struct{ passed, failed, skipped int }

// execute builds a suite and runs it in a room: a network and process namespace of its own. It shows what the suite said if not all of it
// has passed.
func execute(ctx context.Context, s settings, u suite) (sum summary, err error) {
	dir, err := os.MkdirTemp("", "programs-")
	if err != nil {
		return sum, err
	}
	defer os.RemoveAll(dir)
	program, at, err := build(ctx, dir, u)
	if err != nil {
		return sum, err
	}
	self, err := os.Executable()
	if err != nil {
		return sum, err
	}
	line := []string{"--net", "--pid", "--fork", "--kill-child"}
	if os.Getuid() != 0 {
		line = append(line, "--user", "--map-root-user")
	}
	line = append(line, "sh", "-c", `ip link set lo up && exec "$0" "$@"`,
		self, insideWord, "-etcd="+s.etcd, "-args="+strings.Join(s.args, " "), "-data="+filepath.Join(dir, "data"))
	if u.users {
		line = append(line, "-users")
	}
	if u.starts {
		line = append(line, "-starts")
	}
	line = append(line, "--", program, "-test.v", "-test.run="+u.match, "-test.skip="+u.skip, "-test.timeout="+s.limit.String())
	c := exec.CommandContext(ctx, "unshare", line...)
	c.Dir = at
	c.Env = append(os.Environ(), u.env...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	sum = count(out)
	if err != nil {
		os.Stdout.Write(out)
		if sum.failed == 0 {
			return sum, err
		}
	}
	return sum, nil
}

// count reads what a test program said with -test.v.
func count(said []byte) (sum summary) {
	for line := range bytes.Lines(said) {
		switch line = bytes.TrimSpace(line); {
		case bytes.HasPrefix(line, []byte("--- PASS")):
			sum.passed++
		case bytes.HasPrefix(line, []byte("--- FAIL")):
			sum.failed++
		case bytes.HasPrefix(line, []byte("--- SKIP")):
			sum.skipped++
		}
	}
	return sum
}

// inside starts a member in the room, unless the suite does so itself, and runs the suite.
func inside(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(insideWord, flag.ContinueOnError)
	etcd := flags.String("etcd", "", "")
	words := flags.String("args", "", "")
	data := flags.String("data", "", "")
	users := flags.Bool("users", false, "")
	starts := flags.Bool("starts", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *starts {
		os.Setenv("PATH", filepath.Dir(*etcd)+":"+os.Getenv("PATH"))
	} else if err := member(ctx, *etcd, append(strings.Fields(*words), "--data-dir="+*data), *users); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// member starts one that ends with the room.
func member(ctx context.Context, etcd string, more []string, users bool) error {
	c := exec.CommandContext(ctx, etcd, append([]string{"--listen-client-urls=" + addresses,
		"--advertise-client-urls=http://localhost:2379"}, more...)...)
	log, err := c.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	ready := make(chan error, 1)
	go func() {
		var said strings.Builder
		told := false
		for s := bufio.NewScanner(log); s.Scan(); {
			if !told && strings.Contains(s.Text(), "ready to serve client requests") {
				told = true
				ready <- nil
			}
			if !told {
				said.WriteString(s.Text() + "\n")
			}
		}
		ready <- errors.New("the member has ended:\n" + said.String())
	}()
	select {
	case err = <-ready:
	case <-time.After(startTimeout):
		err = fmt.Errorf("the member does not serve after %v", startTimeout)
	}
	if err != nil || !users {
		return err
	}
	for _, words := range []string{"role add root", "user add root:insecure", "user grant-role root root", "auth enable"} {
		ctl := exec.CommandContext(ctx, filepath.Join(filepath.Dir(etcd), "etcdctl"), strings.Fields(words)...)
		ctl.Env = append(os.Environ(), "ETCDCTL_API=3")
		if out, err := ctl.CombinedOutput(); err != nil {
			return fmt.Errorf("etcdctl %s: %w\n%s", words, err, out)
		}
	}
	return nil
}
