package main

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// slowSyncs makes every sync that a running member asks for take so much longer, as a bad disk does, for that process alone:
// strace holds it at the door. It does so until it is called off.
func slowSyncs(t *testing.T, p *testkit.Process, by time.Duration) (callOff func()) {
	t.Helper()
	const syncs = "fsync,fdatasync,sync_file_range"
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-p", fmt.Sprint(p.PID()),
		"-e", "trace="+syncs, "-e", fmt.Sprintf("inject=%s:delay_enter=%d", syncs, by.Microseconds()))
	says, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(says)
	for attached := false; !attached; attached = strings.Contains(lines.Text(), " attached") {
		if !lines.Scan() {
			t.Fatalf("strace does not hold %s: %v", p.Name, cmd.Wait())
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
		}
		cmd.Wait()
	}()
	callOff = func() {
		cmd.Process.Signal(syscall.SIGTERM) // strace lets go of the process
		<-done
	}
	t.Cleanup(callOff)
	return callOff
}

// The disk of a follower is slow: whoever writes through the others does not notice, and who writes and reads through it waits,
// and is told the truth.
func TestSlowDiskOfAFollower(t *testing.T) {
	c := testkit.NewCluster(t, 3) // at the timeouts that people run with
	c.Start()
	leader := c.Leader()
	slow := c.Others(leader)[0]
	rest := c.Others(slow)
	callOff := slowSyncs(t, slow, 300*time.Millisecond)
	through, around := writeThrough(t, slow), writeThrough(t, rest...)
	seen := int64(0)
	for range 10 {
		r, err := rest[0].Client().Put(within(t), "k", "v")
		if err != nil {
			t.Fatal(err)
		}
		got, err := slow.Client().Get(within(t), "k")
		if err != nil || len(got.Kvs) != 1 || got.Kvs[0].ModRevision < r.Header.Revision || got.Header.Revision < seen {
			t.Fatalf("after revision %d a read through the slow member sees %v, %v", r.Header.Revision, got, err)
		}
		seen = got.Header.Revision
	}
	t.Logf("the longest write took %v through it, %v through the others", through.end(slow.Client()), around.end(rest[0].Client()))
	callOff()
	c.Agree()
}

// The disk of the leader is slow. As long as its syncs take less than what it gives its disk, it may go on leading.
// A sync that takes longer costs it the leadership, within three seconds; the others go on, and what was acknowledged is there.
func TestSlowDiskOfTheLeader(t *testing.T) {
	for _, delay := range []time.Duration{300 * time.Millisecond, 3 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			c := testkit.NewCluster(t, 3)
			c.Start()
			leader := c.Leader()
			rest := c.Others(leader)
			w := writeThrough(t, rest...)
			callOff := slowSyncs(t, leader, delay)
			begun := time.Now()
			if delay > time.Second {
				next := c.Leader(rest...)
				took := time.Since(begun)
				t.Logf("another one led after %v", took)
				if next == leader || next == nil || took > 3*time.Second {
					t.Errorf("%s led instead of %s after %v", next.Name, leader.Name, took)
				}
			}
			time.Sleep(max(0, 2*delay-time.Since(begun))) // the load goes on for a while
			t.Logf("the longest write took %v", w.end(rest[0].Client()))
			callOff()
			c.Agree()
		})
	}
}
