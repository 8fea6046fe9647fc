package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/config"
	"keelson/internal/testkit"
	"keelson/server"
)

// runEtcd runs Debian's etcd on a data directory, with the addresses of a process of ours that is not running.
func runEtcd(t *testing.T, p *testkit.Process) *clientv3.Client {
	t.Helper()
	testkit.Need(t, "etcd")
	log := &strings.Builder{}
	cmd := exec.Command("etcd", "--name="+p.Name, "--data-dir="+p.DataDir,
		"--listen-client-urls=http://"+p.Endpoint, "--advertise-client-urls=http://"+p.Endpoint,
		"--listen-peer-urls=http://"+p.Peer, "--initial-advertise-peer-urls=http://"+p.Peer,
		"--initial-cluster="+p.Name+"=http://"+p.Peer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("etcd: %s", log)
		}
	})
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Endpoint}, DialTimeout: 30 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// writeHistory writes what a snapshot has to keep: revisions, versions, deletions, a compaction, leases.
func writeHistory(ctx context.Context, t *testing.T, c *clientv3.Client) (leases []clientv3.LeaseID) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		_, err := c.Put(ctx, fmt.Sprintf("k%02d", i%37), strings.Repeat(fmt.Sprint(i), 1+i%50))
		must(err)
		if i%11 == 0 {
			_, err := c.Delete(ctx, fmt.Sprintf("k%02d", (i*7)%37))
			must(err)
		}
	}
	_, err := c.Compact(ctx, 120)
	must(err)
	for i := range 3 {
		l, err := c.Grant(ctx, int64(600+i))
		must(err)
		leases = append(leases, l.ID)
		_, err = c.Put(ctx, fmt.Sprint("leased", i), "x", clientv3.WithLease(l.ID))
		must(err)
	}
	_, err = c.Txn(ctx).Then(clientv3.OpPut("t1", "1"), clientv3.OpPut("t2", "2"), clientv3.OpDelete("k0", clientv3.WithPrefix())).Commit()
	must(err)
	return leases
}

// reading is what clients can read of a store.
type reading struct {
	revision int64
	pairs    string
	hashes   string
	leases   string
	history  string
}

func readAll(ctx context.Context, t *testing.T, c *clientv3.Client, leases []clientv3.LeaseID) (r reading) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.Get(ctx, "", clientv3.WithFromKey())
	must(err)
	r.revision = all.Header.Revision
	r.pairs = fmt.Sprint(all.Kvs)
	for rev := int64(121); rev <= r.revision; rev += 7 { // etcd 3.4 gives no hash of the revision that was compacted to
		h, err := c.HashKV(ctx, c.Endpoints()[0], rev)
		must(err)
		r.hashes += fmt.Sprintf("%d:%x/%d ", rev, h.Hash, h.CompactRevision)
		at, err := c.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithRev(rev))
		must(err)
		r.history += fmt.Sprint(at.Kvs)
	}
	for _, id := range leases {
		l, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		must(err)
		if l.TTL < l.GrantedTTL-60 {
			t.Errorf("lease %x has %d s left of %d", id, l.TTL, l.GrantedTTL)
		}
		r.leases += fmt.Sprintf("%x %d %q ", l.ID, l.GrantedTTL, l.Keys)
	}
	return r
}

