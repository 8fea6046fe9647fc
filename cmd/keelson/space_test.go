package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// smallDisk mounts a file system of its own, in memory, of so many bytes.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	testkit.NeedRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v, %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return dir
}

// TestSpaceWithoutACliff fills a disk on which a member lives that was given no quota. Only what makes the store grow is
// refused, everything else goes on, and when there is room again, nobody has to do anything.
func TestSpaceWithoutACliff(t *testing.T) {
	disk := smallDisk(t, 640<<20)
	p := testkit.NewProcess(t)
	p.DataDir = filepath.Join(disk, "data")
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := p.Client()
	lease, err := c.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if _, err := c.Put(ctx, key, "1", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(disk, "ballast")
	fillDisk(t, ballast, disk, 32<<20) // below the reserve of 64 MiB
	await(ctx, t, "the alarm", func() bool {
		a, err := c.AlarmList(ctx)
		return err == nil && len(a.Alarms) == 1
	})
	_, err = c.Put(ctx, "d", "1")
	if err == nil || !strings.Contains(err.Error(), "mvcc: database space exceeded") {
		t.Errorf("put: %v", err)
	}
	_, err = c.Grant(ctx, 60)
	if err == nil || !strings.Contains(err.Error(), "mvcc: database space exceeded") {
		t.Errorf("grant: %v", err)
	}
	deleted, err := c.Delete(ctx, "a")
	if err != nil || deleted.Deleted != 1 {
		t.Errorf("delete: %v %v", deleted, err)
	}
	if _, err := c.Txn(ctx).Then(clientv3.OpDelete("b"), clientv3.OpGet("c")).Commit(); err != nil {
		t.Errorf("txn without puts: %v", err)
	}
	if _, err := c.Compact(ctx, deleted.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Errorf("compaction: %v", err)
	}
	if _, err := c.KeepAliveOnce(ctx, lease.ID); err != nil {
		t.Errorf("renewal: %v", err)
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if _, code := curl(t, p, "/readyz"); code != "200" {
		t.Errorf("/readyz: %s", code)
	}
	if body, code := curl(t, p, "/health"); code != "503" || !strings.Contains(body, "ALARM NOSPACE") {
		t.Errorf("/health: %s %s", code, body)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, "the end of the alarm", func() bool {
		a, err := c.AlarmList(ctx)
		return err == nil && len(a.Alarms) == 0
	})
	if _, err := c.Put(ctx, "d", "1"); err != nil {
		t.Errorf("put when there is room again: %v", err)
	}
}

// fillDisk writes a file until so much of a disk is free.
func fillDisk(t *testing.T, path, disk string, free uint64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte("x"), 1<<20)
	for {
		usage, err := vfs.Default.GetDiskUsage(disk)
		if err != nil {
			t.Fatal(err)
		}
		if usage.AvailBytes <= free {
			return
		}
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
}

// await asks until something is so, or ctx ends.
func await(ctx context.Context, t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for !isSo() {
		if ctx.Err() != nil {
			t.Fatalf("%s did not come", what)
		}
	}
}

// TestQuotaAsEtcds has a quota, and so what etcd does: the alarm stays until somebody ends it.
func TestQuotaAsEtcds(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t, "--quota-backend-bytes=50000000")
	p.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := p.Client()
	value := strings.Repeat("x", 512<<10)
	var err error
	for i := 0; err == nil; i++ {
		if i > 1000 {
			t.Fatal("never refused")
		}
		_, err = c.Put(ctx, fmt.Sprint("k", i), value)
	}
	if !strings.Contains(err.Error(), "mvcc: database space exceeded") {
		t.Fatal(err)
	}
	alarms := etcdctl(t, p, "", "alarm", "list")
	if !strings.HasPrefix(alarms, "memberID:") || !strings.HasSuffix(alarms, "alarm:NOSPACE \n") {
		t.Errorf("alarm list: %q", alarms)
	}
	// The recipe of etcd's documentation.
	if _, err := c.Delete(ctx, "k", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(ctx, p.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	if status.DbSizeQuota != 50_000_000 || len(status.Errors) != 1 || !strings.Contains(status.Errors[0], "alarm:NOSPACE") {
		t.Errorf("status: quota %d, errors %q", status.DbSizeQuota, status.Errors)
	}
	if _, err := c.Put(ctx, "more", "1"); err == nil {
		t.Error("the alarm has ended by itself")
	}
	etcdctl(t, p, "", "compact", fmt.Sprint(status.Header.Revision), "--physical")
	etcdctl(t, p, "", "defrag")
	etcdctl(t, p, "", "alarm", "disarm")
	if out := etcdctl(t, p, "", "alarm", "list"); out != "" {
		t.Errorf("alarms: %q", out)
	}
	await(ctx, t, "room", func() bool {
		_, err := c.Put(ctx, "more", "1")
		return err == nil
	})
}
