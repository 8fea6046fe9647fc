package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// TestEtcdctlMaintenance does to a cluster what operators do, with an etcdctl that knows nothing of us.
func TestEtcdctlMaintenance(t *testing.T) {
	testkit.Need(t, "etcdctl")
	c := steady(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := c.Client()
	if _, err := client.Put(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	leader, other := leaderAmong(ctx, t, c)
	out, err := tryEtcdctl(t, other, "", "move-leader", fmt.Sprintf("%x", idOf(ctx, t, other)))
	if err == nil || !strings.Contains(out, "no leader endpoint given at") {
		t.Errorf("move-leader without the leader: %v %q", err, out)
	}
	out, err = tryEtcdctl(t, leader, "", "move-leader", "77")
	if err == nil || !strings.Contains(out, "etcdserver: bad leader transferee") {
		t.Errorf("move-leader to nobody: %v %q", err, out)
	}
	out = etcdctl(t, leader, "", "move-leader", fmt.Sprintf("%x", idOf(ctx, t, other)))
	if !regexp.MustCompile(`^Leadership transferred from [0-9a-f]+ to [0-9a-f]+\n$`).MatchString(out) {
		t.Errorf("move-leader: %q", out)
	}
	out = etcdctl(t, leader, "", "endpoint", "hashkv", "--cluster")
	hashes := regexp.MustCompile(`(?m), (\d+)$`).FindAllStringSubmatch(out, -1)
	if len(hashes) != 3 || hashes[0][1] != hashes[1][1] || hashes[0][1] != hashes[2][1] {
		t.Errorf("hashes: %q", out)
	}
	for _, r := range []*pb.AlarmRequest{{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE}} {
		if _, err := pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if out := etcdctl(t, leader, "", "alarm", "list"); out != "memberID:5 alarm:NOSPACE \n" {
		t.Errorf("alarm list: %q", out)
	}
	if _, err := client.Put(ctx, "a", "2"); err == nil {
		t.Error("put in spite of an alarm")
	}
	if out := etcdctl(t, leader, "", "alarm", "disarm"); out != "memberID:5 alarm:NOSPACE \n" {
		t.Errorf("disarm: %q", out)
	}
	if _, err := client.Put(ctx, "a", "2"); err != nil {
		t.Error(err)
	}
}

func idOf(ctx context.Context, t *testing.T, p *testkit.Process) uint64 {
	t.Helper()
	s, err := p.Client().Status(ctx, p.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return s.Header.MemberId
}

// leaderAmong finds who leads, and one who does not.
func leaderAmong(ctx context.Context, t *testing.T, c *testkit.Cluster) (leader, other *testkit.Process) {
	t.Helper()
	for leader == nil || other == nil {
		if ctx.Err() != nil {
			t.Fatal("nobody leads")
		}
		leader, other = nil, nil
		for _, p := range c.Members {
			s, err := p.Client().Status(ctx, p.Endpoint)
			if err == nil && s.Leader == s.Header.MemberId {
				leader = p
			} else {
				other = p
			}
		}
	}
	return leader, other
}

// TestDowngradeOfACluster enables a downgrade, watches all members tell of it, also after a restart, and calls it off.
func TestDowngradeOfACluster(t *testing.T) {
	c := steady(t, "--downgrade-check-time=100ms")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := c.Client()
	if r, err := client.Downgrade(ctx, clientv3.DowngradeEnable, "3.6"); err != nil || r.Version != "3.7" {
		t.Fatalf("enable: %v %v", r, err)
	}
	for _, p := range c.Members {
		await(ctx, t, "the downgrade on "+p.Name, func() bool {
			s, err := client.Status(ctx, p.Endpoint)
			return err == nil && s.DowngradeInfo.GetEnabled() && s.DowngradeInfo.TargetVersion == "3.6.0" && s.StorageVersion == "3.6.0"
		})
		if body, _ := curl(t, p, "/version"); body != `{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.6.0"}` {
			t.Errorf("/version: %s", body)
		}
	}
	c.Members[1].Stop()
	c.Members[1].Start()
	if s, err := client.Status(ctx, c.Members[1].Endpoint); err != nil || !s.DowngradeInfo.GetEnabled() {
		t.Errorf("after a restart: %v %v", s, err)
	}
	if _, err := client.Downgrade(ctx, clientv3.DowngradeEnable, "3.6"); err == nil || !strings.Contains(err.Error(), "cluster has a downgrade job in progress") {
		t.Errorf("enabled twice: %v", err)
	}
	for range 2 {
		if r, err := client.Downgrade(ctx, clientv3.DowngradeCancel, ""); err != nil || r.Version != "3.7" {
			t.Errorf("cancel: %v %v", r, err)
		}
	}
}