// restore makes a data directory for a process of ours out of a snapshot.
func restore(t *testing.T, p *testkit.Process, snapshot string, bump int64) {
	t.Helper()
	c, _, err := config.Load("keelson", []string{"--name=" + p.Name, "--data-dir=" + p.DataDir,
		"--initial-cluster=" + p.Name + "=http://" + p.Peer, "--initial-advertise-peer-urls=http://" + p.Peer},
		config.Machine{ReadFile: os.ReadFile, DefaultHost: func() (string, error) { return "", errors.New("none") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Restore(t.Context(), c, server.Restoration{Snapshot: snapshot, BumpRevision: bump}, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotToEtcdAndBack saves a snapshot with etcdctl, restores and runs it with etcd 3.4, saves that one's and runs it
// here again: nothing that clients can read is lost or changed on the way.
func TestSnapshotToEtcdAndBack(t *testing.T) {
	testkit.Need(t, "etcdctl")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := testkit.NewProcess(t)
	p.Start()
	leases := writeHistory(ctx, t, p.Client())
	want := readAll(ctx, t, p.Client(), leases)
	saved := filepath.Join(t.TempDir(), "saved")
	etcdctl(t, p, "", "snapshot", "save", saved)
	if left, err := os.ReadDir(filepath.Join(p.DataDir, "member", "outgoing")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	var status struct{ Revision, TotalSize int64 }
	out, err := exec.Command("etcdctl", "snapshot", "status", saved, "-w", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil || status.Revision != want.revision {
		t.Errorf("status %s: %v", out, err)
	}

	theirs := testkit.NewProcess(t)
	out, err = exec.Command("etcdctl", "snapshot", "restore", saved, "--data-dir="+theirs.DataDir, "--name="+theirs.Name,
		"--initial-cluster="+theirs.Name+"=http://"+theirs.Peer, "--initial-advertise-peer-urls=http://"+theirs.Peer).CombinedOutput()
	if err != nil {
		t.Fatalf("restore: %v: %s", err, out)
	}
	etcd := runEtcd(t, theirs)
	if got := readAll(ctx, t, etcd, leases); got != want {
		t.Errorf("etcd has\n%+v\nwant\n%+v", got, want)
	}
	if _, err := etcd.Put(ctx, "more", "1"); err != nil {
		t.Fatal(err)
	}
	want = readAll(ctx, t, etcd, leases)
	back := filepath.Join(t.TempDir(), "back")
	if out, err := exec.Command("etcdctl", "--endpoints="+theirs.Endpoint, "snapshot", "save", back).CombinedOutput(); err != nil {
		t.Fatalf("save: %v: %s", err, out)
	}

	again := testkit.NewProcess(t)
	restore(t, again, back, 0)
	again.Start()
	if got := readAll(ctx, t, again.Client(), leases); got != want {
		t.Errorf("after the way back\n%+v\nwant\n%+v", got, want)
	}
	if r, err := again.Client().Put(ctx, "more", "2"); err != nil || r.Header.Revision != want.revision+1 {
		t.Errorf("next put: %v %v", r, err)
	}
}

// A snapshot makes a whole new cluster, whose members agree, and whose revisions go on above those that anybody has seen.
func TestRestoreCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := testkit.NewProcess(t)
	p.Start()
	leases := writeHistory(ctx, t, p.Client())
	before, err := p.Client().Get(ctx, "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	etcdctl(t, p, "", "snapshot", "save", saved)
	c := testkit.NewCluster(t, 3, testkit.FastArgs...)
	for _, m := range c.Members {
		args := []string{"--name=" + m.Name, "--data-dir=" + m.DataDir, "--initial-cluster=" + c.Initial(), "--initial-advertise-peer-urls=http://" + m.Peer}
		conf, _, err := config.Load("keelson", args, config.Machine{ReadFile: os.ReadFile, DefaultHost: func() (string, error) { return "", errors.New("none") }})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Restore(ctx, conf, server.Restoration{Snapshot: saved, BumpRevision: 1_000_000}, zap.NewNop()); err != nil {
			t.Fatal(err)
		}
		if err := server.Restore(ctx, conf, server.Restoration{Snapshot: saved}, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("a second restore into the same directory: %v", err)
		}
	}
	c.Start()
	client := c.Client()
	bumped := before.Header.Revision + 1_000_000
	after, err := client.Get(ctx, "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	if after.Header.Revision != bumped || fmt.Sprint(after.Kvs) != fmt.Sprint(before.Kvs) {
		t.Errorf("after: revision %d, %v; before: %d, %v", after.Header.Revision, after.Kvs, before.Header.Revision, before.Kvs)
	}
	w := <-client.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(before.Header.Revision))
	if w.CompactRevision != bumped {
		t.Errorf("a watch from before: %+v", w)
	}
	if r, err := client.Put(ctx, "more", "1"); err != nil || r.Header.Revision != bumped+1 {
		t.Errorf("next put: %v %v", r, err)
	}
	if _, err := client.Revoke(ctx, leases[0]); err != nil {
		t.Error(err)
	}
	var hashes []uint32
	for _, e := range c.Endpoints() {
		for { // until it has applied that much
			h, err := client.HashKV(ctx, e, bumped+2)
			if err == nil {
				hashes = append(hashes, h.Hash)
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	if hashes[0] != hashes[1] || hashes[0] != hashes[2] {
		t.Errorf("hashes %x", hashes)
	}
	if a, err := client.AlarmList(ctx); err != nil || len(a.Alarms) > 0 {
		t.Errorf("alarms %v %v", a, err)
	}
}
