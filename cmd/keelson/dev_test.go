package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

// patience is what a loaded machine is given.
const patience = 5 * time.Minute

// printed is what a process prints.
type printed struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newPrinted() *printed { return &printed{changed: make(chan struct{}, 1)} }

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.text.Write(b)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// until waits until what was printed satisfies ok.
func (p *printed) until(t *testing.T, what string, ok func(text string) bool) {
	t.Helper()
	deadline := time.After(patience)
	for !ok(p.String()) {
		select {
		case <-p.changed:
		case <-deadline:
			t.Fatalf("waited for %s in vain:\n%s", what, p)
		}
	}
}

// devCluster is a running keelson dev.
type devCluster struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *printed
}

// startDev runs keelson dev, and kills it at the end of the test if it is still there.
func startDev(t *testing.T, args ...string) *devCluster {
	t.Helper()
	d := &devCluster{t: t, cmd: exec.Command(testkit.Binary(t), append([]string{"dev"}, args...)...), out: newPrinted()}
	var err error
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	d.cmd.Env = append(os.Environ(), "ETCD_NAME=misleading")
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			d.cmd.Process.Kill()
			d.cmd.Wait()
		}
	})
	return d
}

func (d *devCluster) typeLine(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

var stateLine = regexp.MustCompile(`(?m)^(m\d): ([a-z ]+?)[,(]`)

// states are the members' newest ones, as they stand in the text.
func states(text string) map[string]string {
	now := map[string]string{}
	for _, match := range stateLine.FindAllStringSubmatch(text, -1) {
		now[match[1]] = strings.TrimSpace(match[2])
	}
	return now
}

// leaderOf waits for a leader and returns its name, once n members are at work.
func (d *devCluster) leaderOf(n int) (leader string) {
	d.t.Helper()
	d.out.until(d.t, fmt.Sprintf("a leader and %d members at work", n), func(text string) bool {
		leader = ""
		leaders, working := 0, 0
		for name, state := range states(text) {
			switch state {
			case "leader":
				leader = name
				leaders++
				working++
			case "follower":
				working++
			}
		}
		return leaders == 1 && working == n
	})
	return leader
}

func (d *devCluster) waitState(name, state string) {
	d.t.Helper()
	d.out.until(d.t, name+" to be "+state, func(text string) bool { return states(text)[name] == state })
}

var endpointsLine = regexp.MustCompile(`(?m)^clients: +(.+)$`)

// client connects the official client to all members.
func (d *devCluster) client() *clientv3.Client {
	d.t.Helper()
	var endpoints []string
	d.out.until(d.t, "the endpoints", func(text string) bool {
		match := endpointsLine.FindStringSubmatch(text)
		if match != nil {
			endpoints = strings.Split(match[1], ",")
		}
		return match != nil
	})
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// put writes until a write is acknowledged.
func (d *devCluster) put(c *clientv3.Client, key string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		once, stop := context.WithTimeout(ctx, 2*time.Second)
		_, err := c.Put(once, key, "v")
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			d.t.Fatalf("put %s: %v\n%s", key, err, d.out)
		}
	}
}

// expectGone fails if a member that was ever shown still runs after patience.
func (d *devCluster) expectGone() {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for _, match := range regexp.MustCompile(`pid (\d+)`).FindAllStringSubmatch(d.out.String(), -1) {
		pid, err := strconv.Atoi(match[1])
		if err != nil {
			d.t.Fatal(err)
		}
		for isRunning(pid) {
			if time.Now().After(deadline) {
				d.t.Fatalf("process %d is still there:\n%s", pid, d.out)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// isRunning reports whether a process runs. One that has ended and that nobody has waited for yet does not.
func isRunning(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(text), ") Z ")
}

// freeDevPorts finds a base port above which all ports of three members are free.
func freeDevPorts(t *testing.T) string {
	t.Helper()
	for range 100 {
		base := 1100 + rand.IntN(1600) // what is 30,000 above is still below what systems use for outgoing connections
		free := true
		for _, port := range []int{base, base + 20000, base + 30000} {
			free = free && testkit.Claim(port) && testkit.Claim(port+1)
		}
		if free {
			return strconv.Itoa(base)
		}
	}
	t.Fatal("no free ports")
	return ""
}

// TestDev is a developer's session: a cluster of three loses its leader by command and writes go on, the member comes
// back, the cluster stops, goes on later with what it had, and leaves nothing behind, not even when its parent is killed.
func TestDev(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--data-dir", dir, "--base-port", freeDevPorts(t))
	leader := d.leaderOf(3)
	c := d.client()
	d.put(c, "before")
	d.typeLine("kill " + leader)
	d.waitState(leader, "down")
	d.put(c, "meanwhile")
	if next := d.leaderOf(2); next == leader {
		t.Errorf("%s leads and is down", next)
	}
	d.typeLine("start " + leader)
	d.leaderOf(3)
	d.put(c, "after")
	d.typeLine("quit")
	if err := d.cmd.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, d.out)
	}
	d.expectGone()

	again := startDev(t, "--data-dir", dir)
	again.leaderOf(3)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, key := range []string{"before", "meanwhile", "after"} {
		if r, err := c.Get(ctx, key); err != nil || len(r.Kvs) != 1 {
			t.Errorf("%s: %v, %v", key, r, err)
		}
	}
	again.cmd.Process.Kill()
	again.cmd.Wait()
	again.expectGone()
}

// TestDevInterrupted: Ctrl-C stops all members in order.
func TestDevInterrupted(t *testing.T) {
	d := startDev(t, "--data-dir", t.TempDir(), "--base-port", freeDevPorts(t), "--members=1")
	d.leaderOf(1)
	d.cmd.Process.Signal(os.Interrupt)
	if err := d.cmd.Wait(); err != nil || !strings.Contains(d.out.String(), "m1: down (signal: terminated)") {
		t.Errorf("%v:\n%s", err, d.out)
	}
	d.expectGone()
}
