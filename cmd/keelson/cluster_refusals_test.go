package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// etcdctlAt runs etcdctl against several endpoints; its error says what it printed.
func etcdctlAt(endpoints []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "etcdctl", append([]string{"--endpoints=" + strings.Join(endpoints, ",")}, args...)...)
	cmd.Env = patientEtcdctl()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("etcdctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// refused fails the test unless an error says what it should.
func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

// Changes that leave more members that never started than a quorum can bear are refused, whoever else is healthy.
func TestClusterStrictCheckOfUnstartedMembers(t *testing.T) {
	const notStarted = "etcdserver: re-configuration failed due to not enough started members"
	p := testkit.NewProcess(t, append([]string{"--max-learners=2"}, testkit.FastArgs...)...)
	p.Start()
	ctx := within(t)
	client := p.Client()
	_, err := client.MemberRemove(ctx, memberID(t, p))
	refused(t, "remove the only member", err, notStarted)
	add := func() (*clientv3.MemberAddResponse, error) {
		return client.MemberAddAsLearner(ctx, []string{"http://" + testkit.FreeAddress(t)})
	}
	learner, err := add()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := add(); err != nil {
		t.Fatal(err)
	}
	_, err = add()
	refused(t, "a third learner", err, "etcdserver: too many learner members in cluster")
	_, err = client.MoveLeader(ctx, learner.Member.ID)
	refused(t, "lead, learner", err, "etcdserver: bad leader transferee")
	if _, err := client.MemberRemove(ctx, learner.Member.ID); err != nil {
		t.Fatal(err)
	}
	voter, err := client.MemberAdd(ctx, []string{"http://" + testkit.FreeAddress(t)})
	if err != nil || len(voter.Members) != 3 {
		t.Fatalf("add a second voter: %v, %v", voter, err)
	}
	_, err = client.MemberAdd(ctx, []string{"http://" + testkit.FreeAddress(t)})
	refused(t, "a voter, beside one that never started", err, notStarted)
}

// Who joins with a wrong idea of the cluster is told so, and ends.
func TestClusterWrongBeginnings(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	mine := "m1=http://" + p.Peer
	for _, c := range []struct {
		name    string
		initial func(own string) string
		joins   bool
		want    string
	}{
		{"not added", func(own string) string { return mine + "," + own }, true, "member count is unequal"},
		{"without the others", func(own string) string { return own }, true, "could not retrieve cluster information from the given URLs"},
		{"as founder, unknown to itself", func(string) string { return mine }, false, "couldn't find local name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stranger := testkit.NewProcess(t)
			stranger.Name, stranger.Joins = "m2", c.joins
			stranger.Initial = c.initial("m2=http://" + stranger.Peer)
			err := stranger.TryStart()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "exit status 1") {
				t.Errorf("got %v, want exit status 1 and %q", err, c.want)
			}
		})
	}
	added, err := p.Client().MemberAdd(within(t), []string{"http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	stranger := testkit.NewProcess(t)
	stranger.Name, stranger.Joins, stranger.Initial = "m2", true, mine+",m2=http://"+stranger.Peer
	err = stranger.TryStart()
	if want := fmt.Sprintf("PeerURLs: no match found for existing member (%x, [http://127.0.0.1:1])", added.Member.ID); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("at another address than was added: got %v, want %q", err, want)
	}
}

// etcdctl moves the leader with all members among its endpoints, as its help says.
func TestClusterMoveLeaderByEtcdctl(t *testing.T) {
	testkit.Need(t, "etcdctl")
	c := steady(t)
	leader := c.Leader()
	to := c.Others(leader)[1]
	out, err := etcdctlAt(c.Endpoints(), "move-leader", fmt.Sprintf("%x", memberID(t, to)))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Leadership transferred from %x to %x\n", memberID(t, leader), memberID(t, to)); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if got := c.Leader(); got != to {
		t.Errorf("%s leads, want %s", got.Name, to.Name)
	}
}
