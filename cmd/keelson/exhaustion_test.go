package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// noise is a value that can't be compressed.
func noise(rng *rand.Rand, bytes int) string {
	b := make([]byte, bytes)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// A defragmentation that the disk has no room for is refused: it does not end the member (known bug D14). With room it is
// carried out.
func TestFullDiskRefusesDefragmentation(t *testing.T) {
	disk := smallDisk(t, 400<<20)
	p := testkit.NewProcess(t)
	p.DataDir = filepath.Join(disk, "data")
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := p.Client()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 40 {
		if _, err := c.Put(ctx, fmt.Sprint("k", i), noise(rng, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(disk, "ballast")
	fillDisk(t, ballast, disk, 20<<20)
	_, err := c.Defragment(ctx, p.Endpoint)
	if err == nil || !strings.Contains(err.Error(), "make room first") {
		t.Errorf("got %v", err)
	}
	if r, err := c.Get(ctx, "k", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || r.Count != 40 {
		t.Errorf("afterwards: %v, %v", r, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Defragment(ctx, p.Endpoint); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// A member whose log has a disk of its own, which fills up, ends at once and says why; the others go on. When there is room
// again it comes back.
func TestFullLogDiskEndsTheMemberAlone(t *testing.T) {
	disk := smallDisk(t, 200<<20)
	c := testkit.NewCluster(t, 3, testkit.FastArgs...)
	victim := c.Members[2]
	victim.ExtraArgs = append(append([]string{}, victim.ExtraArgs...), "--wal-dir="+filepath.Join(disk, "wal"))
	c.Start()
	ballast := filepath.Join(disk, "ballast")
	fillDisk(t, ballast, disk, 4<<20)
	client := c.Others(victim)[0].Client()
	writeUntilGone(t, client, victim)
	if state := victim.AwaitExit(); state.ExitCode() != 1 || !strings.Contains(lastLine(victim.Log()), "no space left on device") {
		t.Errorf("ended with %v: %s", state, lastLine(victim.Log()))
	}
	insist(t, func(ctx context.Context) error {
		_, err := client.Put(ctx, "without it", "")
		return err
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	c.Agree()
}

// writeUntilGone writes a megabyte at a time, all of which must succeed, until a member has ended by itself.
func writeUntilGone(t *testing.T, client *clientv3.Client, victim *testkit.Process) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		insist(t, func(ctx context.Context) error {
			_, err := client.Put(ctx, fmt.Sprint("k", i%20), noise(rng, 1<<20))
			return err
		})
		select {
		case <-victim.Exited():
			return
		default:
		}
	}
	t.Fatal("it goes on without what it needs")
}

// A member that runs out of memory dies as if it had been killed: the others go on, and it comes back with everything.
func TestMemberWithoutMemoryDiesAlone(t *testing.T) {
	testkit.Need(t, "prlimit")
	c := started(t, 3)
	victim := c.Others(c.Leader())[0]
	// With a limit from the start it has no address space for more heap than it needs (internal/hugepage): what it is refused first is heap.
	victim.Kill()
	victim.Wrap = []string{"prlimit", "--as=2000000000"}
	victim.Start()
	if out, err := exec.Command("prlimit", "--as=1000000", "--pid", fmt.Sprint(victim.PID())).CombinedOutput(); err != nil {
		t.Fatalf("prlimit: %v %s", err, out)
	}
	client := c.Others(victim)[0].Client()
	writeUntilGone(t, client, victim)
	if log := victim.Log(); !strings.Contains(log, "out of memory") && !strings.Contains(log, "cannot allocate memory") {
		t.Errorf("ended with %v: %.2000s", victim.AwaitExit(), log)
	}
	victim.Wrap = nil
	victim.Start()
	c.Agree()
}

// A member that is killed and started again without a pause, at every moment of its start, costs the others nothing: the
// leader stays, in its term, and every call succeeds.
func TestCrashLoopDisturbsNobody(t *testing.T) {
	c := steady(t)
	leader := c.Leader()
	victim := c.Others(leader)[0]
	before := leader.AwaitStatus()
	honest := beginHonest(t, leader)
	rng := rand.New(rand.NewPCG(1, 4))
	for range 15 {
		victim.Kill()
		if err := victim.Begin(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // where in its start it is killed is left to chance
		honest.goesOn(t)
	}
	honest.end()
	if err := victim.AwaitReady(); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	if after := leader.AwaitStatus(); after.Leader != before.Leader || after.RaftTerm != before.RaftTerm {
		t.Errorf("led by %x in term %d, before by %x in term %d", after.Leader, after.RaftTerm, before.Leader, before.RaftTerm)
	}
}
