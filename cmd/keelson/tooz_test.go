package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// TestTooz runs the tests that OpenStack's tooz publishes for what coordinates by it, groups with their members and watchers,
// elections, locks, partitions, with each of its drivers for etcd: over gRPC (python3-etcd3), by the gateway (python3-etcd3gw),
// and by the v2 API.
func TestTooz(t *testing.T) {
	if out, err := exec.Command("/usr/bin/python3", "-c", "import tooz, testtools, fixtures").CombinedOutput(); err != nil {
		t.Fatalf("python3-tooz, python3-testtools or python3-fixtures is not installed: %v\n%s", err, out)
	}
	p := testkit.NewProcess(t)
	p.Start()
	var all sync.WaitGroup
	defer all.Wait()
	for _, driver := range []struct {
		name, url string
		passed    int      // of 79; what a driver cannot do is left out by the tests themselves
		failing   []string // on etcd, too
	}{
		// One lock object cannot be waited for by two threads.
		{"gRPC", "etcd3://ENDPOINT?timeout=20", 53, []string{"test_get_lock_concurrency_locking_same_lock"}},
		{"gateway", "etcd3+http://ENDPOINT?api_version=v3&timeout=20", 50, nil},
		{"v2", "etcd://ENDPOINT", 27, nil},
	} {
		all.Go(func() {
			t.Run(driver.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, "/usr/bin/python3", append([]string{"testdata/tooz/run.py"}, driver.failing...)...)
				cmd.Env = append(cmd.Environ(), "TOOZ_TEST_URL="+strings.Replace(driver.url, "ENDPOINT", p.Endpoint, 1))
				var log strings.Builder
				cmd.Stderr = &log
				out, err := cmd.Output()
				var result struct {
					Run, Skipped int
					Wrong        []string
				}
				if err == nil {
					err = json.Unmarshal(out, &result)
				}
				if err != nil || len(result.Wrong) > 0 || result.Run-result.Skipped < driver.passed {
					t.Errorf("%v, %s\n%s", err, out, log.String())
				}
			})
		})
	}
}
