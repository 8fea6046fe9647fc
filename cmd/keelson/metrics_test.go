package main

import (
	"context"
	"regexp"
	"testing"

	"keelson/internal/testkit"
)

// TestClusterMetrics looks at what a member of a cluster says of the others.
func TestClusterMetrics(t *testing.T) {
	testkit.Need(t, "curl")
	c := testkit.NewCluster(t, 3, testkit.FastArgs...)
	c.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Client().Put(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Members {
		for _, want := range []struct {
			pattern string
			times   int
		}{
			{`(?m)^etcd_network_known_peers\{Local="[0-9a-f]+",Remote="[0-9a-f]+"\} 1$`, 3},
			{`(?m)^etcd_network_active_peers\{Local="[0-9a-f]+",Remote="[0-9a-f]+"\} 1$`, 2},
			{`(?m)^etcd_network_peer_sent_bytes_total\{To="[0-9a-f]+"\} [1-9]`, 2},
			{`(?m)^etcd_network_peer_received_bytes_total\{From="[0-9a-f]+"\} [1-9]`, 2},
			{`(?m)^etcd_network_peer_sent_failures_total\{To="[0-9a-f]+"\} \d`, 2},
			{`(?m)^etcd_network_peer_received_failures_total\{From="[0-9a-f]+"\} \d`, 2},
			{`(?m)^etcd_network_disconnected_peers_total\{Local="[0-9a-f]+",Remote="[0-9a-f]+"\} \d`, 2},
			{`(?m)^etcd_network_peer_round_trip_time_seconds_count\{To="[0-9a-f]+"\} [1-9]`, 2},
			{`(?m)^etcd_server_quota_backend_bytes 2.147483648e\+09$`, 1},
			{`(?m)^etcd_debugging_auth_revision 1$`, 1},
			{`(?m)^etcd_mvcc_put_total 1$`, 1},
		} {
			pattern := regexp.MustCompile(want.pattern)
			await(ctx, t, p.Name+": "+want.pattern, func() bool {
				body, _ := curl(t, p, "/metrics")
				return len(pattern.FindAllString(body, -1)) == want.times
			})
		}
	}
}
