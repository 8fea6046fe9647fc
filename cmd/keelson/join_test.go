package main

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

// joined is a process that keelson join has become a member.
type joined struct {
	cmd *exec.Cmd
	out *printed
}

// startJoin runs keelson join, and kills it at the end of the test if it is still there.
func startJoin(t *testing.T, args ...string) *joined {
	t.Helper()
	j := &joined{exec.Command(testkit.Binary(t), append([]string{"join"}, args...)...), newPrinted()}
	j.cmd.Stdout, j.cmd.Stderr = j.out, j.out
	if err := j.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if j.cmd.ProcessState == nil {
			j.cmd.Process.Kill()
			j.cmd.Wait()
		}
	})
	return j
}

func (j *joined) waitReady(t *testing.T) {
	t.Helper()
	j.out.until(t, "the member to serve", func(text string) bool { return strings.Contains(text, "ready to serve client requests") })
}

// TestJoin: one command makes a member of a machine, it becomes a voter without being told, and the same command starts it
// again.
func TestJoin(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := p.Client()
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	client := testkit.FreeAddress(t)
	line := []string{"--peer", p.Peer, "--name=second", "--data-dir=" + t.TempDir() + "/data",
		"--listen-peer-urls=http://" + testkit.FreeAddress(t), "--listen-client-urls=http://" + client}
	second := startJoin(t, line...)
	second.waitReady(t)
	if !strings.Contains(second.out.String(), "keelson join: added to cluster ") {
		t.Errorf("not a word of being added:\n%s", second.out)
	}
	waitVoters(ctx, t, c, 2)

	if r, err := clientOf(t, client).Get(ctx, "k"); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
		t.Errorf("read from the new member: %v, %v", r, err)
	}
	second.cmd.Process.Signal(syscall.SIGTERM)
	second.cmd.Wait()

	again := startJoin(t, line...)
	again.waitReady(t)
	if !strings.Contains(again.out.String(), "holds a member: starting it") {
		t.Errorf("it was added again:\n%s", again.out)
	}
	if _, err := clientOf(t, client).Put(ctx, "k2", "v"); err != nil {
		t.Error(err)
	}
	waitVoters(ctx, t, c, 2)
}

func clientOf(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// waitVoters waits until the cluster has n members, all of them voters and started.
func waitVoters(ctx context.Context, t *testing.T, c *clientv3.Client, n int) {
	t.Helper()
	for {
		r, err := c.MemberList(ctx)
		if err == nil && len(r.Members) == n {
			voters := 0
			for _, m := range r.Members {
				if !m.IsLearner && m.Name != "" {
					voters++
				}
			}
			if voters == n {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("waited for %d voters in vain: %v, %v", n, r, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
